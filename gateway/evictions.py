"""Evictions in etcd: written for a while, then gone, whatever becomes of the gateway meanwhile."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from services.runtime.errors import DomainError
from services.runtime.etcd import Compare, Etcd, Operation

TOLD_S = 60


class Evictions:
    """Holds the lease of each eviction until it has been told for long enough. An async context manager."""

    def __init__(self, told_s: int = TOLD_S) -> None:
        self._told_s = told_s
        self._held: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._held:
            task.cancel()
        await asyncio.gather(*self._held, return_exceptions=True)

    async def tell(self, etcd: Etcd, compares: Sequence[Compare], made: Callable[[int], Sequence[Operation]]) -> bool:
        """Write what `made` makes of a lease if `compares` hold; whether they did. Raises EtcdAway and EtcdRefused."""
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._hold(etcd, compares, made, written))
        self._held.add(task)
        task.add_done_callback(self._held.discard)
        return await written

    async def _hold(
        self,
        etcd: Etcd,
        compares: Sequence[Compare],
        made: Callable[[int], Sequence[Operation]],
        written: asyncio.Future[bool],
    ) -> None:
        try:
            async with etcd.lease(self._told_s) as lease:
                succeeded = (await etcd.transact(compares, made(lease.id))).succeeded
                if not written.done():
                    written.set_result(succeeded)
                if succeeded:
                    await asyncio.sleep(self._told_s)
        except DomainError as error:
            if not written.done():
                written.set_exception(error)
        finally:
            written.cancel()
