"""Figures for Prometheus, where it comes to read them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

from services.runtime.serve import PortTaken

log = logging.getLogger(__name__)


@asynccontextmanager
async def exposed(address: str, registry: CollectorRegistry, *collectors: Collector) -> AsyncIterator[int]:
    """`/metrics` on "host:port" (port 0 takes a free one) for the time of the body, nothing for ""; yields the port.

    `collectors` join the registry. They are asked on a thread. Raises PortTaken.
    """
    for collector in collectors:
        registry.register(collector)
    if not address:
        yield 0
        return
    host, _, port = address.rpartition(":")
    try:
        server, thread = start_http_server(int(port), addr=host.strip("[]"), registry=registry)
    except (OSError, ValueError) as error:
        raise PortTaken(f"cannot serve metrics on {address}: {error}") from error
    log.info("metrics on http://%s:%d/metrics", host, server.server_port)
    try:
        yield server.server_port
    finally:
        await asyncio.to_thread(server.shutdown)
        await asyncio.to_thread(thread.join)
        server.server_close()
