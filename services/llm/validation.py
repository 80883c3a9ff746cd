"""Whether a language model is sound: how much it can read, and what it answers to a question that is known."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace

from services.llm.engine import Finished, LlmEngine, Message, Prompt, Role, TextDelta
from services.runtime.errors import LoadFailed
from services.runtime.interface import Interface

QUESTION, NAMED = "What is the capital of France?", "paris"
MOST_TOKENS = 8
MOST_CHARS = 40
REPLACEMENT = "\ufffd"
"""What a broken tokenizer leaves of a character."""


def interface(engine: LlmEngine) -> Interface:
    return Interface(context_tokens=engine.limits.context_tokens)


async def measure(engine: LlmEngine) -> Mapping[str, str | float]:
    """Answer a question greedily, in a few tokens.

    text         the first MOST_CHARS characters, spaces made one
    characters   in the whole reply
    tokens       of the reply
    names_paris  1 if the reply knows the answer, else 0

    Words of a reply can differ from processor to processor. Raises LoadFailed for a reply that is empty, does not end, is
    longer than asked for or has replacement characters.
    """
    sampling = replace(engine.defaults, temperature=0.0, top_p=1.0, top_k=0, max_tokens=MOST_TOKENS, seed=None)
    async with aclosing(engine.generate(sampling, question())) as outputs:
        told = [output async for output in outputs]
    text = "".join(output.text for output in told if isinstance(output, TextDelta))
    if not told or not isinstance(told[-1], Finished):
        raise LoadFailed(
            f"golden input: the reply {text!r} has no end, expected one after {MOST_TOKENS} tokens at most"
        )
    check(text, told[-1].reply_tokens)
    return {
        "text": " ".join(text.split())[:MOST_CHARS],
        "characters": len(text),
        "tokens": told[-1].reply_tokens,
        "names_paris": float(NAMED in text.casefold()),
    }


async def question() -> AsyncGenerator[Prompt, None]:
    yield Prompt("golden", 0, (Message(Role.USER, QUESTION),))


def check(text: str, tokens: int) -> None:
    """Raises LoadFailed for a reply that no sound model gives."""
    if not 0 < tokens <= MOST_TOKENS:
        raise LoadFailed(f"golden input: tokens is {tokens}, 1 to {MOST_TOKENS} is sound")
    if not text.strip():
        raise LoadFailed("golden input: characters is 0, at least 1 is sound")
    if broken := text.count(REPLACEMENT):
        raise LoadFailed(f"golden input: text {text!r} has {broken} replacement characters, none is sound")
