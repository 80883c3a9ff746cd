"""Streams handed on from a host to an engine process as bytes that nobody decodes on the way."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc

from services.runtime import statuses
from services.runtime.engine import GENERATION_KEY, SLOT_KEY, WANTED_SLOT_KEY
from services.runtime.errors import DomainError, Unavailable
from services.runtime.metering import Meter
from services.runtime.slot import Lease, Slot, find
from talkmesh.outcomes import DETAILS_KEY, Ending, Outcome

DEATH_NOTICE_S = 0.5
OWN_KEYS = frozenset({SLOT_KEY, GENERATION_KEY, WANTED_SLOT_KEY})
HOP_PREFIXES = ("grpc-", ":")
HOP_KEYS = frozenset({"user-agent", "te", "content-type"})
Metadata = tuple[tuple[str, str | bytes], ...]
Context = grpc.aio.ServicerContext[bytes, bytes]


class Forwarder(grpc.GenericRpcHandler):
    """Answers every method of one gRPC service by forwarding it to the engine process of the slot that the call names."""

    def __init__(self, grpc_name: str, slots: Mapping[str, Slot], meter: Meter) -> None:
        self._prefix = f"/{grpc_name}/"
        self._slots = slots
        self._meter = meter

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        method = handler_call_details.method
        if not method.startswith(self._prefix):
            return None
        return grpc.stream_stream_rpc_method_handler(functools.partial(self._forward, method))

    async def _forward(self, method: str, requests: AsyncIterator[bytes], context: Context) -> None:
        try:
            async with find(self._slots, wanted_slot(context)).lease() as lease:
                await forward(method, requests, context, lease, self._meter)
        except DomainError as error:
            self._meter.failed(type(error).__name__)
            await statuses.abort(context, error)


def wanted_slot(context: Context) -> str:
    """The slot that a call asks for; "" for none in particular."""
    return str(dict(context.invocation_metadata() or ()).get(WANTED_SLOT_KEY, ""))


async def forward(method: str, requests: AsyncIterator[bytes], context: Context, lease: Lease, meter: Meter) -> None:
    """Run one call on the leased engine process, passing on messages, deadline, cancellation, metadata and status.

    Raises Unavailable when the engine process, or the connection to it, is lost under the call.
    """
    start: Any = lease.channel.stream_stream(method)
    call = start(requests, timeout=context.time_remaining(), metadata=onward(context, lease))
    ending = Ending(call)
    try:
        await context.send_initial_metadata(passed_on(await call.initial_metadata()))
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for response in call:
                came = time.perf_counter()
                await context.write(response)
                meter.forwarded(time.perf_counter() - came)
        await finish(context, lease, await ending.outcome())
    finally:
        call.cancel()


async def finish(context: Context, lease: Lease, ended: Outcome) -> None:
    """End a call as the engine process did. Raises Unavailable when it did not come to say how."""
    trailing = passed_on(ended.trailing, DETAILS_KEY)
    if ended.code is grpc.StatusCode.OK:
        context.set_trailing_metadata(trailing)
    elif ended.code is grpc.StatusCode.UNAVAILABLE and DETAILS_KEY not in dict(trailing):
        raise Unavailable(await lost(lease, ended.details))
    else:
        await context.abort(ended.code, ended.details, trailing)


async def lost(lease: Lease, details: str) -> str:
    """Why a stream lost its engine process. The end of a process may be noticed a moment after that of its streams."""
    resident = lease.resident
    about = f"{resident.service.name}: model {resident.model!r}"
    try:
        async with asyncio.timeout(DEATH_NOTICE_S):
            await resident.bell.until(lambda: resident.channel is not lease.channel)
    except TimeoutError:
        return f"{about}: the stream to the engine process broke: {details}"
    return f"{about}: {resident.last_error or 'the engine process is gone'}; it is being started again"


def onward(context: Context, lease: Lease) -> Metadata:
    """The caller's metadata, with the lease's slot and generation."""
    kept = tuple(pair for pair in passed_on(context.invocation_metadata()) if pair[0] not in OWN_KEYS)
    return (*kept, (SLOT_KEY, lease.slot), (GENERATION_KEY, str(lease.generation)))


def passed_on(metadata: Any, *also: str) -> Metadata:
    """Metadata without what belongs to a single hop, but with the keys `also`."""
    return tuple(
        (str(key), value)
        for key, value in metadata or ()
        if str(key) in also or not (str(key).startswith(HOP_PREFIXES) or str(key) in HOP_KEYS)
    )
