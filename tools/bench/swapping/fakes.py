"""The bench on fake models: a service whose model is swapped, a neighbour whose is not, and paced streams on both."""

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.runtime.desired import Budget
from services.runtime.engine import ModelSpec
from services.runtime.etcd import Etcd
from tools.bench.figures import percentile
from tools.bench.swapping import fake, gaps, memory, neighbour
from tools.bench.swapping.blocks import Blocks, alternate
from tools.bench.swapping.flips import Flips, flip, spread
from tools.bench.swapping.load import LoadJob
from tools.bench.swapping.memory import Holding
from tools.bench.swapping.processes import loading, process
from tools.bench.swapping.records import Records
from tools.bench.swapping.stalls import Stalls, noticed
from tools.bench.swapping.wishes import Operator, operating, patient, phases_ms
from tools.etcd import free_ports, running_etcd

MODULES = {fake.NAME: fake.__name__, neighbour.NAME: neighbour.__name__}
RESIDENT = 16
"""Models that may be resident: swaps come faster than streams end, so several drain at a time."""
FIRST_LOOK, LAST_LOOK = 5, 200
"""Swaps after which memory is looked at: the first few warm the host up."""
TOLD_EVERY = 50


@dataclass
class Swapped:
    """What the swaps of a run were like."""

    took_ms: list[float] = field(default_factory=list)
    """From the put until the host was seen to serve the model."""
    phases: dict[str, list[float]] = field(default_factory=dict)
    pids: set[int] = field(default_factory=set)
    """Engine processes that served: as many models were really loaded."""
    looks: dict[int, Holding] = field(default_factory=dict)
    """By number of the swap."""

    def figures(self) -> dict[str, Any]:
        return {
            "swaps": len(self.took_ms),
            "swaps_loaded": len(self.pids),
            "swap_ms": spread(self.took_ms, 50, 95),
            "phases_ms": {name: round(percentile(values, 50), 1) for name, values in self.phases.items()},
        }

    def growth(self) -> dict[str, Any]:
        """How much more the host and its engine processes hold at the last look than at the first."""
        (first, before), (last, after) = min(self.looks.items()), max(self.looks.items())
        told = {f"after_swap_{number}": look.told() for number, look in sorted(self.looks.items())}
        return {
            "rss_growth_pct": memory.growth_pct(before.host.rss, after.host.rss) if last > first else None,
            "service_rss_growth_pct": memory.growth_pct(before.service.rss, after.service.rss)
            if last > first
            else None,
            "resources": told,
        }


@dataclass
class Hosts:
    """The hosts of a run, by instance name."""

    ports: dict[str, int] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)

    def targets(self, service: str) -> list[str]:
        return [f"127.0.0.1:{port}" for name, port in self.ports.items() if name.startswith(f"{service}-")]


@dataclass
class Stage:
    """etcd, the folder with logs and records, and the processes on it."""

    folder: Path
    etcd: Etcd
    endpoint: str
    hosts: Hosts
    stack: contextlib.AsyncExitStack

    async def host(self, service: str) -> str:
        """Start one more host of a service; returns its instance name. It is ready when it says so in etcd."""
        instance = f"{service}-{len(self.hosts.targets(service))}"
        (port,) = free_ports(1)
        command = [
            *(sys.executable, "-m", MODULES[service], "--listen", f"127.0.0.1:{port}"),
            *("--etcd", self.endpoint, "--instance", instance, "--log-level", "WARNING"),
        ]
        log = self.folder / f"{instance}.log"
        started = await self.stack.enter_async_context(process(command, log))
        self.hosts.ports[instance], self.hosts.pids[instance] = port, started.pid
        return instance


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """An etcd with nothing in it, and no hosts yet."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-swap-")))
        etcd = await stack.enter_async_context(running_etcd(folder / "etcd"))
        client = await stack.enter_async_context(patient(etcd.endpoint))
        yield Stage(folder, client, etcd.endpoint, Hosts(), stack)


async def opened(stage: Stage, service: str, models: Sequence[str], options: argparse.Namespace) -> Operator:
    """A service with one host that serves the first of its models."""
    operator = await stage.stack.enter_async_context(operating(stage.etcd, service, []))
    spec = ModelSpec(engine="fake", options={"load_cpu_s": options.load_s, "load_mb": options.load_mb})
    await operator.offer(dict.fromkeys(models, spec), Budget(models=RESIDENT))
    wish = await operator.want(models[0])
    operator.instances = [await stage.host(service)]
    await operator.served(wish)
    return operator


def job(stage: Stage, service: str, options: argparse.Namespace) -> LoadJob:
    return LoadJob(
        wire="llm",
        targets=stage.hosts.targets(service),
        streams=options.streams,
        interval_ms=options.interval_ms,
        least_s=options.least_s,
        most_s=options.most_s,
        stem=stage.folder / f"load-{service}",
    )


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole run, and its figures."""
    async with stage() as found:
        return await on_stage(found, options)


