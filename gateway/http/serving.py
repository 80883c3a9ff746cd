"""An HTTP server in the loop of the process it is in."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from services.runtime.serve import PortTaken, refuse_taken

BACKLOG = 256
KEEP_ALIVE_S = 30
log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn, which here leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(app: ASGIApp, address: str, grace_s: float = 5.0) -> AsyncIterator[int]:
    """Serve `app` at "host:port" (port 0 takes a free one); yields the port. Raises PortTaken.

    On leaving, no new connection is taken, and requests in flight get `grace_s` (whole seconds) to end.
    """
    sockets = bound(address)
    port = int(sockets[0].getsockname()[1])
    config = uvicorn.Config(
        cast(Any, app),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(grace_s)),
    )
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets))
    try:
        await begun(server, task)
        log.info("HTTP on %s:%d", address.rpartition(":")[0], port)
        yield port
    finally:
        server.should_exit = True
        await asyncio.shield(task)


async def begun(server: Server, task: "asyncio.Task[None]") -> None:
    """Return when the server takes connections; raises what it ended with instead."""
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()


def bound(address: str) -> list[socket.socket]:
    """Listening sockets for all that "host:port" stands for. Raises PortTaken."""
    name, _, port = address.rpartition(":")
    sockets: list[socket.socket] = []
    try:
        refuse_taken(address)
        found = socket.getaddrinfo(
            name.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # A free port is free at one of the addresses only.
        for family, _, _, _, place in found if int(port) else found[:1]:
            sockets.append(listener(family, place))
    except (OSError, ValueError) as error:
        for taken in sockets:
            taken.close()
        why = error.strerror if isinstance(error, OSError) else "not host:port"
        raise PortTaken(f"cannot listen on {address}: {why or error}") from error
    return sockets


def listener(family: int, place: tuple) -> socket.socket:  # type: ignore[type-arg]
    """A socket bound to one address."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setblocking(False)
        made.bind(place)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made
