"""Which prompts are taken, and what is left of a long one."""

from collections.abc import Sequence

import pytest

from services.llm.engine import Limits, Message, Role
from services.llm.prompts import check, fit, parted, shortened
from services.runtime.errors import InvalidInput

LIMITS = Limits(context_tokens=100, max_tokens=20, max_prompt_chars=60)
SYSTEM, USER, ASSISTANT = Role.SYSTEM, Role.USER, Role.ASSISTANT


def talk(*said: tuple[Role, str]) -> list[Message]:
    return [Message(role, content) for role, content in said]


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "prompt.messages"),
        (talk((USER, " \n")), "prompt.messages[0].content"),
        (talk((USER, "hi"), (ASSISTANT, "")), "prompt.messages[1].content"),
        (talk((USER, "hi"), (ASSISTANT, "hello"), (ASSISTANT, "you")), "prompt.messages[1].role"),
        (talk((ASSISTANT, "hello")), "prompt.messages[0].role"),
        (talk((SYSTEM, "be kind"), (ASSISTANT, "hello")), "prompt.messages[0].role"),
        (talk((SYSTEM, "be kind")), "prompt.messages[0].role"),
        (talk((USER, "hi"), (SYSTEM, "be kind"), (USER, "hi")), "prompt.messages[1].role"),
        (talk((USER, "x" * 40), (ASSISTANT, "y"), (USER, "z" * 20)), "prompt.messages"),
    ],
)
def test_what_is_no_conversation_is_refused_by_name(messages: list[Message], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(messages, LIMITS)
    assert refused.value.field == field


def test_a_greeting_of_the_assistant_may_come_first() -> None:
    check(talk((ASSISTANT, "Hello, I am Ada."), (USER, "hi"), (USER, "are you there?")), LIMITS)


def test_the_beginning_of_the_reply_may_come_last() -> None:
    check(talk((SYSTEM, "be kind"), (USER, "hi"), (ASSISTANT, "Hello, ")), LIMITS)
    assert parted(talk((USER, "hi"), (ASSISTANT, "Hello, "))) == (talk((USER, "hi")), "Hello, ")
    assert parted(talk((USER, "hi"))) == (talk((USER, "hi")), "")


def letters(messages: Sequence[Message]) -> list[int]:
    return [0 for message in messages for _ in message.content]


HISTORY = talk((SYSTEM, "ssss"), (USER, "1111"), (ASSISTANT, "2222"), (USER, "3333"), (ASSISTANT, "4444"), (USER, "55"))


@pytest.mark.parametrize(
    ("room", "left", "dropped"),
    [(22, "s12345", 0), (21, "s345", 2), (14, "s345", 2), (13, "s5", 4), (6, "s5", 4)],
)
def test_the_oldest_go_first_and_no_answer_stays_without_its_question(room: int, left: str, dropped: int) -> None:
    ids, gone = fit(HISTORY, letters, room)
    kept = shortened(HISTORY, gone)
    assert "".join(message.content[0] for message in kept) == left
    assert (len(ids), gone) == (len(letters(kept)), dropped)


def test_without_a_system_message_the_first_may_go() -> None:
    ids, dropped = fit(HISTORY[1:], letters, 2)
    assert (len(ids), dropped) == (2, 4)


def test_a_last_message_too_long_for_the_context_is_refused() -> None:
    with pytest.raises(InvalidInput, match="6 tokens without any history") as refused:
        fit(HISTORY, letters, 5)
    assert refused.value.field == "prompt.messages"


def test_a_single_message_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInput):
        fit(talk((USER, "123456")), letters, 5)
