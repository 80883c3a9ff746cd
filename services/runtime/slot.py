"""A slot: a named place for a model in a service, and the leases that streams take on what is in it."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from services.runtime.desired import STABLE, SlotWish
from services.runtime.errors import Drained, NotFound, Unavailable
from services.runtime.resident import Phase, Resident
from services.runtime.usage import Usage

REMEMBERED = 8


@dataclass(eq=False)
class Lease:
    """A stream's hold on the engine process it started on, until the stream ends."""

    resident: Resident
    channel: grpc.aio.Channel
    slot: str
    generation: int
    _timeout: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))
    drained: bool = False

    def end(self) -> None:
        """End the stream now: its model's time is over."""
        if not self.drained:
            self.drained = True
            self._timeout.reschedule(asyncio.get_running_loop().time())


@dataclass(frozen=True)
class Serving:
    """Which resident serves a slot's new streams, and since which generation."""

    resident: Resident
    generation: int
    wish: SlotWish


@dataclass
class Slot:
    """`serving` is replaced in one assignment; streams that hold a lease keep what they have."""

    name: str
    serving: Serving | None = None
    before: deque[Serving] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """What served before, the newest last: good models all, for they came to serve and were not taken back."""
    bad: set[int] = field(default_factory=set)
    """Generations that were taken back because their model misbehaved."""
    usage: Usage | None = None
    wanted: SlotWish = field(default_factory=SlotWish)
    wanted_generation: int = 0
    phase: Phase = Phase.UNLOADED
    """Where the wanted generation stands while it does not serve: one of the phases on the way up, or FAILED."""
    error: str = ""
    timings: dict[Phase, float] = field(default_factory=dict)
    rss_before: int = 0
    rss_after: int = 0

    @property
    def ready(self) -> Serving | None:
        """What a stream that begins now is served by: while the model is being started again, the one before stands in."""
        if self.serving is None or self.serving.resident.channel:
            return self.serving
        stand_in = self.before[-1] if self.before else None
        return stand_in if stand_in and stand_in.resident.channel else None

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """Hold the slot's model for one stream.

        Raises Unavailable while it has no engine process, and Drained when the stream has not ended in the time it had.
        """
        serving = self.ready
        if serving is None or serving.resident.channel is None:
            raise Unavailable(self.not_ready())
        resident = serving.resident
        lease = Lease(resident, serving.resident.channel, self.name, serving.generation)
        resident.leases.add(lease)
        if self.usage:
            self.usage.count(resident.model)
        try:
            async with lease._timeout:
                yield lease
        except TimeoutError:
            if not lease.drained:
                raise
            raise Drained(f"{resident.service.name}: model {resident.model!r} has given way to another") from None
        finally:
            resident.leases.discard(lease)
            resident.used_at = time.monotonic()
            if not resident.slots:
                resident.bell.ring()

    def not_ready(self) -> str:
        """Why there is nothing to lease now."""
        if self.serving is None:
            state = f"model {self.wanted.model!r} is not ready ({self.phase.name.lower()})"
            return f"{state}: {self.error}" if self.error else state
        return not_ready(self.serving.resident)


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


def find(slots: Mapping[str, Slot], name: str) -> Slot:
    """The slot that a call asks for, "stable" for "". Raises NotFound."""
    if (found := slots.get(name or STABLE)) is None:
        raise NotFound("slot", name, slots)
    return found
