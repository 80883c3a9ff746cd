"""The soaks: what they call a leak and a drift; and that a few calls leave nothing behind on the real mesh."""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tools.soak import census, growth
from tools.soak.census import Holding
from tools.soak.clocks import Arrival, Arrivals
from tools.soak.leaks import FORGETFUL, GRPC, ON_LOOPBACK, soak
from tools.soak.watchers import VISITS
from tools.up import CROWDED, running_mesh

pytestmark = pytest.mark.mesh
HELD = Holding(
    rss_kib=9e4,
    uss_kib=6e4,
    anonymous_kib=5e4,
    processes=1,
    threads=4,
    fds=10,
    tasks=7,
    malloc_kib=3e4,
    objects=50_000,
    blocks=90_000,
)
SPEND = """
import asyncio, threading
kept = []
async def main():
    tasks = []
    while True:
        await asyncio.to_thread(input)
        tasks.append(asyncio.create_task(asyncio.sleep(1e6)))
        kept.append([object() for _ in range(9)])
        kept.append(bytearray(2**20))
        kept.append(open("/dev/null"))
        thread = threading.Thread(target=threading.Event().wait, daemon=True)
        thread.start()
        print(flush=True)
asyncio.run(main())
"""


# --- the verdicts ---------------------------------------------------------------------------------------------------


def memory(kib_per_cycle: float, noise_kib: float = 100.0, objects: float = 0.0) -> dict[int, dict[str, Holding]]:
    """Samples of a process with that growth."""
    rng = random.Random(3)
    return {
        cycle: {
            "tts": replace(
                HELD,
                malloc_kib=3e4 + kib_per_cycle * cycle + rng.gauss(0, noise_kib),
                objects=50_000 + round(objects * cycle) + rng.randrange(-20, 20),
            )
        }
        for cycle in range(50, 201, 10)
    }


def test_noise_and_what_is_within_bounds_is_no_leak() -> None:
    assert growth.growing(memory(0.0)) == []
    assert growth.growing(memory(5.0)) == []


def test_memory_and_objects_that_grow_are_a_leak() -> None:
    assert [each.what for each in growth.growing(memory(30.0))] == ["malloc_kib"]
    assert [each.what for each in growth.growing(memory(0.0, objects=12))] == ["objects"]


def test_one_jump_is_no_leak_but_steps_are() -> None:
    """Allocators take memory by the arena."""
    once = {cycle: {"tts": replace(HELD, malloc_kib=3e4 + (8192 if cycle > 60 else 0))} for cycle in range(50, 201, 10)}
    assert growth.growing(once) == []
    steps = {cycle: {"tts": replace(HELD, malloc_kib=3e4 + 4096 * (cycle // 40))} for cycle in range(50, 201, 10)}
    assert [each.what for each in growth.growing(steps)] == ["malloc_kib"]


@pytest.mark.parametrize("what", census.COUNTS)
def test_one_more_of_what_is_counted_is_told(what: str) -> None:
    more = replace(HELD, **{what: getattr(HELD, what) + 1})
    assert [each.what for each in growth.counts_above({"tts": HELD}, {"tts": more})] == [what]
    assert growth.counts_above({"tts": more}, {"tts": HELD}) == []


def arrivals(ppm: float = 0.0, ahead: float = 0.0, missing: int = 0) -> Arrivals:
    """Two minutes of a session whose clock is off by so much, and whose pictures are ahead of the sound."""
    rng = random.Random(5)
    made = Arrivals(25.0)
    for number in range(25 * 120):
        media = number / 25
        if not 100 <= number < 100 + missing:
            made.pictures.append(Arrival(7 + media * (1 + ppm / 1e6) + min(0.03, rng.expovariate(200)), media + ahead))
        made.sound += [Arrival(7 + (media + part) * (1 + ppm / 1e6), media + part) for part in (0.0, 0.02)]
    return made


def test_a_session_in_time_has_no_drift() -> None:
    figures = arrivals().figures()
    assert abs(figures["drift_ms"]) < 1
    assert figures["av_offset_ms"]["p95"] <= 20
    assert (figures["missing"], figures["late"]) == (0, 0)


def test_drift_offset_and_missing_pictures_are_told() -> None:
    assert arrivals(ppm=500).figures()["drift_ms"] == pytest.approx(60, abs=3)
    assert arrivals(ahead=0.2).figures()["av_offset_ms"]["p95"] >= 180
    assert arrivals(missing=30).figures()["missing"] == 30


# --- on processes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def spender(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that keeps a task, a megabyte, a file and a thread for each line that it reads."""
    environment = {**census.environment(tmp_path), "PATH": ""}
    command = [sys.executable, "-c", SPEND]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


async def test_a_process_tells_what_it_holds(spender: "subprocess.Popen[str]", tmp_path: Path) -> None:
    def spend(times: int) -> None:
        assert spender.stdin and spender.stdout
        for _ in range(times):
            spender.stdin.write("\n")
            spender.stdin.flush()
            spender.stdout.readline()

    pids = {"spender": spender.pid}
    spend(2)
    before = await census.take(pids, tmp_path)
    same = await census.take(pids, tmp_path)
    assert growth.counts_above(before, same) == []
    spend(3)
    after = await census.take(pids, tmp_path)
    found = {each.what for each in growth.counts_above(before, after)}
    assert found == {"threads", "fds", "tasks"}
    was, now = before["spender"], after["spender"]
    assert (now.threads - was.threads, now.fds - was.fds, now.tasks - was.tasks) == (3, 3, 3)
    assert now.anonymous_kib - was.anonymous_kib > 2048
    assert now.objects - was.objects >= 9
    assert now.task_names["sleep"] == 5


@pytest.mark.parametrize(("ways", "warm_cycles", "cycles"), [((GRPC,), 5, 12), (tuple(VISITS), 10, 20)])
async def test_calls_leave_nothing_behind(ways: tuple[str, ...], warm_cycles: int, cycles: int, tmp_path: Path) -> None:
    lines: list[str] = []
    told = tmp_path / "told"
    told.mkdir()
    extra = {"gateway": [*CROWDED, *FORGETFUL]}
    environment = census.environment(told) | ON_LOOPBACK
    async with running_mesh(tmp_path / "logs", extra=extra, environment=environment) as mesh:
        outcome = await soak(mesh, told, cycles, warm_cycles, 2, lines.append, ways)
    assert max(outcome.censuses) == cycles
    assert {each.what for each in outcome.findings} & set(census.COUNTS) == set(), lines
    everybody = outcome.censuses[cycles]
    assert all(held.tasks > 0 for name, held in everybody.items() if name != "etcd")
