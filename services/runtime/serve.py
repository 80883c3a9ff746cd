"""A gRPC server from start to end: port, health, reflection, and an exit in two stages."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.runtime import channels

log = logging.getLogger(__name__)


class PortTaken(Exception):
    """The address to listen on cannot be had."""


class HealthReport:
    """What this server says of itself on grpc.health.v1, under "" and under each of its services' names."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = ("", *names)
        self.servicer = health.aio.HealthServicer()

    async def say(self, serving: bool) -> None:
        kind = health_pb2.HealthCheckResponse
        for name in self._names:
            await self.servicer.set(name, kind.SERVING if serving else kind.NOT_SERVING)


@asynccontextmanager
async def listening(
    address: str, names: Sequence[str], attach: Callable[[grpc.aio.Server], None], grace_s: float
) -> AsyncIterator[tuple[int, HealthReport]]:
    """A started server with health and reflection for the services `names`; yields its port and its health.

    On leaving, no new call is taken and the ones in flight get `grace_s` to end. Raises PortTaken.
    """
    server, report = channels.server(), HealthReport(names)
    attach(server)
    health_pb2_grpc.add_HealthServicer_to_server(report.servicer, server)
    reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise PortTaken(
            f"cannot listen on {address}: the port is in use or the address is not this machine's"
        ) from error
    await server.start()
    log.info("listening on %s", address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}")
    try:
        yield port, report
    finally:
        await report.servicer.enter_graceful_shutdown()
        await asyncio.shield(server.stop(grace_s))


@asynccontextmanager
async def stop_signals() -> AsyncIterator[tuple[asyncio.Event, asyncio.Event]]:
    """Two events: set by the first SIGTERM or SIGINT (drain), and by the second (stop now)."""
    loop, drain, stop = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def arrived(name: str) -> None:
        log.info("%s: %s", name, "stopping now" if drain.is_set() else "draining; once more to stop now")
        (stop if drain.is_set() else drain).set()

    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, arrived, number.name)
    try:
        yield drain, stop
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def two_stage_exit() -> AsyncIterator[asyncio.Event]:
    """Run the body until it ends by itself after the first signal; a second signal cancels it.

    Yields the event of the first signal.
    """
    async with stop_signals() as (drain, stop):
        body = asyncio.current_task()
        assert body is not None

        async def cancel_on_second() -> None:
            await stop.wait()
            body.cancel()

        watcher = asyncio.create_task(cancel_on_second())
        try:
            yield drain
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
        finally:
            watcher.cancel()
