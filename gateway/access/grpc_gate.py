"""The gate before a gRPC server's methods: all four kinds of call."""

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias, cast

import grpc

from gateway.access import needs
from gateway.access.gate import Gate
from gateway.access.principals import enter
from services.runtime import statuses
from services.runtime.errors import DomainError

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour = Callable[[Any, Context], Any]
KINDS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class GrpcGate(grpc.aio.ServerInterceptor):
    """Lets through whom `gate` admits; their calls then know who made them (`principals.current`)."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        need = needs.of_rpc(method)
        # Health's and reflection's own methods are of other shapes, and nobody is kept from them.
        if handler is None or need is needs.FREE:
            return handler
        return gated(handler, lambda context: self._admit(context, need, method))

    async def _admit(self, context: Context, need: needs.Need, method: str) -> None:
        try:
            principal = await self._gate.admit(brought(context), peer(context), need, method.rpartition("/")[2])
        except DomainError as error:
            await statuses.abort(context, error)
        enter(principal)


def gated(handler: Any, admit: Callable[[Context], Awaitable[None]]) -> Handler:
    """A handler that does what another one does, once `admit` has let the call through."""
    name, make = KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
    behaviour: Behaviour = getattr(handler, name)

    async def answered(request: Any, context: Context) -> Any:
        await admit(context)
        return await behaviour(request, context)

    async def yielded(request: Any, context: Context) -> AsyncIterator[Any]:
        await admit(context)
        async with contextlib.aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                yield response

    wrapped = yielded if inspect.isasyncgenfunction(behaviour) else answered
    return make(
        cast(Any, wrapped),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def brought(context: Context) -> dict[str, str]:
    """A call's headers, as far as they are text."""
    return {str(key): value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def peer(context: Context) -> str:
    """Where a call comes from, without the port: "ipv4:10.0.0.7"."""
    found = str(context.peer())
    return found.rpartition(":")[0] if found.startswith("ip") else found
