"""The store on SQLite: written once however often, refused when it is of another time, emptied by age."""

import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from gateway.outcomes.figures import Figures
from gateway.outcomes.place import place
from gateway.outcomes.records import Given, Record
from gateway.outcomes.retention import DAY_MS, delete_some, keep_deleting
from gateway.outcomes.store import Away, Store, Unfit, opened
from gateway.outcomes.tables import AssignmentRow, FeedbackRow, TurnRow
from services.runtime.errors import Refused
from services.runtime.resident import cancelled_at_end
from tests.fakes.outcomes import counts, exposure, feedback, figure, some, turn, until


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(place("", tmp_path)) as made:
        yield made


def raw(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "outcomes.db")


async def test_everything_is_there_once_however_often_it_is_written(store: Store) -> None:
    records: list[Record] = [
        exposure(),
        turn(given=(Given("voice", "heart", "SPLIT"), Given("face", "leo", "SPLIT"))),
        feedback(),
    ]
    for _ in range(3):
        await store.write(records)
    await store.write([*records, turn(of=1, given=()), exposure(variant="joe")])
    assert await counts(store) == {"exposures": 1, "turns": 2, "assignments": 2, "feedback": 1}
    assert await store.given_to("session-0") == [("voice", "heart")], "the first exposure counts"


async def test_a_turn_keeps_all_that_is_known_of_it(store: Store) -> None:
    made = turn(
        outcome="interrupted", first_video_ms=512.5, gap_ms=3.0, models="tts=joe", user_text="a\0b", reply_text=None
    )
    await store.write([made])
    (row,) = await store.read(select(TurnRow.__table__))
    assert dict(row._mapping) == {
        "session": "session-0",
        "turn": "session--0",
        "at_ms": 1_000_000,
        "outcome": "interrupted",
        "interrupted": True,
        "first_audio_ms": 400.0,
        "first_video_ms": 512.5,
        "gap_ms": 3.0,
        "models": "tts=joe",
        "user_text": "ab",
        "reply_text": None,
    }


async def test_all_or_none(store: Store) -> None:
    with pytest.raises(Unfit):
        await store.write([turn(0), turn(1, given=(Given("voice", None, ""),))])  # type: ignore[arg-type]  # what no store takes
    assert (await counts(store))["turns"] == 0


async def test_text_that_no_database_takes_is_unfit(store: Store) -> None:
    with pytest.raises(Unfit) as caught:
        await store.write([feedback(comment="what I said \ud800")])
    assert "what I said" not in str(caught.value)


async def test_a_session_is_known_by_its_exposures_or_its_turns(store: Store) -> None:
    assert await store.given_to("session-0") is None
    await store.write([turn(0, given=()), exposure(1), feedback(2)])
    assert await store.given_to("session-0") == []
    assert await store.given_to("session-1") == [("voice", "heart")]
    assert await store.given_to("session-2") is None


async def test_the_database_is_in_wal_mode_and_readable_beside(store: Store, tmp_path: Path) -> None:
    await store.write(some(1))
    with raw(tmp_path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT name, version FROM schema_version").fetchall() == [("outcomes", 1)]


async def test_tables_of_a_newer_version_are_refused_and_left_alone(store: Store, tmp_path: Path) -> None:
    await store.write(some(1))
    with raw(tmp_path) as connection:
        connection.execute("UPDATE schema_version SET version = 7")
    async with opened(place("", tmp_path)) as other:
        for _ in range(2):
            with pytest.raises(Refused, match="schema version 7, newer than the 1 of this gateway"):
                await other.write(some(1, 1))
        with pytest.raises(Refused):
            await other.given_to("session-0")
    with raw(tmp_path) as connection:
        assert connection.execute("SELECT count(*) FROM turns").fetchone() == (1,)
        connection.execute("UPDATE schema_version SET version = 0")
    async with opened(place("", tmp_path)) as other:
        with pytest.raises(Refused, match="schema version 0, other than"):
            await other.write(some(1, 1))


async def test_a_file_that_is_no_database_is_a_store_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "outcomes.db").write_text("I am a letter to somebody. " * 100)
    async with opened(place("", tmp_path)) as store:
        with pytest.raises(Away, match="not a database"):
            await store.write(some(1))
        (tmp_path / "outcomes.db").unlink()
        await store.write(some(1))


async def test_a_folder_that_comes_later(tmp_path: Path) -> None:
    async with opened(place("", tmp_path / "later")) as store:
        with pytest.raises(Away):
            await store.write(some(1))
        (tmp_path / "later").mkdir()
        await store.write(some(1))
        assert (await counts(store))["turns"] == 1


async def test_what_is_old_goes_and_what_was_given_goes_with_it(store: Store) -> None:
    await store.write([exposure(0), turn(0), feedback(0)])
    await store.write([exposure(1, at_ms=2_000_000), turn(1, at_ms=2_000_000), feedback(1, at_ms=2_000_000)])
    assert await delete_some(store, 1_000_000) == 0, "what is just as old stays"
    assert await delete_some(store, 1_500_000) == 3
    assert await counts(store) == {"exposures": 1, "turns": 1, "assignments": 1, "feedback": 1}
    assert [row.session for row in await store.read(select(AssignmentRow.session))] == ["session-1"]
    assert [row.session for row in await store.read(select(FeedbackRow.session))] == ["session-1"]


async def test_it_goes_a_little_at_a_time(store: Store) -> None:
    await store.write([*some(25), *(exposure(number) for number in range(12))])
    assert await delete_some(store, 2_000_000, most=10) == 20
    assert (await counts(store))["turns"] == 15
    assert [await delete_some(store, 2_000_000, most=10) for _ in range(3)] == [12, 5, 0]


async def test_the_old_are_deleted_in_the_background_and_counted(store: Store) -> None:
    now = int(time.time() * 1000)
    await store.write([*some(700), turn(-1, at_ms=now - DAY_MS), turn(-2, at_ms=now - 3 * DAY_MS)])
    registry = CollectorRegistry()
    async with cancelled_at_end(keep_deleting(store, 2.0, Figures(registry), every_s=0.1)):
        await until(lambda: figure(registry, "deleted_total") == 701)
        await store.write(some(3))
        await until(lambda: figure(registry, "deleted_total") == 704)
    assert [row.session for row in await store.read(select(TurnRow.session))] == ["session--1"]
