"""The host: a service's public face. It owns the port, the health and the slots, and never imports an inference library."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any

import grpc

from services.runtime import lifeline, sources
from services.runtime.controller import Controller, Defaults
from services.runtime.desired import STABLE
from services.runtime.engine import ModelSpec, Service
from services.runtime.engine_process import service_in
from services.runtime.errors import DomainError, LoadFailed, NotFound
from services.runtime.etcd import Etcd, connected
from services.runtime.exposition import exposed
from services.runtime.following import Following, Neighbourhood
from services.runtime.forwarding import Forwarder
from services.runtime.metering import Meter, StateCollector
from services.runtime.reporting import ModelServicer, Report, announce
from services.runtime.serve import HealthReport, PortTaken, listening, two_stage_exit
from services.runtime.settings import ServiceSettings, chosen, read_catalog, service_settings
from services.runtime.telemetry import start_logging
from services.runtime.wanted import Desired, standalone
from talkmesh.model.v1 import model_pb2, model_pb2_grpc

MODEL_SERVICE = model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
log = logging.getLogger(__name__)


async def report_health(controller: Controller, health: HealthReport) -> None:
    """Say SERVING exactly while streams of the slot "stable" are served."""
    while True:
        rung = controller.bell.next
        await health.say(serving=is_up(controller))
        await rung.wait()


def is_up(controller: Controller) -> bool:
    ready = controller.slots[STABLE].ready
    return ready is not None and ready.resident.channel is not None


async def host(service: Service, settings: ServiceSettings) -> None:
    """Serve until told to stop. Raises PortTaken, and DomainError for settings that cannot work."""
    meter, neighbourhood = Meter(service.name), Neighbourhood(service.name)
    defaults = Defaults(settings.drain_s, settings.standby_s)
    controller = Controller(service, defaults, meter, neighbourhood.interfaces)
    report = Report(controller, settings.instance or f"{socket.gethostname()}-{os.getpid()}", settings.advertise)
    servicer = ModelServicer(service.name, report)
    access = settings.etcd_access()
    desired = None if access else standing(service, settings)

    def attach(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((Forwarder(service.grpc_name, controller.slots, meter),))
        model_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)

    names = (service.grpc_name, MODEL_SERVICE)
    state = StateCollector(controller, lambda: report.stale_s())  # noqa: PLW0108  what it calls is set later
    figures = exposed(settings.metrics, meter.registry, state)
    async with (
        two_stage_exit() as drain,
        controller.running(),
        figures,
        listening(settings.listen, names, attach, settings.grace_s) as (port, health),
        keeping(report_health(controller, health)),
        AsyncExitStack() as stack,
    ):
        report.address = report.address or f"{settings.listen.rpartition(':')[0]}:{port}"
        if access:
            etcd = await stack.enter_async_context(connected(access))
            following = Following(etcd, controller, neighbourhood, settings.state)
            await stack.enter_async_context(followed(etcd, following, report))
        elif desired:
            controller.want(desired)
        await drain.wait()
        servicer.end()


def standing(service: Service, settings: ServiceSettings) -> Desired:
    """What is wanted, for good, of a host without etcd. Raises DomainError for what cannot be."""
    catalog = read_catalog(settings.catalog)
    model, spec = chosen(catalog, settings.model)
    check(service, spec)
    return standalone(service.name, catalog, model)


@contextlib.asynccontextmanager
async def followed(etcd: Etcd, following: Following, report: Report) -> AsyncIterator[None]:
    """Follow etcd, and tell it how this host does, for the time of the body."""
    report.freshness = lambda: following.freshness
    report.revision = lambda: following.revision
    report.problems = lambda: following.problems
    report.stale_s = lambda: following.stale_s
    async with keeping(following.run()), keeping(announce(etcd, report)):
        yield


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
