"""Keeping up with etcd, for as long as a gateway runs."""

import asyncio
from collections.abc import Callable

from services.runtime.errors import DomainError
from services.runtime.etcd import Away, Etcd, Heard

AGAIN_S = 1.0


async def follow(etcd: Etcd, prefix: str, take: Callable[[Heard], None]) -> None:
    """Tell `take` all that is heard of the keys below a prefix, until cancelled. A watch that fails is heard as Away."""
    while True:
        try:
            async for heard in etcd.watch(prefix):
                take(heard)
        except DomainError as error:
            take(Away(str(error)))
        await asyncio.sleep(AGAIN_S)
