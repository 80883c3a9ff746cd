"""The golden input of the LLM service, with engines that say what they are told to say."""

from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from services.llm.engine import Finished, FinishReason, Limits, Prompt, Sampling, TextDelta
from services.llm.servicer import SERVICE
from services.runtime.errors import LoadFailed


class Scripted:
    """Says its words, a token each."""

    limits = Limits(context_tokens=2048, max_tokens=64, max_prompt_chars=1000)
    defaults = Sampling(max_tokens=64, temperature=0.8, top_p=0.9, top_k=40, repetition_penalty=1.1, stop=("\n",))

    def __init__(self, *words: str, tokens: int | None = None, ends: bool = True) -> None:
        self.words = words
        self.tokens = len(words) if tokens is None else tokens
        self.ends = ends
        self.sampling: Sampling | None = None

    async def load(self) -> None: ...

    async def unload(self) -> None: ...

    async def generate(
        self, config: Sampling, prompts: AsyncIterator[Prompt]
    ) -> AsyncGenerator[TextDelta | Finished, None]:
        self.sampling = config
        async for prompt in prompts:
            for word in self.words:
                yield TextDelta(prompt, word)
            if self.ends:
                yield Finished(prompt, FinishReason.END, 9, self.tokens, 0)


async def measured(engine: Scripted) -> dict[str, str | float]:
    assert SERVICE.measure
    return {**await SERVICE.measure(engine)}


async def test_a_reply_is_measured_greedily_and_in_few_tokens() -> None:
    engine = Scripted("The capital ", "is\n", " Paris.")
    assert await measured(engine) == {
        "text": "The capital is Paris.",
        "characters": 22,
        "tokens": 3,
        "names_paris": 1.0,
    }
    assert engine.sampling
    assert (engine.sampling.temperature, engine.sampling.max_tokens) == (0.0, 8)
    # What belongs to the model and not to the draw stays as it is.
    assert (engine.sampling.repetition_penalty, engine.sampling.stop) == (1.1, ("\n",))


async def test_a_wrong_answer_is_measured_and_a_long_one_cut() -> None:
    found = await measured(Scripted("It is Lyon, and nothing else but Lyon, the city of lights."))
    assert found["names_paris"] == 0.0
    assert found["text"] == "It is Lyon, and nothing else but Lyon, t"


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        (Scripted(tokens=0), "tokens is 0, 1 to 8 is sound"),
        (Scripted("a", tokens=9), "tokens is 9, 1 to 8 is sound"),
        (Scripted(" ", "\n"), "characters is 0, at least 1 is sound"),
        (Scripted("caf\ufffd", "\ufffd"), "has 2 replacement characters, none is sound"),
        (Scripted("and so on", ends=False), "has no end"),
        (Scripted(ends=False), "has no end"),
    ],
)
async def test_a_reply_of_no_sound_model_is_refused(engine: Scripted, told: str) -> None:
    with pytest.raises(LoadFailed, match=told):
        await measured(engine)


def test_the_interface_tells_the_context() -> None:
    assert SERVICE.interface(Scripted()).context_tokens == 2048
