"""What a host tells of itself: to whoever asks it, and to etcd."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
from google.protobuf import json_format

from services.runtime.controller import Controller
from services.runtime.desired import observed_key
from services.runtime.errors import DomainError
from services.runtime.etcd import Etcd
from services.runtime.processor import Processor, place
from services.runtime.resident import Phase, Resident
from services.runtime.slot import Slot
from services.runtime.wanted import Problem
from talkmesh.model.v1 import model_pb2, model_pb2_grpc

LEASE_S = 5
RETRY_S = 0.5
SETTLE_S = 0.005
"""Changes come in bursts: the rest of one is waited for before it is told again."""
HEARTBEAT_S = 1.0
log = logging.getLogger(__name__)


class Report:
    """The state of a host, put together when it is wanted."""

    def __init__(self, controller: Controller, instance: str, address: str) -> None:
        self._controller = controller
        self.service = controller.service.name
        self.instance = instance
        self.address = address
        self.freshness: Callable[[], model_pb2.Freshness.ValueType] = lambda: model_pb2.FRESHNESS_STANDALONE
        self.revision: Callable[[], int] = lambda: 0
        self.problems: Callable[[], list[Problem]] = list
        self.stale_s: Callable[[], float] = float
        self._processor = Processor(controller.serving_pids)

    def host(self) -> model_pb2.HostStatus:
        """All of it."""
        controller = self._controller
        return model_pb2.HostStatus(
            service=self.service,
            instance=self.instance,
            address=self.address,
            freshness=self.freshness(),
            revision=self.revision(),
            slots=[slot_status(slot) for slot in controller.slots.values()],
            models=[self._model(resident) for resident in controller.residents],
            problems=[model_pb2.Problem(key=p.key, field=p.field, reason=p.reason) for p in self.problems()],
            processor=model_pb2.Processor(**place()._asdict(), used=self._processor.used()),
        )

    def _model(self, resident: Resident) -> model_pb2.ModelStatus:
        serving = next((s for s in self._controller.slots.values() if s.name in resident.slots), None)
        generation = serving.serving.generation if serving and serving.serving else 0
        return model_status(resident, serving.name if serving else "", generation)

    async def states(self, interval_s: float = SETTLE_S) -> AsyncIterator[model_pb2.HostStatus]:
        """The state now, and again whenever it has changed; what grows and shrinks all the time, once a second."""
        told, told_at = model_pb2.HostStatus(), 0.0
        while True:
            state = self.host()
            due = time.monotonic() - told_at >= HEARTBEAT_S
            if structure(state) != structure(told) or (due and state != told):
                told, told_at = state, time.monotonic()
                yield state
                await asyncio.sleep(interval_s)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._controller.bell.heard()


def structure(state: model_pb2.HostStatus) -> model_pb2.HostStatus:
    """A state without what changes from moment to moment."""
    bare = model_pb2.HostStatus()
    bare.CopyFrom(state)
    bare.processor.ClearField("used")
    for model in bare.models:
        model.ClearField("streams")
        model.ClearField("rss_bytes")
        model.ClearField("vram_bytes")
    return bare


def slot_status(slot: Slot) -> model_pb2.SlotStatus:
    """A slot, and how far it is on the way to what is wanted."""
    serving = slot.serving
    return model_pb2.SlotStatus(
        slot=slot.name,
        model=serving.resident.model if serving else "",
        generation=serving.generation if serving else 0,
        wanted_model=slot.wanted.model,
        wanted_generation=slot.wanted_generation,
        phase=model_pb2.Phase.ValueType(slot.phase.value),
        error=slot.error,
        timings=seconds(slot.timings),
        rss_before_bytes=slot.rss_before,
        rss_after_bytes=slot.rss_after,
    )


def model_status(resident: Resident, slot: str, generation: int) -> model_pb2.ModelStatus:
    """A resident, and the first of the slots that it serves."""
    return model_pb2.ModelStatus(
        model=model_pb2.ServingModel(
            service=resident.service.name,
            model=resident.model,
            engine=resident.spec.engine,
            digest=f"sha256:{resident.spec.sha256}" if resident.spec.sha256 else "",
            slot=slot,
            slot_generation=generation,
        ),
        phase=model_pb2.Phase.ValueType(resident.phase.value),
        streams=resident.streams,
        pid=resident.pid,
        rss_bytes=resident.rss_bytes,
        vram_bytes=resident.vram_bytes,
        restarts=resident.restarts,
        load_seconds=resident.load_s,
        last_error=resident.last_error,
        slots=sorted(resident.slots),
        preloaded=resident.preloaded,
        interface=resident.interface.proto(),
        timings=seconds(resident.timings),
    )


def seconds(timings: Mapping[Phase, float]) -> list[model_pb2.PhaseSeconds]:
    return [
        model_pb2.PhaseSeconds(phase=model_pb2.Phase.ValueType(phase.value), seconds=spent)
        for phase, spent in timings.items()
    ]


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Tells what this host holds and wants."""

    def __init__(self, service: str, report: Report) -> None:
        self._service = service
        self._report = report
        self._ending = asyncio.Event()

    def end(self) -> None:
        """End the streams that watch: an open one would use up the whole of a drain's grace."""
        self._ending.set()

    async def ListModels(
        self, request: model_pb2.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> model_pb2.ListModelsResponse:
        state = self._report.host()
        return model_pb2.ListModelsResponse(service=self._service, models=state.models, slots=state.slots)

    # The stubs know generators only; this other form, which grpc supports as well, can end while it waits.
    async def WatchModels(  # type: ignore[override]  # stubs know only the synchronous kind
        self, request: model_pb2.WatchModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        async def tell() -> None:
            async for state in self._report.states():
                await context.write(model_pb2.WatchModelsResponse(host=state))

        telling, ending = asyncio.create_task(tell()), asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait((telling, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            telling.cancel()
            ending.cancel()
            await asyncio.gather(telling, ending, return_exceptions=True)


async def announce(etcd: Etcd, report: Report) -> None:
    """Keep a host's state in etcd, under a lease, until cancelled: it is gone there soon after the host is."""
    key = observed_key(report.service, report.instance)
    while True:
        try:
            async with etcd.lease(LEASE_S) as lease:
                lost = asyncio.create_task(lease.lost.wait())
                try:
                    await until_lost(etcd, key, lease.id, report, lost)
                finally:
                    lost.cancel()
        except DomainError as error:
            log.debug("the state could not be told to etcd: %s", error)
        await asyncio.sleep(RETRY_S)


async def until_lost(etcd: Etcd, key: str, lease: int, report: Report, lost: "asyncio.Task[bool]") -> None:
    """Write each state until the lease is lost. Raises what etcd says against a write."""

    async def tell() -> None:
        async for state in report.states():
            await etcd.put(key, json_format.MessageToJson(state, preserving_proto_field_name=True, indent=None), lease)

    telling = asyncio.create_task(tell())
    try:
        await asyncio.wait((telling, lost), return_when=asyncio.FIRST_COMPLETED)
        if telling.done():
            telling.result()
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
