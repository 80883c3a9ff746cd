"""Live calls by the hundred, and what the mesh holds after them that it did not hold before.

    python -m tools.soak leaks --cycles 200
    python -m tools.soak leaks --cycles 60 --trace       and where memory was allocated
    python -m tools.soak leaks --over webrtc,rtmp        sessions as browsers and players have them

A cycle connects, has one turn (over gRPC: typed, only said, spoken, left in the middle, interrupted; the others in their
own ways: by turns) and leaves. After some
of them everything is left alone until no stream is open, garbage is collected, free memory given back, and all processes of
the mesh are looked at. Processes, threads, file descriptors and asyncio tasks have to come back to what they were at the
first sample, exactly, within SETTLE_S; threads of named pools, which have a fixed number, may be made later. From the second
quarter of the cycles on nothing may grow: what is allocated with malloc, the blocks of Python's small objects, the objects
that its collector knows, and all memory that belongs to no file. The slope of all samples there (Theil-Sen), less three
standard errors, has to stay below 8 KiB, 40 blocks, 4 objects and 64 KiB a cycle. Exit status 1 when something grows.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from services.runtime.errors import DomainError
from services.runtime.host import leaves
from talkmesh import Client, TalkmeshError
from talkmesh.credentials import read
from tools.bench.machine import machine
from tools.soak import census, growth
from tools.soak.caller import PARTS, TurnLost, call
from tools.soak.census import COUNTS, Census, Holding, NoAnswer
from tools.soak.growth import Finding
from tools.soak.watchers import VISITS, visit
from tools.up import CROWDED, ROOT, NotReady, RunningMesh, running_mesh

SETTLE_S = 60.0
REST_S = 2.0
SAMPLES = 20
WARM_CYCLES = 10
ETCD = "etcd"
GRPC = "grpc"
WAYS = (GRPC, *VISITS)
FORGETFUL = ("--keep-session-s", "1", "--live-grace-s", "0.1")
"""Conversations that can be gone on with are kept for a while: here, not to be taken for a leak."""
ON_LOOPBACK = {"TALKMESH_GATEWAY_WEBRTC_HOST": "127.0.0.1"}
Cycle = Callable[[], Awaitable[None]]


@dataclass
class Outcome:
    """Of a soak."""

    cycles: int
    censuses: dict[int, Census] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def steady(self) -> dict[int, Census]:
        """The samples by which growth is judged."""
        return {number: each for number, each in self.censuses.items() if number >= self.cycles // 4}

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        steady = self.steady
        return {
            "cycles": self.cycles,
            "findings": [str(each) for each in self.findings],
            "samples": {
                number: {name: holding.figures() for name, holding in each.items()}
                for number, each in self.censuses.items()
            },
            "slopes": {name: slopes_of(steady, name) for name in next(iter(steady.values()), {})},
            "machine": machine(),
        }


def slopes_of(steady: Mapping[int, Census], name: str) -> dict[str, Any]:
    """A process's growth a cycle."""
    if len(steady) < 3:
        return {}
    found = {}
    for what in ("rss_kib", "anonymous_kib", "malloc_kib", "blocks", "objects"):
        slope = growth.slope(list(steady), [getattr(each[name], what) for each in steady.values()])
        found[what] = {"per_cycle": round(slope.per_cycle, 3), "error": round(slope.error, 3)}
    return found


class Watch:
    """Looks at a mesh that rests."""

    def __init__(self, mesh: RunningMesh, folder: Path) -> None:
        self._mesh = mesh
        self._folder = folder
        self._pids: dict[str, int] = {}
        self._base: Census | None = None

    async def look(self) -> tuple[Census, list[Finding]]:
        """What everybody holds, and what has not come back to what it was the first time. Raises NoAnswer.

        There are always some tasks for a moment, so what counts is what is too much every time.
        """
        await rested(self._mesh.address)
        await self._know_processes()
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        now = await census.take(self._pids, self._folder, frozenset({ETCD}))
        self._base = self._base or now
        found = growth.counts_above(self._base, now)
        while found and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(REST_S)
            now = await census.take(self._pids, self._folder, frozenset({ETCD}))
            still = growth.counts_above(self._base, now)
            found = [each for each in still if each.about in {before.about for before in found}]
        return now, found

    async def _know_processes(self) -> None:
        pids = await self._mesh.pids()
        if self._mesh.etcd:
            pids[ETCD] = self._mesh.etcd.pid
        if self._pids and pids != self._pids:
            changed = ", ".join(sorted(name for name in pids if pids[name] != self._pids.get(name)))
            raise NoAnswer(f"other processes than at the beginning: {changed}")
        self._pids = pids


async def rested(address: str) -> None:
    """Return when nobody talks to the mesh, and a little later. Raises NoAnswer."""
    try:
        async with Client(address) as client, asyncio.timeout(SETTLE_S):
            while True:
                status = await client.status()
                streams = sum(model.streams for service in status.services for model in service.models)
                if not status.sessions and not streams:
                    break
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise NoAnswer(f"{status.sessions} sessions and {streams} streams are open after {SETTLE_S:g} s") from None
    await asyncio.sleep(REST_S)


