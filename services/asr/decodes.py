"""Who may decode next: finals before interims, and streams in the order in which they asked."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from typing import TypeVar

T = TypeVar("T")


class Priority(IntEnum):
    """Lower goes first."""

    FINAL = 0
    INTERIM = 1


class DecodeQueue:
    """Runs decodes on `workers` threads for all streams of an engine.

    Interims never take the last free worker (unless there is only one), so that a final starts at once beside them. A stream
    waits for one decode at a time, so first come first served is fair between streams.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._interim_workers = max(1, workers - 1)
        self._pool = ThreadPoolExecutor(workers, "asr-decode")
        self._waiting: dict[Priority, deque[asyncio.Future[None]]] = {priority: deque() for priority in Priority}
        self._running = dict.fromkeys(Priority, 0)

    async def run(self, priority: Priority, prepare: Callable[[], Callable[[], T]]) -> T:
        """Wait for a turn, then call `prepare` on the event loop and what it returns in a worker thread.

        Preparing late lets an interim take the audio that came while it waited. Cancelling gives up the turn; a decode that
        already runs is abandoned, and its worker is busy until it is through.
        """
        loop = asyncio.get_running_loop()
        await self._turn(priority)
        try:
            work = self._pool.submit(prepare())
        except BaseException:
            self._release(priority)
            raise
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release, priority))
        return await asyncio.wrap_future(work)

    async def close(self) -> None:
        """Wait for the decodes that run, forget the others."""
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    async def _turn(self, priority: Priority) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting[priority].append(turn)
        self._grant()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(priority)
            raise

    def _release(self, priority: Priority) -> None:
        self._running[priority] -= 1
        self._grant()

    def _grant(self) -> None:
        for priority in Priority:
            waiting = self._waiting[priority]
            while waiting and self._room(priority):
                turn = waiting.popleft()
                if not turn.done():
                    self._running[priority] += 1
                    turn.set_result(None)

    def _room(self, priority: Priority) -> bool:
        if priority is Priority.INTERIM and self._running[priority] >= self._interim_workers:
            return False
        return sum(self._running.values()) < self._workers
