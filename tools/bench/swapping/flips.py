"""Back and forth between two models that are both warm: how soon a rollback is felt, and how soon hosts know."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from services.runtime import channels
from tools.bench.figures import percentile
from tools.bench.swapping.wires import Start, Wire, llm
from tools.bench.swapping.wishes import Operator, SwapFailed, Wish

KNOCK_S = 0.010
BETWEEN_S = 0.1
DRAIN_S = 10.0
STANDBY_S = 600.0


@dataclass
class Knocking:
    """Opens a stream to one host every KNOCK_S, and keeps when the first response of each generation was first seen."""

    channel: grpc.aio.Channel
    wire: Wire = field(default_factory=llm)
    first: dict[int, float] = field(default_factory=dict)
    failed: int = 0

    async def knock(self) -> None:
        """One stream: open, first response, half-close, end."""
        start = self.channel.stream_stream(self.wire.method, self.wire.serialize, self.wire.deserialize)
        call: Any = start(timeout=10)
        try:
            await call.write(self.wire.opening)
            said = self.wire.told(await call.read())
            assert isinstance(said, Start)
            self.first.setdefault(said.generation, time.monotonic())
            await call.done_writing()
            self.failed += await call.code() is not grpc.StatusCode.OK
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            self.failed += 1

    async def run(self) -> None:
        """Knock until cancelled, at the same pace however long an answer takes."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self.knock())
                await asyncio.sleep(KNOCK_S)


@asynccontextmanager
async def knocking(target: str) -> AsyncIterator[Knocking]:
    """Streams being opened to a host all the time."""
    async with channels.channel(target) as channel, asyncio.TaskGroup() as group:
        found = Knocking(channel)
        task = group.create_task(found.run())
        try:
            yield found
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@dataclass
class Flips:
    """What was measured, in ms: of rollbacks one value a host, of puts one each, when the last host knew."""

    rollback_ms: list[float] = field(default_factory=list)
    observed_ms: list[float] = field(default_factory=list)
    failed: int = 0

    def figures(self) -> dict[str, dict[str, float]]:
        return {
            "rollback_ms": spread(self.rollback_ms, 50, 95),
            "put_to_observed_ms": spread(self.observed_ms, 50, 99),
        }


def spread(values: Sequence[float], *percents: int) -> dict[str, float]:
    found = {f"p{percent}": round(percentile(values, percent), 2) for percent in percents}
    return found | {"max": round(max(values), 2), "n": len(values)}


async def flip(operator: Operator, targets: Sequence[str], models: tuple[str, str], times: int) -> Flips:
    """Put the older model's name `times` times; both are warm by then. Raises SwapFailed."""
    for model in models:
        await operator.served(await operator.want(model, DRAIN_S, STANDBY_S))
    found = Flips()
    async with contextlib.AsyncExitStack() as stack:
        doors = [await stack.enter_async_context(knocking(target)) for target in targets]
        for number in range(times):
            await asyncio.sleep(BETWEEN_S)
            wish = await operator.want(models[number % 2], DRAIN_S, STANDBY_S)
            known = await operator.acted_on(wish)
            found.observed_ms.append(1000 * (max(sight.at for sight in known.values()) - wish.began))
            await operator.served(wish)
            found.rollback_ms += [1000 * (await answered(door, wish) - wish.began) for door in doors]
    found.failed = sum(door.failed for door in doors)
    return found


async def answered(door: Knocking, wish: Wish) -> float:
    """When the first stream of a generation was answered. Raises SwapFailed."""
    deadline = time.monotonic() + 5
    while wish.generation not in door.first:
        if time.monotonic() > deadline:
            raise SwapFailed(f"no new stream is served by {wish.model} as {wish.generation}")
        await asyncio.sleep(0.001)
    return door.first[wish.generation]
