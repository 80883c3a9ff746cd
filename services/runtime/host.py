"""The host: a service's public face. It owns the port, the health and the slots, and never imports an inference library."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import grpc

from services.runtime import lifeline, sources
from services.runtime.engine import ModelSpec, Service
from services.runtime.engine_process import service_in
from services.runtime.errors import DomainError, LoadFailed, NotFound
from services.runtime.forwarding import Forwarder
from services.runtime.resident import Resident
from services.runtime.serve import HealthReport, PortTaken, listening, two_stage_exit
from services.runtime.settings import ServiceSettings, chosen, read_catalog, service_settings
from services.runtime.slot import Slot
from services.runtime.telemetry import start_logging
from talkmesh.model.v1 import model_pb2, model_pb2_grpc

STABLE = "stable"
MODEL_SERVICE = model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
log = logging.getLogger(__name__)


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Tells what this host has loaded."""

    def __init__(self, service: str, slots: list[Slot]) -> None:
        self._service = service
        self._slots = slots

    async def ListModels(
        self, request: model_pb2.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> model_pb2.ListModelsResponse:
        return model_pb2.ListModelsResponse(service=self._service, models=[status_of(slot) for slot in self._slots])


def status_of(slot: Slot) -> model_pb2.ModelStatus:
    """The state of the model in a slot."""
    resident = slot.active
    return model_pb2.ModelStatus(
        model=model_pb2.ServingModel(
            service=resident.service.name,
            model=resident.model,
            engine=resident.spec.engine,
            digest=f"sha256:{resident.spec.sha256}" if resident.spec.sha256 else "",
            slot=slot.name,
            slot_generation=slot.generation,
        ),
        phase=model_pb2.Phase.ValueType(resident.phase.value),
        streams=resident.streams,
        pid=resident.pid,
        rss_bytes=resident.rss_bytes,
        restarts=resident.restarts,
        load_seconds=resident.load_s,
        last_error=resident.last_error,
    )


async def report_health(resident: Resident, health: HealthReport) -> None:
    """Say SERVING exactly while the model has an engine process."""
    async with resident.changed:
        while True:
            await health.say(serving=resident.channel is not None)
            await resident.changed.wait()


async def host(service: Service, settings: ServiceSettings) -> None:
    """Serve until told to stop. Raises PortTaken, and DomainError for settings that cannot work."""
    model, spec = chosen(read_catalog(settings.catalog), settings.model)
    check(service, spec)
    resident = Resident(service, model, spec)
    slot = Slot(STABLE, resident)

    def attach(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((Forwarder(service.grpc_name, slot),))
        model_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(service.name, [slot]), server)

    names = (service.grpc_name, MODEL_SERVICE)
    async with (
        two_stage_exit() as drain,
        keeping(resident.run()),
        listening(settings.listen, names, attach, settings.grace_s) as (_, health),
        keeping(report_health(resident, health)),
    ):
        await drain.wait()


def check(service: Service, spec: ModelSpec) -> None:
    """Find out what is wrong with a catalog entry as far as that can be told without its engine.

    Raises NotFound for an unknown engine and InvalidInput for a source that is not allowed. A source that is only missing
    may yet come (a volume, an installation): that shows when the model is loaded, which is tried again.
    """
    service.engine_path(spec)
    with contextlib.suppress(LoadFailed, NotFound, OSError):
        sources.resolve(spec.source)


@contextlib.asynccontextmanager
async def keeping(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine beside the body, cancelled and awaited on leaving; its failure ends the body."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        try:
            yield
        finally:
            task.cancel()


def run(service: Service, settings: ServiceSettings) -> None:
    """Host a service until told to stop. Ends the process with status 2 when it cannot begin."""
    lifeline.die_with_parent_if_asked()
    start_logging(service.name, settings.log_level)
    try:
        asyncio.run(host(service, settings))
    except* (PortTaken, DomainError) as group:
        for error in leaves(group):
            log.error("%s", error)
        sys.exit(2)


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The exceptions of a group and of the groups in it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


def main(name: str) -> None:
    """The entry point of `python -m services.{name}`."""
    run(service_in(f"services.{name}.servicer"), service_settings(name))
