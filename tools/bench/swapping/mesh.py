"""The bench on real models: conversations through the whole mesh while one service's model is swapped."""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tools.bench.figures import percentile
from tools.bench.swapping import gaps, memory
from tools.bench.swapping.blocks import Blocks, Kind, alternate
from tools.bench.swapping.fakes import Swapped, looks
from tools.bench.swapping.flips import DRAIN_S, STANDBY_S, Flips
from tools.bench.swapping.processes import ROOT
from tools.bench.swapping.turns import BUFFER_MS, SIZE, Conversations, Turn
from tools.bench.swapping.wishes import Operator, Sight, operating, patient, phases_ms
from tools.up import CROWDED, RunningMesh, running_mesh

LOGS = ROOT / "var" / "log" / "bench-swap"
QUESTION = ROOT / "tests" / "data" / "question.wav"
WARM_UP_TURNS = 2
MOST_CLIENTS, MOST_FLIPS = 3, 20
GONE_S = 30.0


@asynccontextmanager
async def followed_mesh(options: argparse.Namespace) -> AsyncIterator[tuple[RunningMesh, Operator]]:
    """A mesh with an etcd of its own, and an operator of the service to be swapped. Raises NotReady."""
    async with (
        running_mesh(LOGS, {options.service: options.models[0]}, extra={"gateway": CROWDED}) as mesh,
        patient(mesh.endpoints) as etcd,
        operating(etcd, options.service, [options.service]) as operator,
    ):
        yield mesh, operator


@dataclass
class Swapping:
    """The swaps of a run. Before each, the model before the last is gone: otherwise it would only be taken up again."""

    operator: Operator
    pid: int
    found: Swapped
    options: argparse.Namespace

    async def swap(self, number: int) -> None:
        models, options = self.options.models, self.options
        await alone(self.operator)
        wish = await self.operator.want(models[(number + 1) % len(models)], options.drain_s, options.standby_s)
        (sight,) = (await self.operator.served(wish)).values()
        self.found.took_ms.append(1000 * (sight.at - wish.began))
        self.found.pids.add(sight.pid())
        for name, spent in phases_ms(sight.slot).items():
            self.found.phases.setdefault(name, []).append(spent)
        print(f"swap {number + 1}: {wish.model} after {self.found.took_ms[-1]:.0f} ms", file=sys.stderr, flush=True)
        if number + 1 in looks(options.swaps):
            self.found.looks[number + 1] = await memory.settled(self.pid, engines=1)


async def alone(operator: Operator) -> None:
    """Wait until the host holds one model only, at most GONE_S."""

    def newest() -> Sight:
        return operator.sights[-1]

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GONE_S), operator.changed:
            await operator.changed.wait_for(lambda: len(newest().host.models) == 1)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole run, and its figures. Raises NotReady of tools.up and SwapFailed."""
    clients = min(options.streams, MOST_CLIENTS)
    blocks, swapped = Blocks(), Swapped()
    async with followed_mesh(options) as (mesh, operator):
        pid = (await mesh.pids())[options.service]
        talks = Conversations(mesh.address, QUESTION if options.service == "asr" else None)
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(talks.client(number))
            await until_warm(talks)
            swapping = Swapping(operator, pid, swapped, options)
            await alternate(blocks, options.swaps, options.block_s, swapping.swap, options.base_s)
            flips = await flip(operator, options.models, min(options.flips, MOST_FLIPS))
            talks.stopping = True
    return figures(options, clients, blocks, swapped, talks, flips)


async def until_warm(talks: Conversations) -> None:
    """Wait for the first turns to end, well or not."""
    while sum(bool(turn.done or turn.error) for turn in talks.turns) < WARM_UP_TURNS:
        await asyncio.sleep(0.1)


async def flip(operator: Operator, models: Sequence[str], times: int) -> Flips:
    """Rollbacks between two warm models: until the host is seen to serve, for new streams then are served by it."""
    for model in models[:2]:
        await operator.served(await operator.want(model, DRAIN_S, STANDBY_S))
    found = Flips()
    for number in range(times):
        await asyncio.sleep(0.5)
        wish = await operator.want(models[number % 2], DRAIN_S, STANDBY_S)
        known, served = await operator.acted_on(wish), await operator.served(wish)
        found.observed_ms += [1000 * (sight.at - wish.began) for sight in known.values()]
        found.rollback_ms += [1000 * (sight.at - wish.began) for sight in served.values()]
    return found


def figures(
    options: argparse.Namespace, clients: int, blocks: Blocks, swapped: Swapped, talks: Conversations, flips: Flips
) -> dict[str, Any]:
    """What is printed. Turns that had not ended when the run did are left out."""
    ended = [turn for turn in talks.turns if turn.done or turn.error]
    late = [arrivals.late() for arrivals in talks.arrivals]
    sound = gaps.by_kind([gap for each, _ in late for gap in each], blocks)
    pictures = gaps.by_kind([gap for _, each in late for gap in each], blocks)
    return {
        "service": options.service,
        "engine": "real",
        "models": options.models,
        **swapped.figures(),
        **turn_figures(options.service, ended),
        "sessions_refused": talks.refused,
        "gap_ms": gaps.gap_figures(sound["base"], sound["swap"]),
        "video_gap_ms": gaps.gap_figures(pictures["base"], pictures["swap"]),
        "underruns": {kind: sum(late > BUFFER_MS for late in sound[kind]) for kind in sound},
        "ttfa_ms": ttfa(ended, blocks),
        "neighbour_added_ms": None,
        **swapped.growth(),
        **flips.figures(),
        "blocks_s": {kind: round(blocks.seconds(kind), 1) for kind in ("base", "swap")},
        "load": {"conversations": clients, "size": SIZE, "buffer_ms": BUFFER_MS, "drain_s": options.drain_s},
    }


def turn_figures(service: str, turns: Sequence[Turn]) -> dict[str, Any]:
    """How turns ended.

    `turns_handed_over` had more than one model of the service: their stream outlived its drain, and the gateway went on with
    the model after. Whether single chunks are mixed cannot be told of real models, which do not sign them.
    """
    return {
        "streams": len(turns),
        "streams_failed": sum(turn.failed for turn in turns),
        "streams_truncated": sum(turn.truncated for turn in turns),
        "mixed_chunks": None,
        "turns_handed_over": sum(len(turn.models_of(service)) > 1 for turn in turns),
        "failures": list(dict.fromkeys(turn.error for turn in turns if turn.error))[:5],
        "turns_by_model": {
            name: sum(name in turn.models_of(service) for turn in turns) for name in served(service, turns)
        },
    }


def served(service: str, turns: Sequence[Turn]) -> list[str]:
    return sorted({name for turn in turns for name in turn.models_of(service)})


def ttfa(turns: Sequence[Turn], blocks: Blocks) -> dict[str, float]:
    """First sound of the turns that were asked in blocks of each kind, in ms, and what swaps add to it."""
    kinds: dict[Kind, list[float]] = {"base": [], "swap": []}
    for turn in turns:
        if turn.first_at and (kind := blocks.kind_at(turn.began)):
            kinds[kind].append(turn.ttfa_ms)
    found = {f"{kind}_p{at}": round(percentile(values, at), 1) for kind, values in kinds.items() for at in (50, 95)}
    added = {f"added_p{at}": round(found[f"swap_p{at}"] - found[f"base_p{at}"], 1) for at in (50, 95)}
    return found | added | {f"{kind}_n": len(values) for kind, values in kinds.items()}
