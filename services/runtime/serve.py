"""A gRPC server from start to end: port, health, reflection, and an exit in two stages."""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.runtime import channels
from services.runtime.calls import OpenCalls
from services.runtime.health import HealthReport

__all__ = ["HealthReport", "PortTaken", "listening", "stop_signals", "two_stage_exit"]
# For what ended calls have still to send; when the grace is over, for nothing else.
LAST_BYTES_S = 0.2
CANCELLED_S = 1.0
log = logging.getLogger(__name__)


class PortTaken(Exception):
    """The address to listen on cannot be had."""


@asynccontextmanager
async def listening(
    address: str,
    names: Sequence[str],
    attach: Callable[[grpc.aio.Server], None],
    grace_s: float,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> AsyncIterator[tuple[int, HealthReport]]:
    """A started server with health and reflection for the services `names`; yields its port and its health.

    On leaving, health says NOT_SERVING, no new call is taken and the ones in flight get `grace_s` to end; on leaving by an
    error or by cancellation, then or later, they end at once. Raises PortTaken.
    """
    calls, report = OpenCalls(), HealthReport(names)
    server = channels.server(interceptors=(calls, *interceptors))
    attach(server)
    health_pb2_grpc.add_HealthServicer_to_server(report.servicer, server)
    reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = claim(server, address)
    await server.start()
    log.info("listening on %s", address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}")
    try:
        yield port, report
        await report.end()
        await calls.drain(grace_s)
        await server.stop(LAST_BYTES_S)
    finally:
        await server.stop(None)
        # What grpc logs of calls that the end of the loop cancels looks like a defect.
        await calls.ended(CANCELLED_S)


def claim(server: grpc.aio.Server, address: str) -> int:
    """Take all of an address for a server and return its port. Raises PortTaken.

    gRPC is content with one of the addresses that a name stands for; somebody else's calls at the others are not wanted.
    """
    try:
        refuse_taken(address)
        return server.add_insecure_port(address)
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no such address on this machine, or in use"
        raise PortTaken(f"cannot listen on {address}: {why or error}") from error


def refuse_taken(address: str) -> None:
    """Raises OSError if anything listens on one of the addresses that "host:port" stands for."""
    name, colon, port = address.rpartition(":")
    if address.startswith("unix:") or not colon or not port.isdecimal() or port == "0":
        return
    found = socket.getaddrinfo(name.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, place in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(place)


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
            body.uncancel()
        finally:
            watcher.cancel()
