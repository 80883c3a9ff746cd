"""What an operator does and sees through etcd: which model a slot is to serve, and what the hosts say of it."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from google.protobuf import json_format

from services.runtime.desired import (
    STABLE,
    Budget,
    SlotWish,
    budget_key,
    generation_of,
    model_key,
    observed_key,
    slot_key,
)
from services.runtime.engine import ModelSpec
from services.runtime.etcd import Changes, Etcd, Get, KeyValue, Put, Snapshot, connected, etcd_settings
from talkmesh.model.v1 import model_pb2

REMEMBERED = 200
ETCD_S = 30.0
"""On cores that are all busy etcd, too, takes its time; a bench need not be told that as an error."""
OBSERVED_S = 60.0
"""The longest that a swap may take."""


class SwapFailed(Exception):
    """A model that was wanted is not served."""


@dataclass(frozen=True)
class Wish:
    """A slot's key as it was put."""

    service: str
    model: str
    revision: int
    generation: int
    began: float
    """Just before it was put, in seconds of time.monotonic."""


@dataclass(frozen=True)
class Sight:
    """What a host said, and when that was seen."""

    at: float
    host: model_pb2.HostStatus

    @property
    def slot(self) -> model_pb2.SlotStatus:
        """Its slot "stable"; empty if it has none."""
        return next((slot for slot in self.host.slots if slot.slot == STABLE), model_pb2.SlotStatus())

    def serves(self, wish: Wish) -> bool:
        return self.slot.generation == wish.generation and self.slot.model == wish.model

    def pid(self) -> int:
        """The engine process behind the slot; 0 if there is none."""
        return next((model.pid for model in self.host.models if STABLE in model.slots), 0)


@dataclass
class Operator:
    """Used through `operating`."""

    etcd: Etcd
    service: str
    instances: list[str]
    sights: deque[Sight] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """The newest, oldest first."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def offer(self, models: Mapping[str, ModelSpec], budget: Budget) -> None:
        """Write the catalog and what may be resident."""
        await self.etcd.put(budget_key(self.service), budget.model_dump_json())
        for name, spec in models.items():
            await self.etcd.put(model_key(self.service, name), spec.model_dump_json(exclude_defaults=True))

    async def want(self, model: str, drain_s: float | None = None, standby_s: float | None = None) -> Wish:
        """Put the slot's key."""
        key = slot_key(self.service)
        wish = SlotWish(model=model, drain_s=drain_s, standby_s=standby_s, actor="bench")
        began = time.monotonic()
        done = await self.etcd.transact((), (Put(key, wish.model_dump_json(exclude_defaults=True)), Get(key)))
        kv = done.results[0][0]
        return Wish(self.service, model, done.revision, generation_of(kv.create_revision, kv.version), began)

    async def served(self, wish: Wish) -> dict[str, Sight]:
        """By instance: when every host serves a wish, how each said so. Raises SwapFailed."""
        return await self.seen(lambda sight: sight.serves(wish), wish)

    async def acted_on(self, wish: Wish) -> dict[str, Sight]:
        """By instance: how each host first said that it knows of a wish. Raises SwapFailed."""
        return await self.seen(lambda sight: sight.host.revision >= wish.revision, wish)

    async def seen(self, found: Callable[[Sight], bool], wish: Wish) -> dict[str, Sight]:
        """By instance: the first sight of each host that is as wanted."""
        first: dict[str, Sight] = {}
        try:
            async with asyncio.timeout(OBSERVED_S), self.changed:
                while True:
                    for sight in self.sights:
                        if sight.at > wish.began and found(sight):
                            first.setdefault(sight.host.instance, sight)
                    if first.keys() >= set(self.instances):
                        return first
                    self.refuse_hopeless(wish)
                    await self.changed.wait()
        except TimeoutError:
            raise SwapFailed(f"not seen within {OBSERVED_S:g} s: {wish.model} as {wish.generation}") from None

    def refuse_hopeless(self, wish: Wish) -> None:
        """Raises SwapFailed when a host says that a wish has failed."""
        for sight in self.sights:
            slot = sight.slot
            if slot.wanted_generation == wish.generation and slot.phase == model_pb2.PHASE_FAILED:
                raise SwapFailed(f"{sight.host.instance}: {wish.model}: {slot.error}")

    async def follow(self) -> None:
        """Keep `sights` at what the hosts write, until cancelled."""
        prefix = observed_key(self.service, "")
        async for heard in self.etcd.watch(prefix):
            match heard:
                case Snapshot(kvs=kvs):
                    found = list(kvs.values())
                case Changes(events=events):
                    found = [event.kv for event in events if not event.deleted]
                case _:
                    continue
            await self.take(found)

    async def take(self, kvs: list[KeyValue]) -> None:
        now = time.monotonic()
        async with self.changed:
            for kv in kvs:
                host = json_format.Parse(kv.value, model_pb2.HostStatus(), ignore_unknown_fields=True)
                self.sights.append(Sight(now, host))
            self.changed.notify_all()


def patient(endpoint: str) -> AbstractAsyncContextManager[Etcd]:
    """A client of etcd that waits longer than hosts do."""
    return connected(etcd_settings(endpoint, timeout_s=ETCD_S))


@asynccontextmanager
async def operating(etcd: Etcd, service: str, instances: list[str]) -> AsyncIterator[Operator]:
    """An operator of one service, who watches these hosts of it."""
    operator = Operator(etcd, service, instances)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(operator.follow())
        try:
            yield operator
        finally:
            following.cancel()


def phases_ms(slot: model_pb2.SlotStatus) -> dict[str, float]:
    """Time in each phase of the way up, by its name in lower case."""
    return {
        model_pb2.Phase.Name(spent.phase).removeprefix("PHASE_").lower(): 1000 * spent.seconds for spent in slot.timings
    }