def cycles_of(mesh: RunningMesh, ways: Sequence[str]) -> list[Cycle]:
    """Everything that there is to do over these ways, once each."""
    made: list[Cycle] = [partial(call, mesh.address, part) for part in PARTS] if GRPC in ways else []
    if visits := [each for way in ways for each in VISITS.get(way, ())]:
        token = read(mesh.token)
        made += [partial(visit, f"http://{mesh.http}", token, each) for each in visits]
    return made


async def soak(
    mesh: RunningMesh,
    folder: Path,
    cycles: int,
    warm_cycles: int,
    samples: int,
    tell: Callable[[str], None],
    ways: Sequence[str] = (GRPC,),
) -> Outcome:
    """Run the cycles. Raises NoAnswer, TurnLost, TalkmeshError."""
    outcome, watch, every = Outcome(cycles), Watch(mesh, folder), cycles_of(mesh, ways)
    steps = {warm_cycles, *(round(cycles * number / samples) for number in range(1, samples + 1))}
    for number in range(1, cycles + 1):
        await every[number % len(every)]()
        if number in steps and number >= warm_cycles:
            outcome.censuses[number], found = await watch.look()
            tell(line(number, outcome.censuses[number], found))
            outcome.findings = found
    outcome.findings += growth.growing(outcome.steady)
    return outcome


def line(number: int, now: Census, found: list[Finding]) -> str:
    """A sample in brief."""
    held = sum(each.anonymous_kib for each in now.values()) / 1024
    sums = ", ".join(f"{sum(max(0, getattr(each, what)) for each in now.values())} {what}" for what in COUNTS)
    said = [f"      not back: {each} {now[each.process].python_threads}" for each in found]
    return "\n".join((f"{number:5} cycles: {held:8.1f} MiB, {sums}", *said))


def table(outcome: Outcome) -> str:
    """All processes after some of the cycles."""
    wanted = [number for number in (10, 50, 100, 200, outcome.cycles) if number in outcome.censuses]
    shown = sorted(set(wanted) or outcome.censuses)
    rows = [
        f"{'cycles   MiB':>29} {'RSS':>6} {'USS':>6} {'anon':>6} {'malloc':>6} "
        f"{'proc':>4} {'thr':>4} {'fds':>4} {'tasks':>5} {'objects':>7}"
    ]
    for name in next(iter(outcome.censuses.values())):
        rows += [row(name, number, outcome.censuses[number][name]) for number in shown]
    return "\n".join(rows)


def row(name: str, number: int, held: Holding) -> str:
    sizes = (held.rss_kib, held.uss_kib, held.anonymous_kib, held.malloc_kib)
    memory = " ".join(f"{each / 1024:6.1f}" for each in sizes)
    counts = f"{held.processes:4} {held.threads:4} {held.fds:4} {held.tasks:5} {held.objects:7}"
    return f"{name:18} {number:10} {memory} {counts}"


def explained(outcome: Outcome) -> str:
    """What may help to find what grows."""
    first, last = next(iter(outcome.censuses.values())), outcome.censuses[max(outcome.censuses)]
    rows = []
    for name in sorted({each.process for each in outcome.findings}):
        rows += [f"{name}, more objects of: {growth.grown_types(first, last, name)}"]
        rows += [f"{name}, tasks: {first[name].task_names} → {last[name].task_names}"]
        rows += [f"{name}, threads: {first[name].python_threads} → {last[name].python_threads}"]
    return "\n".join(rows)


async def measure(options: argparse.Namespace) -> Outcome:
    """Start a mesh and soak it. Raises NotReady, NoAnswer, TurnLost, TalkmeshError."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        told = Path(folder)
        async with running_mesh(
            ROOT / "var" / "log" / "soak",
            extra={"gateway": [*CROWDED, *FORGETFUL]},
            environment=census.environment(told, options.trace) | ON_LOOPBACK,
        ) as mesh:
            warm = min(WARM_CYCLES, options.cycles)
            outcome = await soak(mesh, told, options.cycles, warm, SAMPLES, tell, options.over)
    if options.trace:
        for name, held in outcome.censuses[max(outcome.censuses)].items():
            tell("\n".join((f"--- {name}", *held.allocated)))
    return outcome


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def ways(text: str) -> tuple[str, ...]:
    """Of the command line. Raises ArgumentTypeError."""
    found = tuple(part.strip() for part in text.split(","))
    if unknown := [each for each in found if each not in WAYS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(WAYS)}")
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tools.soak leaks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--cycles", type=int, default=200, help="calls, one after the other (200)")
    made.add_argument("--over", type=ways, default=(GRPC,), help=f"some of {', '.join(WAYS)}, with commas (grpc)")
    made.add_argument("--trace", action="store_true", help="tell where memory was allocated; slow")
    made.add_argument("--json", action="store_true", help="figures as JSON on the last line")
    return made


def main(arguments: list[str]) -> None:
    options = parser().parse_args(arguments)
    try:
        outcome = asyncio.run(measure(options))
    except* (NotReady, NoAnswer, TurnLost, TalkmeshError, DomainError) as group:
        sys.exit(f"tools.soak leaks: {'; '.join(map(str, leaves(group)))}")
    print(table(outcome))
    for finding in outcome.findings:
        print(f"GROWS: {finding}")
    if outcome.findings:
        print(explained(outcome))
    if options.json:
        print(json.dumps(outcome.figures()))
    sys.exit(1 if outcome.findings else 0)
