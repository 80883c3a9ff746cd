"""One gateway of all that leads: whoever holds a key in etcd, for as long as its lease lives."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from services.runtime.desired import PREFIX
from services.runtime.errors import DomainError
from services.runtime.etcd import Compare, Etcd, Lease, Put, absent, create_revision_is

LEADER = f"{PREFIX}leader/experiments"
TTL_S = 5
AGAIN_S = 1.0
log = logging.getLogger(__name__)
Work = Callable[[Compare], Awaitable[None]]
"""What a leader does until it is cancelled. What it is given belongs into each of its transactions: it holds only as long as
this leadership does, so that one who was stopped in the midst of things, and wakes when another leads, changes nothing."""


async def leading(etcd: Etcd, name: str, work: Work, key: str = LEADER, ttl_s: int = TTL_S) -> None:
    """Do `work` whenever this gateway leads, until cancelled."""
    while True:
        try:
            async with etcd.lease(ttl_s) as lease:
                await lead(etcd, lease, name, work, key)
        except DomainError as error:
            log.info("nobody can be asked who leads: %s", error)
        await asyncio.sleep(AGAIN_S)


async def lead(etcd: Etcd, lease: Lease, name: str, work: Work, key: str) -> None:
    """Take the lead as soon as nobody has it, and work until the lease is lost. Raises EtcdAway and EtcdRefused."""
    while not lease.lost.is_set():
        taken = await etcd.transact([absent(key)], [Put(key, name, lease.id)])
        if taken.succeeded:
            log.info("%s leads the experiments", name)
            await until_lost(lease, work(create_revision_is(key, taken.revision)))
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S):
                await lease.lost.wait()


async def until_lost(lease: Lease, work: Awaitable[None]) -> None:
    """Raises what the work does."""
    working, lost = asyncio.ensure_future(work), asyncio.ensure_future(lease.lost.wait())
    try:
        await asyncio.wait((working, lost), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        else:
            log.warning("the lead is lost: etcd was out of reach for too long")
    finally:
        for task in (working, lost):
            task.cancel()
        await asyncio.wait((working, lost))
