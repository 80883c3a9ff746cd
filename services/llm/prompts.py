"""Which prompts can be answered, and how a long one is made to fit."""

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.llm.engine import Limits, Message, Role
from services.runtime.errors import InvalidInput


@dataclass(frozen=True)
class Fitted:
    """A prompt in tokens."""

    ids: tuple[int, ...]
    prefix: int
    """How many of the first tokens are the same for every conversation with this system message."""
    dropped: int
    begun: int = 0
    """How many of the last tokens are the beginning of the reply."""
    tail: str = ""
    """White space at the end of that beginning. It is not among the tokens: words bring their own with them."""


def check(messages: Sequence[Message], limits: Limits) -> None:
    """Raises InvalidInput, naming the message, unless `messages` are a conversation that waits for an answer."""
    if not messages:
        raise InvalidInput("prompt.messages", "there are none", "a conversation that ends with the user's message")
    for index, message in enumerate(messages):
        field = f"prompt.messages[{index}]"
        if not message.content.strip():
            raise InvalidInput(f"{field}.content", "it is empty", "text")
        if message.role is Role.SYSTEM and index:
            raise InvalidInput(f"{field}.role", "a system message in the middle", "system only in the first message")
    asked, _ = parted(messages)
    if not asked or asked[-1].role is not Role.USER:
        index = max(0, len(asked) - 1)
        expected = "the user's message at the end, or just before the beginning of the reply"
        raise InvalidInput(f"prompt.messages[{index}].role", f"it is the {messages[index].role.value}'s", expected)
    if (chars := sum(len(message.content) for message in messages)) > limits.max_prompt_chars:
        raise InvalidInput("prompt.messages", f"{chars} characters", f"at most {limits.max_prompt_chars} together")


def parted(messages: Sequence[Message]) -> tuple[Sequence[Message], str]:
    """What is to be answered, and the beginning of the reply: empty unless the last message is the assistant's."""
    if messages[-1].role is Role.ASSISTANT:
        return messages[:-1], messages[-1].content
    return messages, ""


def shortened(messages: Sequence[Message], drop: int) -> list[Message]:
    """`messages` without the `drop` oldest that may go: the system message and the last one stay.

    An answer whose question has gone goes too.
    """
    first = 1 if messages[0].role is Role.SYSTEM else 0
    start = first + drop
    while drop and start < len(messages) - 1 and messages[start].role is Role.ASSISTANT:
        start += 1
    return [*messages[:first], *messages[start:]]


def fit(
    messages: Sequence[Message], encode: Callable[[Sequence[Message]], list[int]], room: int
) -> tuple[list[int], int]:
    """The tokens of the longest end of `messages` that is at most `room` tokens, and how many messages were dropped.

    Raises InvalidInput if even the last message, with the system message, is longer.
    """
    most = len(messages) - (2 if messages[0].role is Role.SYSTEM else 1)
    drop = bisect.bisect_left(range(most), True, key=lambda n: len(encode(shortened(messages, n))) <= room)
    kept = shortened(messages, drop)
    ids = encode(kept)
    if len(ids) > room:
        problem = f"{len(ids)} tokens without any history"
        raise InvalidInput("prompt.messages", problem, f"at most {room}, so that the reply fits into the context too")
    return ids, len(messages) - len(kept)
