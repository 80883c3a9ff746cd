"""Nothing is lost and nothing is twice, wherever outcomes have to wait; and nobody waits for them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from gateway.outcomes import outbox as module
from gateway.outcomes.figures import Figures
from gateway.outcomes.outbox import Outbox, delivering
from gateway.outcomes.place import place
from gateway.outcomes.records import Record
from gateway.outcomes.spool import Spool, spooling
from gateway.outcomes.store import Away, Store, opened
from gateway.outcomes.tables import TurnRow
from tests.fakes.outcomes import counts, feedback, figure, some, turn, until

AGAIN_S = 0.2
PLENTY = 10 * 2**20


class Moody(Store):
    """A real store that is away when it is told to be, and may lose its answers."""

    def __init__(self, store: Store) -> None:
        super().__init__(store._engine)
        self.away = False
        self.answers_lost = 0
        self.order: list[str] = []

    async def write(self, records: Sequence[Record]) -> None:
        if self.away:
            raise Away("gone")
        await super().write(records)
        if self.answers_lost:
            self.answers_lost -= 1
            raise Away("the connection was lost at the commit")
        self.order += [record.session for record in records]


@dataclass
class Desk:
    """An outbox, and all around it."""

    outbox: Outbox
    store: Moody
    spool: Spool
    registry: CollectorRegistry

    def put(self, *records: Record) -> None:
        for record in records:
            self.outbox.put(record)

    def figure(self, name: str, **labels: str) -> float:
        return figure(self.registry, name, **labels)

    async def turns(self) -> int:
        return (await counts(self.store))["turns"]

    async def has(self, turns: int) -> None:
        """Wait until all has been brought away; then so many turns must be there."""
        await until(lambda: not self.outbox.waiting)
        assert await self.turns() == turns


@asynccontextmanager
async def desk(folder: Path, most_bytes: int = PLENTY, away: bool = False) -> AsyncIterator[Desk]:
    registry = CollectorRegistry()
    async with opened(place("", folder)) as store:
        moody = Moody(store)
        moody.away = away
        with spooling(folder / "spool", most_bytes) as spool:
            async with delivering(moody, spool, Figures(registry), AGAIN_S) as outbox:
                yield Desk(outbox, moody, spool, registry)


async def test_outcomes_get_into_the_store(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        made.put(*some(1200), feedback())
        await made.has(1200)
        assert (made.figure("written_total"), made.figure("spooled_total"), made.figure("store_up")) == (1201, 0, 1)
        assert (made.figure("waiting"), made.figure("spool_bytes")) == (0, 0)


async def test_while_the_store_is_away_they_wait_on_disk_and_then_come_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk(tmp_path, away=True) as made:
        for begin in range(0, 60, 20):
            made.put(*some(20, begin))
            await until(lambda end=begin + 20: made.figure("spooled_total") == end)  # type: ignore[misc]  # a default is no parameter
        assert made.figure("store_up") == 0
        assert made.figure("spool_bytes") > 1000
        await asyncio.sleep(3 * AGAIN_S)
        assert caplog.text.count("is away, they wait on disk: gone") == 1, "told once"
        made.store.away = False
        made.put(*some(20, 60))
        await made.has(80)
        assert made.store.order == [each.session for each in some(80)]
        assert (made.figure("written_total"), made.figure("store_up"), made.figure("spool_bytes")) == (80, 1, 0)
        assert "is back" in caplog.text


async def test_an_answer_that_was_lost_costs_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        made.store.answers_lost = 2
        made.put(*some(30))
        await made.has(30)
        made.put(*some(1, 30))
        await made.has(31)


async def test_they_survive_a_gateway_that_ends_while_the_store_is_away(tmp_path: Path) -> None:
    async with desk(tmp_path, away=True) as made:
        made.put(*some(700))
    async with desk(tmp_path) as made:
        made.put(*some(1, 700))
        await made.has(701)
        assert made.store.order == [each.session for each in some(701)]


async def test_a_gateway_that_ends_brings_away_what_waits(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        made.put(*some(1500))
    async with desk(tmp_path) as made:
        assert (await made.turns(), made.spool.size) == (1500, 0)


async def test_one_that_is_not_fit_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with desk(tmp_path) as made:
        made.put(*some(3), feedback(comment="\ud800"), *some(3, 3))
        await made.has(6)
        assert made.figure("dropped_total", why="unfit") == 1
        assert "an outcome is dropped" in caplog.text


async def test_a_full_spool_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    async with desk(tmp_path, most_bytes=16 * 4096, away=True) as made:
        for begin in range(0, 1000, 100):
            made.put(*some(100, begin))
            await until(lambda end=begin + 100: made.figure("spooled_total") == end)  # type: ignore[misc]  # a default is no parameter
        dropped = made.figure("dropped_total", why="spool full")
        assert dropped > 0
        made.store.away = False
        await made.has(1000 - int(dropped))
        rows = await made.store.read(select(TurnRow.session))
        assert {row.session for row in rows} == {each.session for each in some(1000 - int(dropped), int(dropped))}


async def test_rubbish_in_the_spool_is_counted_and_holds_up_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path, away=True) as made:
        made.put(*some(3))
    (path,) = (tmp_path / "spool").glob("*.jsonl")
    path.write_bytes(b"{rubbish\n" + path.read_bytes() + b'{"kind": "tur')
    async with desk(tmp_path) as made:
        await made.has(3)
        assert made.figure("dropped_total", why="unreadable") == 2


async def test_without_disk_they_wait_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "spool").write_text("in the way")
    async with desk(tmp_path, away=True) as made:
        made.put(*some(40))
        await until(lambda: "wait in memory" in caplog.text)
        await asyncio.sleep(3 * AGAIN_S)
        assert made.figure("waiting") == 40
        made.store.away = False
        await made.has(40)


async def test_with_neither_store_nor_disk_memory_is_bounded_and_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 50)
    (tmp_path / "spool").write_text("in the way")
    async with desk(tmp_path, away=True) as made:
        made.put(*some(200))
        assert made.figure("dropped_total", why="full") == 150
        made.store.away = False
        await made.has(50)
        rows = await made.store.read(select(TurnRow.session))
        assert {row.session for row in rows} == {each.session for each in some(50, 150)}, "the newest"
        made.store.away = True
        made.put(*some(7))
    assert "7 outcomes are lost" in caplog.text


async def test_a_defect_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(tmp_path) as made:
        with monkeypatch.context() as patch:
            patch.setattr(made.store, "write", None)
            made.put(turn(1))
            await asyncio.sleep(3 * AGAIN_S)
        made.put(turn(2))
        await made.has(2)
