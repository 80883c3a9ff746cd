"""Leases: keys that go when their owner does."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.runtime.etcd_members import Member, Members, Metadata
from services.runtime.etcd_streams import Broken, Stream
from services.runtime.etcd_types import EtcdAway, EtcdRefused
from services.runtime.etcdpb import rpc_pb2

RENEWALS = 3
AGAIN_S = 0.2
ANSWER_S = 2.0
REVOKE_S = 1.0


@dataclass(frozen=True)
class Lease:
    """A lease that is being kept alive.

    `lost` is set when it has expired or was revoked, and when it could not be renewed for `ttl_s` seconds, after which etcd
    may have let it go unseen. `ttl_s` is what etcd has granted, which may be more than was asked for.
    """

    id: int
    ttl_s: int
    lost: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def kept(members: Members, ttl_s: int) -> AsyncIterator[Lease]:
    """A lease, renewed until this is left, then revoked if etcd can be reached. Raises EtcdAway and EtcdRefused."""
    began = time.monotonic()
    request = rpc_pb2.LeaseGrantRequest(ttl=ttl_s)
    granted = await members.write(lambda member: member.lease.LeaseGrant, request, f"lease of {ttl_s} s")
    lease = Lease(granted.id, granted.ttl)
    renewing = asyncio.create_task(keep_alive(members, lease, began + granted.ttl))
    try:
        yield lease
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])
        with contextlib.suppress(EtcdAway, EtcdRefused, TimeoutError):
            async with asyncio.timeout(REVOKE_S):
                revoke = rpc_pb2.LeaseRevokeRequest(id=lease.id)
                await members.write(lambda member: member.lease.LeaseRevoke, revoke, "end of a lease")


async def keep_alive(members: Members, lease: Lease, expires: float) -> None:
    """Renew a lease until it is lost. `expires`: when etcd may let it go, on the monotonic clock."""
    try:
        while (now := time.monotonic()) < expires:
            ttl_s = await renewed(members, lease, min(ANSWER_S, expires - now))
            if ttl_s == 0:
                return
            if ttl_s:
                # From when it was asked for: etcd's own count begins later, so it never ends sooner.
                expires = now + ttl_s
            await asyncio.sleep(ttl_s / RENEWALS if ttl_s else AGAIN_S)
    finally:
        lease.lost.set()


async def renewed(members: Members, lease: Lease, timeout_s: float) -> int | None:
    """The seconds that a lease has got now; 0 if there is no such lease any more, None if nobody answers."""
    try:
        async with asyncio.timeout(timeout_s):
            member = await members.ready()
            metadata = await members.metadata(member)
            try:
                return await renewed_by(member, lease, metadata)
            except BaseException:
                members.distrust(member)
                raise
    except (Broken, EtcdAway, EtcdRefused, TimeoutError):
        return None


async def renewed_by(member: Member, lease: Lease, metadata: Metadata) -> int:
    """The seconds that one member gives to a lease. Raises Broken."""
    stream = Stream(member.lease.LeaseKeepAlive(metadata=metadata))
    try:
        await stream.send(rpc_pb2.LeaseKeepAliveRequest(id=lease.id))
        return (await stream.receive()).ttl
    finally:
        stream.cancel()
