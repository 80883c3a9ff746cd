"""One reply of a transformers model, a token at a time, drawn here so that it can be stopped and repeated."""

from collections.abc import Sequence
from typing import Any

import torch

from services.llm.engine import Sampling


class TorchReply:
    """A prompt, the model's state after it, and the reply so far."""

    def __init__(self, model: Any, prompt: Sequence[int], sampling: Sampling, begun: int = 0) -> None:
        """`begun` is how many of the prompt's last tokens belong to the reply."""
        self._model = model
        self._sampling = sampling
        self._unread = list(prompt)
        self._reply = list(prompt[len(prompt) - begun :])
        self._state: Any = None
        self._random = torch.Generator(device=model.device)
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed)

    def step(self) -> int:
        """The next token. Takes as long as one forward pass."""
        with torch.inference_mode():
            unread = torch.tensor([self._unread], device=self._model.device)
            output = self._model(unread, past_key_values=self._state, use_cache=True, logits_to_keep=1)
            self._state = output.past_key_values
            token = draw(output.logits[0, -1].float(), self._reply, self._sampling, self._random)
        self._reply.append(token)
        self._unread = [token]
        return token


def draw(logits: Any, reply: Sequence[int], sampling: Sampling, random: Any) -> int:
    """A token by its score: `logits` is a float tensor with a score for each token of the vocabulary."""
    scores = penalized(logits, reply, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return int(scores.argmax())
    scores = scores / sampling.temperature
    scores, tokens = scores.sort(descending=True)
    if sampling.top_k:
        scores, tokens = scores[: sampling.top_k], tokens[: sampling.top_k]
    chances = scores.softmax(-1)
    # A token stays if those before it have not reached top_p: the likeliest one always does.
    chances = chances * ((chances.cumsum(-1) - chances) < sampling.top_p)
    return int(tokens[torch.multinomial(chances, 1, generator=random)])


def penalized(logits: Any, reply: Sequence[int], penalty: float) -> Any:
    """Lower the scores of tokens that the reply already has (Keskar et al. 2019, https://arxiv.org/abs/1909.05858)."""
    if penalty == 1 or not reply:
        return logits
    seen = torch.tensor(sorted(set(reply)), device=logits.device)
    scores = logits[seen]
    return logits.index_copy(0, seen, torch.where(scores > 0, scores / penalty, scores * penalty))
