"""Streams at the pace of speech, without end, in a process of their own: `python -m tools.bench.swapping.load JOB`.

JOB is a LoadJob as JSON. The process says "ready" on standard output when every stream's first response has come, takes no
new streams once its standard input is closed, and writes its records when the last one has ended.

A stream asks for a chunk at each tick of its own clock, whether or not the chunk before has come: a server that stands still
is felt by all the chunks that fall due meanwhile, and none is left out of the figures.
"""

import asyncio
import contextlib
import gc
import random
import sys
import time
from array import array
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from pydantic import BaseModel

from services.runtime import channels
from services.runtime.lifeline import PARENT_VARIABLE, die_with_parent_if_asked
from talkmesh.outcomes import Ending
from tools.bench.swapping import records
from tools.bench.swapping.records import StreamRecord
from tools.bench.swapping.wires import WIRES, Chunk, Start, Wire

__all__ = ["PARENT_VARIABLE", "LoadJob"]
STUCK_S = 30.0
"""A stream that still has chunks to come so long after the last was due counts as failed."""
PAUSE_AFTER_FAILURE_S = 0.1


class LoadJob(BaseModel):
    """What to send, and where the records go."""

    wire: str
    targets: list[str]
    streams: int
    interval_ms: float
    least_s: float = 1.0
    most_s: float = 3.0
    stem: Path
    """Of the files that are written."""
    seed: int = 0


@dataclass
class Hearing:
    """What one stream has heard."""

    interval_ms: float
    gaps: "array[float]"
    first_at: float = 0.0
    last_at: float = 0.0
    got: int = 0
    mixed: int = 0
    model: str = ""
    process: str = ""
    generation: int = 0

    def hear(self, said: Start | Chunk) -> None:
        """Take a response that has just arrived."""
        now = time.monotonic()
        self.first_at = self.first_at or now
        if isinstance(said, Start):
            self.model, self.generation = said.model, said.generation
            return
        self.model, self.process = self.model or said.model, self.process or said.process
        self.mixed += (said.model, said.process, said.number) != (self.model, self.process, self.got)
        if self.got:
            self.gaps.extend((now, 1000 * (now - self.last_at) - self.interval_ms))
        self.last_at = now
        self.got += 1


@dataclass
class Load:
    """All the streams of one process."""

    job: LoadJob
    wire: Wire
    gaps: "array[float]" = field(default_factory=lambda: array("d"))
    streams: list[StreamRecord] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    heard: int = 0
    """Streams whose first response has come."""

    async def voice(self, number: int, channel: grpc.aio.Channel) -> None:
        """One stream after another until stopped. Voices begin at different moments of the tick."""
        dice = random.Random(self.job.seed * 1000 + number)
        await asyncio.sleep(number / self.job.streams * self.job.interval_ms / 1000)
        while not self.stopping.is_set():
            lasts_s = dice.uniform(self.job.least_s, self.job.most_s)
            stream = await self.stream(channel, max(1, round(1000 * lasts_s / self.job.interval_ms)))
            self.streams.append(stream)
            if stream.failed:
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)

    async def stream(self, channel: grpc.aio.Channel, wanted: int) -> StreamRecord:
        """One stream of `wanted` chunks."""
        began, hearing = time.monotonic(), Hearing(self.job.interval_ms, self.gaps)
        call = self.open(channel, wanted)
        ending = Ending(call)
        asking = asyncio.create_task(self.ask(call, wanted))
        try:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                async for response in heard(call):
                    self.heard += hearing.first_at == 0
                    hearing.hear(self.wire.told(response))
            outcome = await ending.outcome()
        finally:
            asking.cancel()
            call.cancel()
            await asyncio.wait([asking])
        return StreamRecord(
            began=began,
            ended=time.monotonic(),
            wanted=wanted,
            got=hearing.got,
            mixed=hearing.mixed,
            code=outcome.code.name,
            details=outcome.details,
            model=hearing.model,
            generation=hearing.generation,
            first_ms=1000 * ((hearing.first_at or time.monotonic()) - began),
        )

    def open(self, channel: grpc.aio.Channel, wanted: int) -> Any:
        start = channel.stream_stream(self.wire.method, self.wire.serialize, self.wire.deserialize)
        return start(timeout=wanted * self.job.interval_ms / 1000 + STUCK_S)

    async def ask(self, call: Any, wanted: int) -> None:
        """Send the requests of a stream, each at its time, and half-close. A call that ends early ends this too."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            if self.wire.opening is not None:
                await call.write(self.wire.opening)
            began, interval = time.monotonic(), self.job.interval_ms / 1000
            for number in range(wanted):
                await asyncio.sleep(began + number * interval - time.monotonic())
                await call.write(self.wire.request)
            await call.done_writing()

    async def run(self) -> None:
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            opened = [await stack.enter_async_context(channels.channel(target)) for target in self.job.targets]
            voices = [
                group.create_task(self.voice(number, opened[number % len(opened)]))
                for number in range(self.job.streams)
            ]
            await told_to_stop(self.stopping, self)
            await asyncio.wait(voices)


async def heard(call: Any) -> AsyncIterator[Any]:
    """The responses of a call, up to its end."""
    while (response := await call.read()) is not grpc.aio.EOF:
        yield response


async def told_to_stop(stopping: asyncio.Event, load: Load) -> None:
    """Say "ready" once every voice has been answered; return when standard input is closed."""
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), stopping.set)
    while load.heard < load.job.streams and not stopping.is_set():
        await asyncio.sleep(0.05)
    # What lives now lives on: the collector need not look through it while it is being measured.
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    await stopping.wait()
    loop.remove_reader(sys.stdin.fileno())


async def main(job: LoadJob) -> None:
    load = Load(job, WIRES[job.wire]())
    await load.run()
    records.write(job.stem, load.gaps, load.streams)


if __name__ == "__main__":
    die_with_parent_if_asked()
    asyncio.run(main(LoadJob.model_validate_json(sys.argv[1])))
