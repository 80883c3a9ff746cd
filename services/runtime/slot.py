"""A slot: a named place for a model in a service, and the leases that streams take on what is in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from services.runtime.errors import Unavailable
from services.runtime.resident import Phase, Resident


@dataclass(frozen=True)
class Lease:
    """A stream's hold on the engine process it started on, until the stream ends."""

    resident: Resident
    channel: grpc.aio.Channel
    slot: str
    generation: int


@dataclass
class Slot:
    """`active` is replaced in one assignment; streams that hold a lease keep what they have."""

    name: str
    active: Resident
    generation: int = 1

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """Hold the active model for one stream. Raises Unavailable while it has no engine process."""
        resident = self.active
        if resident.channel is None:
            raise Unavailable(not_ready(resident))
        resident.streams += 1
        try:
            yield Lease(resident, resident.channel, self.name, self.generation)
        finally:
            resident.streams -= 1


def not_ready(resident: Resident) -> str:
    """Why a model cannot be leased now."""
    phase = resident.phase.name.lower()
    state = f"{resident.service.name}: model {resident.model!r} is not ready ({phase})"
    if not resident.last_error:
        return state
    return (
        f"{state}: {resident.last_error}"
        if resident.phase is Phase.FAILED
        else f"{state}; before: {resident.last_error}"
    )
