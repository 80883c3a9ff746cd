"""Moments in which the whole machine stood still: a virtual machine can be stopped by what it runs on.

A process of real-time priority on each processor does nothing but wake up every few milliseconds. When all of them oversleep
at once, no program of this machine ran, and none can be blamed for what came late.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from services.runtime import lifeline
from services.runtime.lifeline import PARENT_VARIABLE

TICK_S = 0.002
LEAST_S = 0.005
"""Shorter ones are a scheduler's daily business."""
AFTERMATH_S = 0.1
"""What came late because of a stall may come a little after it."""


@dataclass(frozen=True)
class Stall:
    """From `began` to `ended`, in seconds of time.monotonic."""

    began: float
    ended: float


@dataclass
class Stalls:
    """What was noticed; `found` is filled when the watch ends. `watched` is False where real time cannot be had."""

    watched: bool = False
    found: list[Stall] = field(default_factory=list)

    def hit(self, at: float) -> bool:
        """Whether what came at this moment came late through no fault of any program."""
        return any(stall.began <= at <= stall.ended + AFTERMATH_S for stall in self.found)

    def figures(self) -> dict[str, Any]:
        lengths = [1000 * (stall.ended - stall.began) for stall in self.found]
        return {"watched": self.watched, "n": len(lengths), "max_ms": round(max(lengths, default=0.0), 1)}


@asynccontextmanager
async def noticed() -> AsyncIterator[Stalls]:
    """Watch for the time of the body."""
    stalls, outputs = Stalls(), list[bytes]()
    async with AsyncExitStack() as stack:
        watchers = [await stack.enter_async_context(watcher(cpu)) for cpu in sorted(os.sched_getaffinity(0))]
        yield stalls
        for process in watchers:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            outputs.append((await process.communicate())[0])
    told = [json.loads(output) for output in outputs if output]
    if len(told) == len(outputs):
        stalls.watched = True
        stalls.found = together([[Stall(*pair) for pair in one] for one in told])


def together(by_cpu: Sequence[Sequence[Stall]]) -> list[Stall]:
    """The parts of stalls that all processors had at the same time."""
    common = list(by_cpu[0]) if by_cpu else []
    for others in by_cpu[1:]:
        common = [
            Stall(max(one.began, other.began), min(one.ended, other.ended))
            for one in common
            for other in others
            if min(one.ended, other.ended) - max(one.began, other.began) >= LEAST_S / 2
        ]
    return common


@asynccontextmanager
async def watcher(cpu: int) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.bench.swapping.stalls", str(cpu)),
        env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        await started.wait()


def watch(cpu: int) -> list[tuple[float, float]]:
    """Oversleeping on one processor until SIGTERM. Raises PermissionError where real-time priority cannot be had."""
    going_on = [True]

    def end(number: int, frame: FrameType | None) -> None:
        going_on.clear()

    signal.signal(signal.SIGTERM, end)
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    found, last = [], time.monotonic()
    while going_on:
        time.sleep(TICK_S)
        now = time.monotonic()
        if now - last > TICK_S + LEAST_S:
            found.append((last, now))
        last = now
    return found


def main() -> None:
    lifeline.die_with_parent_if_asked()
    try:
        sys.stdout.write(json.dumps(watch(int(sys.argv[1]))))
    except PermissionError as error:
        sys.exit(f"no real-time priority here: {error}")


if __name__ == "__main__":
    main()
