"""Replies from a model that is a list of tokens."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest

from services.llm.chat import Chat, Template
from services.llm.engine import Finished, FinishReason, Limits, Message, Prompt, Role, Sampling, TextDelta
from services.llm.prompts import Fitted
from services.llm.replies import Replies
from services.runtime.errors import Busy, InvalidInput

END = 0
LIMITS = Limits(context_tokens=40, max_tokens=20, max_prompt_chars=1000)


class Letters:
    special: Sequence[str] = ()

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


class Parrot:
    """Says again what the user said, then ends; knows how many tokens it gave and which replies are closed."""

    def __init__(self, most: int = 4) -> None:
        chat = Chat(Template("{{ messages[-1].content }}|"), Letters(), None, {END})
        self.replies = Replies(chat, self.tokens, LIMITS, most)
        self.given = 0
        self.closed = 0

    async def tokens(self, prompt: Fitted, sampling: Sampling) -> AsyncGenerator[int, None]:
        try:
            for token in [*prompt.ids[:-1], END][: sampling.max_tokens]:
                await asyncio.sleep(0)
                self.given += 1
                yield token
        finally:
            self.closed += 1


async def asked(*texts: str) -> AsyncIterator[Prompt]:
    for index, text in enumerate(texts):
        yield Prompt(f"turn-{index}", index, (Message(Role.USER, text),))


async def said(parrot: Parrot, text: str, sampling: Sampling) -> tuple[str, Finished]:
    outputs = [output async for output in parrot.replies.to(asked(text), sampling)]
    *deltas, finished = outputs
    assert isinstance(finished, Finished)
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)), finished


async def test_the_end_token_ends_a_reply_and_is_no_part_of_it() -> None:
    text, finished = await said(Parrot(), "Hello", Sampling(max_tokens=10))
    assert text == "Hello"
    assert (finished.reason, finished.prompt_tokens, finished.reply_tokens) == (FinishReason.END, 6, 5)


async def test_max_tokens_ends_a_reply() -> None:
    text, finished = await said(Parrot(), "Hello", Sampling(max_tokens=3))
    assert (text, finished.reason, finished.reply_tokens) == ("Hel", FinishReason.MAX_TOKENS, 3)


async def test_a_stop_text_ends_a_reply_and_the_model() -> None:
    parrot = Parrot()
    text, finished = await said(parrot, "one. two. three", Sampling(max_tokens=20, stop=(". t",)))
    assert (text, finished.reason) == ("one", FinishReason.STOP)
    assert parrot.given == len("one. t")
    assert parrot.closed == 1


async def test_the_beginning_of_a_stop_text_at_the_end_is_told() -> None:
    text, finished = await said(Parrot(), "one. t", Sampling(max_tokens=20, stop=(". two",)))
    assert (text, finished.reason) == ("one. t", FinishReason.END)


async def test_prompts_are_answered_one_after_the_other_each_under_its_own_name() -> None:
    outputs = [output async for output in Parrot().replies.to(asked("a", "b"), Sampling(max_tokens=5))]
    assert [(output.prompt.turn_id, getattr(output, "text", ".")) for output in outputs] == [
        ("turn-0", "a"),
        ("turn-0", "."),
        ("turn-1", "b"),
        ("turn-1", "."),
    ]


async def test_closing_stops_the_model_within_a_token() -> None:
    parrot = Parrot()
    outputs = parrot.replies.to(asked("a long reply"), Sampling(max_tokens=20))
    await anext(outputs)
    await outputs.aclose()
    assert (parrot.given, parrot.closed) == (1, 1)


async def test_more_replies_than_may_wait_are_refused_and_the_place_comes_back() -> None:
    parrot = Parrot(most=1)
    first = parrot.replies.to(asked("a long reply"), Sampling(max_tokens=20))
    await anext(first)
    with pytest.raises(Busy):
        await anext(parrot.replies.to(asked("hi"), Sampling(max_tokens=20)))
    await first.aclose()
    assert (await said(parrot, "hi", Sampling(max_tokens=20)))[0] == "hi"


async def test_a_prompt_that_cannot_be_answered_gives_its_place_back() -> None:
    parrot = Parrot(most=1)
    with pytest.raises(InvalidInput):
        await said(parrot, "x" * 40, Sampling(max_tokens=10))
    assert (await said(parrot, "hi", Sampling(max_tokens=10)))[0] == "hi"
