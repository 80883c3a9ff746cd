"""The calls that a server has open, so that it can let them end before it does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from services.runtime import statuses
from services.runtime.errors import Unavailable

ALWAYS_TAKEN = ("/grpc.health.v1.", "/grpc.reflection.")
ONLOOKERS = (*ALWAYS_TAKEN, "/talkmesh.model.v1.")
"""Calls of those who only watch: nothing is lost with them, so no drain waits for one that does not read its messages."""


class OpenCalls(grpc.aio.ServerInterceptor):
    """Knows the open calls of the server that it is an interceptor of, and can keep new ones out.

    grpc's own graceful stop closes the port first: a call that meets it on an open connection ends as CANCELLED, which
    tells its caller nothing, and health can no longer be asked.
    """

    def __init__(self) -> None:
        self._open: set[asyncio.Task[Any]] = set()
        self._looking_on: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        # grpc runs a call, from here to its end, in one task.
        if task := asyncio.current_task():
            calls = self._looking_on if handler_call_details.method.startswith(ONLOOKERS) else self._open
            calls.add(task)
            task.add_done_callback(calls.discard)
        if self._closed and not handler_call_details.method.startswith(ALWAYS_TAKEN):
            return grpc.stream_stream_rpc_method_handler(refuse)
        return await continuation(handler_call_details)

    async def drain(self, grace_s: float) -> None:
        """Refuse new calls as Unavailable, and wait until the open ones have ended or `grace_s` is over."""
        self._closed = True
        await ended(self._open, grace_s)

    async def ended(self, within_s: float) -> None:
        """Wait until no call is open at all, at most `within_s`."""
        await ended(self._open | self._looking_on, within_s)


async def ended(calls: set[asyncio.Task[Any]], within_s: float) -> None:
    """Wait until a set that calls leave as they end is empty, at most `within_s`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while (left := {call for call in calls if not call.done()}) and loop.time() < deadline:
        await asyncio.wait(left, timeout=deadline - loop.time())


async def refuse(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await statuses.abort(context, Unavailable("this server is stopping"))
