import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from services.asr.decodes import DecodeQueue, Priority

FINAL, INTERIM = Priority.FINAL, Priority.INTERIM


class Work:
    """Jobs that wait until they are let go, and note when they begin."""

    def __init__(self, queue: DecodeQueue) -> None:
        self.queue = queue
        self.begun: list[str] = []
        self.gates: dict[str, threading.Event] = {}

    def start(self, name: str, priority: Priority) -> asyncio.Task[str]:
        self.gates[name] = threading.Event()
        return asyncio.create_task(self.queue.run(priority, lambda: self._begin(name)))

    def _begin(self, name: str) -> Callable[[], str]:
        self.begun.append(name)

        def wait() -> str:
            assert self.gates[name].wait(10)
            return name

        return wait


async def settled() -> None:
    await asyncio.sleep(0.05)


@pytest.fixture
async def two() -> AsyncIterator[Work]:
    work = Work(DecodeQueue(workers=2))
    yield work
    for gate in work.gates.values():
        gate.set()
    await work.queue.close()


async def test_interims_leave_a_worker_for_a_final(two: Work) -> None:
    tasks = [two.start("interim 1", INTERIM), two.start("interim 2", INTERIM)]
    await settled()
    assert two.begun == ["interim 1"]
    tasks.append(two.start("final", FINAL))
    await settled()
    assert two.begun == ["interim 1", "final"]
    for gate in two.gates.values():
        gate.set()
    assert await asyncio.gather(*tasks) == ["interim 1", "interim 2", "final"]


async def test_a_final_overtakes_waiting_interims_and_each_kind_keeps_its_order(two: Work) -> None:
    first = [two.start(name, FINAL) for name in ("a", "b")]
    await settled()
    rest = [two.start("interim 1", INTERIM), two.start("interim 2", INTERIM), two.start("c", FINAL)]
    await settled()
    for gate in two.gates.values():
        gate.set()
    await asyncio.gather(*first, *rest)
    assert two.begun[:2] == ["a", "b"]
    assert two.begun.index("c") == 2
    assert two.begun.index("interim 1") < two.begun.index("interim 2")


async def test_who_gives_up_waiting_is_skipped(two: Work) -> None:
    running = [two.start("a", FINAL), two.start("b", FINAL)]
    waiting = [two.start("c", FINAL), two.start("d", FINAL)]
    await settled()
    waiting[0].cancel()
    for gate in two.gates.values():
        gate.set()
    assert await asyncio.gather(*running, waiting[1]) == ["a", "b", "d"]
    assert "c" not in two.begun


async def test_an_abandoned_decode_keeps_its_worker_until_it_is_through(two: Work) -> None:
    abandoned = two.start("abandoned", INTERIM)
    await settled()
    abandoned.cancel()
    following = two.start("following", INTERIM)
    await settled()
    assert two.begun == ["abandoned"]
    two.gates["abandoned"].set()
    two.gates["following"].set()
    assert await following == "following"


async def test_a_failure_is_its_own_only(two: Work) -> None:
    def broken() -> Callable[[], str]:
        raise ValueError("no audio")

    for _ in range(5):
        with pytest.raises(ValueError, match="no audio"):
            await two.queue.run(FINAL, broken)
    two.gates["after"] = threading.Event()
    two.gates["after"].set()
    assert await two.queue.run(FINAL, lambda: two._begin("after")) == "after"