async def on_stage(stage: Stage, options: argparse.Namespace) -> dict[str, Any]:
    models = options.models
    operator = await opened(stage, fake.NAME, models, options)
    await opened(stage, neighbour.NAME, models[:1], options)
    blocks, swapped = Blocks(), Swapped()
    async with loading(job(stage, fake.NAME, options)) as load, loading(job(stage, neighbour.NAME, options)) as beside:
        swapping = Swapping(operator, stage.hosts.pids[operator.instances[0]], swapped, options)
        async with noticed() as stalls:
            await alternate(blocks, options.swaps, options.block_s, swapping.swap, options.base_s)
        flips = await flipped(stage, operator, options)
        seen, seen_beside = await asyncio.gather(load.finish(), beside.finish())
    return figures(options, blocks, stalls, swapped, flips, seen, seen_beside)


@dataclass
class Swapping:
    """The swaps of a run, one after the other through all models."""

    operator: Operator
    pid: int
    """Of the host."""
    found: Swapped
    options: argparse.Namespace

    async def swap(self, number: int) -> None:
        """Have the next model served, and look at memory when it is time. Raises SwapFailed."""
        models = self.options.models
        model = models[(number + 1) % len(models)]
        wish = await self.operator.want(model, self.options.drain_s, self.options.standby_s)
        (sight,) = (await self.operator.served(wish)).values()
        self.found.took_ms.append(1000 * (sight.at - wish.began))
        self.found.pids.add(sight.pid())
        for name, spent in phases_ms(sight.slot).items():
            self.found.phases.setdefault(name, []).append(spent)
        done = number + 1
        if done in looks(self.options.swaps):
            self.found.looks[done] = await memory.settled(self.pid, engines=1)
        if done % TOLD_EVERY == 0:
            print(f"{done} swaps", file=sys.stderr, flush=True)


def looks(swaps: int) -> set[int]:
    """After which swaps memory is looked at."""
    return {min(FIRST_LOOK, swaps), min(LAST_LOOK, swaps), swaps}


async def flipped(stage: Stage, operator: Operator, options: argparse.Namespace) -> Flips:
    """Rollbacks between two warm models on as many hosts as wanted, under the same load on the first."""
    while len(operator.instances) < options.hosts:
        operator.instances.append(await stage.host(fake.NAME))
    return await flip(operator, stage.hosts.targets(fake.NAME), options.models[:2], options.flips)


def figures(
    options: argparse.Namespace,
    blocks: Blocks,
    stalls: Stalls,
    swapped: Swapped,
    flips: Flips,
    seen: Records,
    beside: Records,
) -> dict[str, Any]:
    """What is printed."""
    own, others = gaps.by_kind(seen.gaps, blocks, stalls), gaps.by_kind(beside.gaps, blocks, stalls)
    own_all, others_all = gaps.by_kind(seen.gaps, blocks), gaps.by_kind(beside.gaps, blocks)
    neighbours = gaps.gap_figures(others["base"], others["swap"])
    return {
        "service": fake.NAME,
        "engine": "fake",
        **swapped.figures(),
        **gaps.stream_figures(seen.streams),
        "failures": gaps.failures(seen.streams),
        "gap_ms": gaps.gap_figures(own["base"], own["swap"]),
        "neighbour_added_ms": {"p99": neighbours["added_p99"], "max": neighbours["added_max"]},
        "neighbour_gap_ms": neighbours,
        "machine_stalls": stalls.figures(),
        "with_stalls": {
            "gap_ms": gaps.gap_figures(own_all["base"], own_all["swap"]),
            "neighbour_gap_ms": gaps.gap_figures(others_all["base"], others_all["swap"]),
        },
        "neighbour_streams": gaps.stream_figures(beside.streams),
        **swapped.growth(),
        **flips.figures(),
        "rollback_streams_failed": flips.failed,
        "blocks_s": {kind: round(blocks.seconds(kind), 1) for kind in ("base", "swap")},
        "load": load_told(options) | {"drain_s": options.drain_s, "standby_s": options.standby_s},
    }


def load_told(options: argparse.Namespace) -> dict[str, Any]:
    """What the streams and the models were like."""
    return {
        "streams_at_a_time": options.streams,
        "interval_ms": options.interval_ms,
        "stream_s": [options.least_s, options.most_s],
        "load_cpu_s": options.load_s,
        "load_mb": options.load_mb,
    }
