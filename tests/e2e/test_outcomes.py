"""What becomes of real conversations is on record, live ones too, and nothing that was said in them."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from talkmesh import Client, Outcome, SessionConfig, TurnDone
from tests.e2e.talking import person

WITHIN_S = 20.0


@pytest.fixture
def database(addresses: dict[str, str]) -> Path:
    return Path(addresses["logs"]) / "outcomes" / "outcomes.db"


async def rows(database: Path, query: str, *values: str, count: int = 1) -> list[tuple[Any, ...]]:
    """What the store says, as soon as it has so many rows."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            with sqlite3.connect(database) as connection:
                if len(found := connection.execute(query, values).fetchall()) >= count:
                    return found
            await asyncio.sleep(0.1)


async def test_a_live_turn_and_what_was_thought_of_it(mesh: str, database: Path) -> None:
    async with person(mesh, SessionConfig(size=256, seed=1), microphone=False) as user:
        await user.call.ask("Hello there, how are you today?")
        (done,) = await user.turns(1)
        session_id = user.call.started.session_id
        async with Client(mesh) as client:
            await client.feedback(session_id, 1.0, turn_id=done.turn_id, comment="well said")
    ((turn, outcome, first_audio_ms, first_video_ms, gap_ms, models, *texts),) = await rows(
        database,
        "SELECT turn, outcome, first_audio_ms, first_video_ms, gap_ms, models, user_text, reply_text FROM turns "
        "WHERE session = ?",
        session_id,
    )
    assert (turn, outcome, texts) == (done.turn_id, Outcome(done.outcome).name.lower(), [None, None])
    assert first_audio_ms == pytest.approx(done.first_audio_ms)
    assert first_video_ms == pytest.approx(done.first_video_ms)
    assert gap_ms == pytest.approx(done.longest_gap_ms)
    assert {each.split("=")[0] for each in models.split()} >= {"llm", "tts", "animation", "render"}
    found = await rows(database, "SELECT turn, score, comment FROM feedback WHERE session = ?", session_id)
    assert found == [(done.turn_id, 1.0, None)]


async def test_a_call_that_is_not_live(mesh: str, database: Path) -> None:
    async with Client(mesh) as client, client.session(SessionConfig(video=False, max_reply_tokens=4)) as session:
        (done,) = [event async for event in session.ask("Hello.") if isinstance(event, TurnDone)]
    found = await rows(database, "SELECT turn, outcome FROM turns WHERE session = ?", session.started.session_id)
    assert found == [(done.turn_id, "completed")]
