"""What a gateway does for experiments in the background, for as long as it runs."""

import asyncio
import logging

from gateway.experiments.control import FlagControl
from gateway.experiments.guard import Guard
from gateway.experiments.leader import leading
from gateway.experiments.ramping import Ramping
from gateway.experiments.tallies import Tallies
from gateway.experiments.tripping import Trips, Trouble
from services.runtime.errors import DomainError
from services.runtime.etcd import Etcd

TELL_S, TTL_S, AGAIN_S = 0.5, 10, 1.0
log = logging.getLogger(__name__)


async def keep(etcd: Etcd, flags: FlagControl, guard: Guard, trouble: Trouble, gateway: str) -> None:
    """Follow the flags, tell of the sessions here, look for what is not served, and let ramps grow while this one leads."""
    registry = flags.registry
    ramping = Ramping(etcd, registry, flags, gateway)
    async with asyncio.TaskGroup() as group:
        group.create_task(registry.follow(etcd))
        group.create_task(telling(etcd, Tallies(registry, guard, gateway)))
        group.create_task(Trips(etcd, registry, guard, trouble, gateway).work())
        group.create_task(leading(etcd, gateway, ramping.work))


async def telling(etcd: Etcd, tallies: Tallies) -> None:
    """Write the tallies under a lease of this gateway's, until cancelled."""
    while True:
        tallies.forget()
        try:
            async with etcd.lease(TTL_S) as lease:
                while not lease.lost.is_set():
                    await tallies.tell(etcd, lease.id)
                    await asyncio.sleep(TELL_S)
        except DomainError as error:
            log.info("the sessions of experiments cannot be told: %s", error)
        await asyncio.sleep(AGAIN_S)
