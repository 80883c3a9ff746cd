"""A control plane on a real etcd, and hosts that are nothing but what they would write about themselves."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import json_format

from gateway.admin import AdminServicer, administered
from gateway.experiments.control import FlagControl
from gateway.experiments.registry import Registry
from services.runtime import channels, desired
from services.runtime.etcd import Compare, Etcd, EtcdAway, Operation, Transaction
from services.runtime.resident import cancelled_at_end
from talkmesh.admin.v1 import admin_pb2_grpc
from talkmesh.model.v1 import model_pb2

CATALOG: dict[str, dict[str, dict[str, Any]]] = {
    "tts": {
        "heart": {"engine": "hibari", "options": {"voice": "heart", "gain_db": 1.2}},
        "joe": {"engine": "vits", "source": "package:joe/data", "sha256": "ab" * 32},
        "ann": {"engine": "vits"},
    },
    "llm": {"small": {"engine": "ctranslate2"}},
}


async def write_catalog(etcd: Etcd) -> None:
    for service, models in CATALOG.items():
        for model, entry in models.items():
            await etcd.put(desired.model_key(service, model), json.dumps(entry))


@asynccontextmanager
async def administration(etcd: Etcd | None, stopping: asyncio.Event | None = None) -> AsyncIterator[AdminServicer]:
    """A control plane that follows etcd. To its experiments every slot is there but "missing"."""
    flags = FlagControl(etcd, Registry(lambda service, slot: slot != "missing"))
    following = [flags.registry.follow(etcd)] if etcd else []
    async with administered(etcd, stopping or asyncio.Event(), flags) as servicer, cancelled_at_end(*following):
        yield servicer


@asynccontextmanager
async def control_plane(etcd: Etcd | None, port: int = 0) -> AsyncIterator[tuple[str, grpc.aio.Channel]]:
    """An AdminService on a port of its own: its address, and a channel to it. Its watches are let go of on leaving."""
    stopping = asyncio.Event()
    async with administration(etcd, stopping) as servicer:
        server = channels.server()
        admin_pb2_grpc.add_AdminServiceServicer_to_server(servicer, server)
        taken = server.add_insecure_port(f"127.0.0.1:{port}")
        address = f"127.0.0.1:{taken}"
        await server.start()
        try:
            async with channels.channel(address) as channel:
                yield address, channel
        finally:
            stopping.set()
            await server.stop(1)


@dataclass
class Told:
    """A host that tells of one slot what the test wants it to."""

    etcd: Etcd
    service: str = "tts"
    instance: str = "tts-1"
    slot: str = "stable"
    model: str = "heart"
    generation: int = 0

    async def tell(
        self,
        phase: "model_pb2.Phase.ValueType" = model_pb2.PHASE_ACTIVE,
        wanted: str = "",
        wanted_generation: int = 0,
        error: str = "",
        streams: int = 0,
    ) -> None:
        """Write what a host of this state would write; without `wanted` it has what it wants."""
        status = model_pb2.SlotStatus(
            slot=self.slot,
            model=self.model,
            generation=self.generation,
            wanted_model=wanted or self.model,
            wanted_generation=wanted_generation or self.generation,
            phase=phase,
            error=error,
            timings=[
                model_pb2.PhaseSeconds(phase=model_pb2.PHASE_LOADING, seconds=1.25),
                model_pb2.PhaseSeconds(phase=model_pb2.PHASE_WARMING, seconds=0.5),
            ],
            rss_before_bytes=100 * 2**20,
            rss_after_bytes=160 * 2**20,
        )
        serving = model_pb2.ServingModel(service=self.service, model=self.model, engine="any")
        model = model_pb2.ModelStatus(
            model=serving, phase=model_pb2.PHASE_ACTIVE, streams=streams, rss_bytes=100 * 2**20, slots=[self.slot]
        )
        host = model_pb2.HostStatus(
            service=self.service,
            instance=self.instance,
            freshness=model_pb2.FRESHNESS_CURRENT,
            slots=[status],
            models=[model],
        )
        await self.etcd.put(desired.observed_key(self.service, self.instance), json_format.MessageToJson(host))

    async def serve(self, model: str, generation: int) -> None:
        """Serve a model by a generation from now on."""
        self.model, self.generation = model, generation
        await self.tell()

    async def leave(self) -> None:
        await self.etcd.delete(desired.observed_key(self.service, self.instance))


class Meanwhile(Etcd):
    """A real etcd where something happens just before the first transaction that matters: the interleaving one fears."""

    def __init__(self, etcd: Etcd, happens: Callable[[], Awaitable[object]]) -> None:
        super().__init__(etcd._members)
        self._happens: Callable[[], Awaitable[object]] | None = happens

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[Operation] = ()
    ) -> Transaction:
        happens, self._happens = self._happens, None
        if happens:
            await happens()
        return await super().transact(compares, then, otherwise)


class Lossy(Etcd):
    """A real etcd whose first answer to a transaction is lost, after it was applied or before it arrived."""

    def __init__(self, etcd: Etcd, applied: bool) -> None:
        super().__init__(etcd._members)
        self._applied = applied
        self._lost = False

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[Operation] = ()
    ) -> Transaction:
        if self._lost:
            return await super().transact(compares, then, otherwise)
        self._lost = True
        if self._applied:
            await super().transact(compares, then, otherwise)
        raise EtcdAway("the answer was lost", maybe_applied=True)
