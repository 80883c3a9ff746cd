"""Any causal language model that the transformers library can load, on CPU or GPU.

The source is a folder with safetensors, or a GGUF file; without a source, the option `hub_id` names a model of the hub.
Pickled weights and code that comes with a model are refused.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from services.llm.chat import Chat, Template
from services.llm.engine import Finished, Limits, Prompt, Sampling, TextDelta
from services.llm.options import ChatOptions, parse
from services.llm.prompts import Fitted
from services.llm.replies import Replies
from services.runtime.errors import InvalidInput, LoadFailed, Unavailable

if TYPE_CHECKING:
    from services.llm.engines.torch_reply import TorchReply

RUNNING = 8
"""Replies that take turns; more only make each of them slower."""


class Options(ChatOptions):
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: int | None = Field(default=None, ge=1, description="of torch; its own choice if not set")
    hub_id: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$", description="OWNER/NAME, without a source")
    revision: str | None = Field(default=None, description="of the hub's repository")


class TransformersEngine:
    """Replies take turns on one thread, a token each, so that all of them go on at the same pace."""

    def __init__(self, source: Path | None, options: Mapping[str, Any]) -> None:
        self._options = parse(Options, options)
        if (source is None) == (self._options.hub_id is None):
            raise InvalidInput("options.hub_id", "a source or a hub id is needed, not both", "one of them")
        self._source = source
        self._defaults = self._options.defaults.sampling()
        self._unloading = False

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def defaults(self) -> Sampling:
        return self._defaults

    async def load(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="torch")
        await asyncio.get_running_loop().run_in_executor(self._pool, self._load)

    def _load(self) -> None:
        name = self._options.hub_id or self._source
        try:
            tokenizer, self._model = self._from_pretrained()
        except ImportError as error:
            raise LoadFailed(f"{name}: torch, transformers, accelerate or gguf is not installed: {error}") from error
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise LoadFailed(f"{name}: {error}") from error
        if not tokenizer.chat_template:
            raise LoadFailed(f"{name}: it has no chat template")
        self._limits = self._options.limits(self._model.config.max_position_embeddings)
        template = Template(tokenizer.chat_template, tokenizer.bos_token or "", tokenizer.eos_token or "")
        ends = end_ids(tokenizer.eos_token_id, self._model.generation_config.eos_token_id)
        chat = Chat(template, PretrainedTokenizer(tokenizer), self._options.system_prompt, ends)
        self._replies = Replies(chat, self._tokens, self._limits, RUNNING + self._options.waiting)

    def _from_pretrained(self) -> tuple[Any, Any]:
        os.environ.setdefault("TQDM_DISABLE", "1")  # transformers draws bars that no option of its own turns off
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if self._options.threads:
            torch.set_num_threads(self._options.threads)
        place: dict[str, Any] = {"trust_remote_code": False}
        if self._source is None:
            name: str = self._options.hub_id or ""
            place["revision"] = self._options.revision
        elif self._source.is_file():
            name = str(self._source.parent)
            place |= {"gguf_file": self._source.name, "local_files_only": True}
        else:
            name = str(self._source)
            place["local_files_only"] = True
        tokenizer = AutoTokenizer.from_pretrained(name, **place)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=self._dtype(torch), use_safetensors=True, **place)
        return tokenizer, model.to(self._device(torch)).eval()

    def _device(self, torch: Any) -> str:
        if self._options.device != "auto":
            return self._options.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    def _dtype(self, torch: Any) -> Any:
        """On a CPU half precision is many times slower than float32, whatever the weights are stored as."""
        if self._options.dtype != "auto":
            return getattr(torch, self._options.dtype)
        return torch.bfloat16 if self._device(torch) == "cuda" else torch.float32

    async def unload(self) -> None:
        self._unloading = True
        await asyncio.to_thread(self._pool.shutdown)
        del self._model

    def generate(self, config: Sampling, prompts: AsyncIterator[Prompt]) -> AsyncGenerator[TextDelta | Finished, None]:
        return self._replies.to(prompts, config)

    async def _tokens(self, prompt: Fitted, sampling: Sampling) -> AsyncGenerator[int, None]:
        loop, reply = asyncio.get_running_loop(), self._reply(prompt, sampling)
        for _ in range(sampling.max_tokens):
            if self._unloading:
                raise Unavailable("the model is being unloaded")
            yield await loop.run_in_executor(self._pool, reply.step)

    def _reply(self, prompt: Fitted, sampling: Sampling) -> "TorchReply":
        from services.llm.engines.torch_reply import TorchReply

        return TorchReply(self._model, prompt.ids, sampling, prompt.begun)


class PretrainedTokenizer:
    """A tokenizer of transformers as the rest of this service sees it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @property
    def special(self) -> Iterable[str]:
        return [token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special]

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)


def end_ids(*named: int | Sequence[int] | None) -> set[int]:
    """The tokens that end a reply, of all that name some."""
    lists = ([one] if isinstance(one, int) else one or () for one in named)
    return {token for tokens in lists for token in tokens}
