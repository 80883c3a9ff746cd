"""A real etcd and real hosts of the echo service that follow it, for tests of swaps."""

import asyncio
import json
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format

from services.runtime.desired import (
    PREFIX,
    HistoryEntry,
    generation_of,
    model_key,
    observed_key,
    parsed,
    slot_key,
)
from services.runtime.etcd import Etcd, Get, Put, connected, etcd_settings
from talkmesh.model.v1 import model_pb2
from tests.fakes.hosts import Host, Talk, running, until
from tools.etcd import LocalEtcd, running_etcd

SERVICE = "echo"
SOON_S = 20.0
PARROTS = ("a", "b", "c")


@dataclass
class Stage:
    """An etcd with a catalog of parrots, and the hosts that follow it."""

    server: LocalEtcd
    etcd: Etcd
    folder: Path
    hosts: dict[str, Host] = field(default_factory=dict)
    open: Talk | None = None

    @property
    def host(self) -> Host:
        return next(iter(self.hosts.values()))

    def hang_up(self) -> None:
        """End the stream that was left open, if there is one."""
        if self.open:
            self.open.call.cancel()

    async def add(self, model: str, **entry: Any) -> None:
        """An entry of the catalog."""
        await self.etcd.put(model_key(SERVICE, model), json.dumps({"engine": "echo", **entry}))

    async def want(self, model: str, slot: str = "stable", **wish: Any) -> int:
        """Put a slot as a person would, and return its generation."""
        return await self.put_slot(json.dumps({"model": model, **wish}), slot)

    async def put_slot(self, value: str, slot: str = "stable") -> int:
        key = slot_key(SERVICE, slot)
        done = await self.etcd.transact([], [Put(key, value), Get(key)])
        kv = next(kv for found in done.results for kv in found)
        return generation_of(kv.create_revision, kv.version)

    async def observed(self, instance: str = "one") -> model_pb2.HostStatus:
        """What a host tells of itself in etcd; nothing if it is not there."""
        kv = await self.etcd.get(observed_key(SERVICE, instance))
        return json_format.Parse(kv.value, model_pb2.HostStatus()) if kv else model_pb2.HostStatus()

    async def slot(self, name: str = "stable", instance: str = "one") -> model_pb2.SlotStatus:
        found = await self.observed(instance)
        return next((slot for slot in found.slots if slot.slot == name), model_pb2.SlotStatus())

    async def models(self, instance: str = "one") -> dict[str, model_pb2.ModelStatus]:
        return {status.model.model: status for status in (await self.observed(instance)).models}

    async def serves(self, model: str, generation: int = 0, slot: str = "stable", within_s: float = SOON_S) -> None:
        """Wait until every host says that the slot serves a model, at a generation if one is given."""

        async def do() -> bool:
            found = [await self.slot(slot, instance) for instance in self.hosts]
            return all(each.model == model and generation in (0, each.generation) for each in found)

        await until(do, within_s)

    async def fails(self, generation: int, slot: str = "stable", within_s: float = SOON_S) -> str:
        """Wait until the host says that it will not serve a generation; returns why."""

        async def has() -> bool:
            found = await self.slot(slot)
            return found.wanted_generation == generation and found.phase == model_pb2.PHASE_FAILED

        await until(has, within_s)
        return (await self.slot(slot)).error

    async def phase(self, model: str, phase: model_pb2.Phase.ValueType, within_s: float = SOON_S) -> None:
        """Wait until a model is in a phase."""

        async def is_there() -> bool:
            found = (await self.models()).get(model)
            return found is not None and found.phase == phase

        await until(is_there, within_s)

    async def gone(self, model: str, within_s: float = SOON_S) -> None:
        """Wait until the host holds a model no more."""

        async def is_gone() -> bool:
            return model not in await self.models()

        await until(is_gone, within_s)

    async def history(self, slot: str = "stable") -> list[HistoryEntry]:
        listing = await self.etcd.list(f"{PREFIX}history/{SERVICE}/{slot}/")
        return [parsed(HistoryEntry, kv.value) for kv in listing.kvs]

    async def talk(self, slot: str = "") -> tuple[Talk, model_pb2.ServingModel]:
        """A new stream, and what serves it."""
        metadata = (("talkmesh-want-slot", slot),) if slot else ()
        talk = self.host.talk(metadata=metadata)
        try:
            return talk, (await talk.start()).model
        except (grpc.aio.AioRpcError, EOFError, asyncio.InvalidStateError):
            raise await talk.failure() from None

    async def served_by(self) -> str:
        """The model that serves a new stream."""
        talk, model = await self.talk()
        await talk.finish()
        return str(model.model)


@asynccontextmanager
async def stage(
    *arguments: str,
    instances: int = 1,
    catalog: Mapping[str, Mapping[str, Any]] | None = None,
    first: str = "a",
    clean: bool = True,
    environment: Mapping[str, str] | None = None,
    quota_bytes: int = 0,
) -> AsyncIterator[Stage]:
    """An etcd, its catalog, and hosts "one", "two", … that serve `first`."""
    folder = Path(tempfile.mkdtemp(prefix="tm-stage-"))
    try:
        async with AsyncExitStack() as stack:
            extra = ("--quota-backend-bytes", str(quota_bytes)) if quota_bytes else ()
            server = await stack.enter_async_context(running_etcd(folder / "etcd", extra=extra, sync=False))
            etcd = await stack.enter_async_context(connected(etcd_settings(server.endpoint)))
            made = Stage(server, etcd, folder)
            for name, entry in (catalog or {name: {} for name in PARROTS}).items():
                await made.add(name, **entry)
            if first:
                await made.want(first)
            for name in ("one", "two", "three")[:instances]:
                own = following(made, name, *arguments)
                host = running({}, *own, ready=bool(first), clean=clean, environment=environment)
                made.hosts[name] = await stack.enter_async_context(host)
            if first:
                await made.serves(first)
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def following(made: Stage, name: str, *arguments: str) -> tuple[str, ...]:
    """The command line of a host that follows a stage's etcd."""
    state = str(made.folder / f"{name}.json")
    return ("--etcd", made.server.endpoint, "--instance", name, "--state", state, *arguments)


def stop(host: Host) -> None:
    """`kill -9`."""
    host.signal(signal.SIGKILL)
