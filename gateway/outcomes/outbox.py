"""Sees that outcomes get into the store, and never makes anybody wait: what it cannot take now waits on disk, in order."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from gateway.outcomes.figures import Figures
from gateway.outcomes.records import Record
from gateway.outcomes.spool import Spool
from gateway.outcomes.store import Away, Store, Unfit
from services.runtime.errors import Refused

MOST_WAITING = 10_000
"""Outcomes in memory, while neither store nor disk take any."""
BATCH = 500
GATHER_S = 0.1
"""How long a batch gathers: what a kill of the gateway costs."""
AGAIN_S = 1.0
LAST_S = 5.0
"""Time to bring away what waits when the gateway ends."""
log = logging.getLogger(__name__)
Done = TypeVar("Done")


class Outbox:
    """Use through `delivering`."""

    def __init__(self, store: Store, spool: Spool, figures: Figures, again_s: float = AGAIN_S) -> None:
        self._store = store
        self._spool = spool
        self._figures = figures
        self._again_s = again_s
        self._waiting: deque[Record] = deque()
        self._held: Sequence[Record] = ()
        """A batch that is on its way."""
        self._arrived = asyncio.Event()
        self._again_at = 0.0
        """When the store is tried again, in seconds of the monotonic clock."""
        self._trouble = self._spool_trouble = ""
        self._disk = ThreadPoolExecutor(1, "spool")
        figures.watch(self._in_memory, lambda: spool.size)

    def put(self, record: Record) -> None:
        """Take a record. The oldest is dropped when too many wait."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._figures.dropped("full")
        self._waiting.append(record)
        self._arrived.set()

    @property
    def waiting(self) -> int:
        """How many are not in the store yet."""
        return self._in_memory() + self._spool.lines

    def _in_memory(self) -> int:
        return len(self._waiting) + len(self._held)

    async def run(self) -> None:
        """Bring away what comes, until cancelled."""
        while True:
            await self._due()
            try:
                await self.settle()
            except Exception:
                log.exception("outcomes wait for a defect")

    async def _due(self) -> None:
        """Wait for outcomes, or until it is time to try again with those that wait."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._again_s if self.waiting else None):
                await self._arrived.wait()
        self._arrived.clear()
        await asyncio.sleep(GATHER_S)

    async def settle(self) -> None:
        """Bring all that waits into the store, behind what is in the spool; or into the spool."""
        while self._take():
            if not (await self._replayed() and await self._stored(self._held)) and not await self._spooled(self._held):
                return
            self._held = ()
        await self._replayed()

    def _take(self) -> bool:
        """Whether there is a batch."""
        if not self._held:
            self._held = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        return bool(self._held)

    async def _replayed(self) -> bool:
        """Bring what is in the spool into the store; whether nothing is left there."""
        try:
            while self._spool.size and time.monotonic() >= self._again_at:
                records = await self._on_disk(self._spool.head, BATCH)
                if records and not await self._stored(records):
                    break
                await self._on_disk(self._spool.forget)
        except OSError as error:
            self._spool_failed(error)
        self._count_losses()
        return not self._spool.size

    async def _stored(self, records: Sequence[Record]) -> bool:
        """Give records to the store, if it is not known to be away; whether nothing more is to be done about them."""
        if time.monotonic() < self._again_at:
            return False
        try:
            await self._write(records)
        except (Away, Refused) as error:
            self._failed(str(error))
            return False
        if self._trouble:
            log.warning("the store of outcomes is back")
            self._trouble = ""
        self._figures.store_up.set(1)
        return True

    async def _write(self, records: Sequence[Record]) -> None:
        """All at once; one by one when one of them is not fit. Raises Away and Refused."""
        try:
            await self._store.write(records)
        except Unfit as error:
            if len(records) > 1:
                for record in records:
                    await self._write([record])
                return
            log.error("an outcome is dropped: %s", error)
            self._figures.dropped("unfit")
        else:
            self._figures.written.inc(len(records))

    async def _spooled(self, records: Sequence[Record]) -> bool:
        """Put records on disk; whether they are there."""
        try:
            await self._on_disk(self._spool.append, records)
        except OSError as error:
            self._spool_failed(error)
            return False
        finally:
            self._count_losses()
        self._spool_trouble = ""
        self._figures.spooled.inc(len(records))
        return True

    async def leave(self) -> None:
        """Put on disk what is left in memory."""
        while self._take() and await self._spooled(self._held):
            self._held = ()
        if lost := self._in_memory():
            log.error("%d outcomes are lost: neither their store nor their folder takes any", lost)

    def close(self) -> None:
        self._disk.shutdown()

    async def _on_disk(self, work: Callable[..., Done], *arguments: object) -> Done:
        """Work on the spool, one thing at a time, even if nobody waits for it any more."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)

    def _count_losses(self) -> None:
        spool = self._spool
        self._figures.dropped("spool full", spool.dropped)
        self._figures.dropped("unreadable", spool.unreadable)
        spool.dropped = spool.unreadable = 0

    def _failed(self, trouble: str) -> None:
        self._again_at = time.monotonic() + self._again_s
        self._figures.store_up.set(0)
        if trouble != self._trouble:
            log.warning("the store of outcomes is away, they wait on disk: %s", trouble)
            self._trouble = trouble

    def _spool_failed(self, error: OSError) -> None:
        if str(error) != self._spool_trouble:
            self._spool_trouble = str(error)
            log.error("outcomes cannot wait on disk, and wait in memory: %s", error)


@asynccontextmanager
async def delivering(store: Store, spool: Spool, figures: Figures, again_s: float = AGAIN_S) -> AsyncIterator[Outbox]:
    """An outbox that works; on leaving, what it has goes to the store or to the spool."""
    outbox = Outbox(store, spool, figures, again_s)
    task = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        task.cancel()
        await asyncio.wait({task})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await outbox.settle()
        await outbox.leave()
        outbox.close()
