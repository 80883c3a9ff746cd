"""Sessions outlive calls, but not for ever, and belong to one call at a time."""

import asyncio

import pytest

from gateway.sessions import Session, Sessions
from services.runtime.errors import Busy, NotFound, Unavailable


async def test_history_is_kept_for_the_next_call() -> None:
    sessions = Sessions(most=2, keep_s=60)
    async with sessions.held("") as first:
        first.remember("question", "answer", 10)
        assert sessions.in_use == 1
    assert sessions.in_use == 0
    async with sessions.held(first.id) as again:
        assert [message.content for message in again.history] == ["question", "answer"]


async def test_unknown_session_is_named() -> None:
    sessions = Sessions(most=2, keep_s=60)
    with pytest.raises(NotFound, match="made-up"):
        async with sessions.held("made-up"):
            pass


async def test_session_is_forgotten_after_its_time() -> None:
    sessions = Sessions(most=2, keep_s=0)
    async with sessions.held("") as session:
        pass
    with pytest.raises(NotFound):
        async with sessions.held(session.id):
            pass


async def test_session_in_use_waits_for_the_call_that_lets_go() -> None:
    sessions = Sessions(most=3, keep_s=60)
    held = asyncio.Event()

    async def hold(session_id: str, for_s: float) -> None:
        async with sessions.held(session_id):
            held.set()
            await asyncio.sleep(for_s)

    async with sessions.held("") as session:
        pass
    first = asyncio.create_task(hold(session.id, 0.1))
    await held.wait()
    async with sessions.held(session.id):
        assert first.done()
    held.clear()
    second = asyncio.create_task(hold(session.id, 30))
    await held.wait()
    with pytest.raises(Unavailable, match="in use"):
        async with sessions.held(session.id):
            pass
    second.cancel()


async def test_one_session_too_many_is_told_to_come_back() -> None:
    sessions = Sessions(most=1, keep_s=60)
    async with sessions.held(""):
        with pytest.raises(Busy) as caught:
            async with sessions.held(""):
                pass
        assert caught.value.retry_after_s > 0
    async with sessions.held(""):
        pass


def test_history_keeps_the_newest_and_no_empty_answers() -> None:
    session = Session("id")
    session.remember("one", "", 3)
    assert [message.content for message in session.history] == ["one"]
    session.remember("two", "answer", 3)
    session.remember("three", "answer", 3)
    assert [message.content for message in session.history] == ["answer", "three", "answer"]


async def test_session_ids_cannot_be_guessed() -> None:
    sessions = Sessions(most=100, keep_s=60)
    found = set()
    for _ in range(50):
        async with sessions.held("") as session:
            found.add(session.id)
    assert len(found) == 50
    assert min(map(len, found)) >= 20
