"""Domain errors as gRPC statuses with details, and back into a call: the only module that knows both."""

import contextlib
import functools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeVar, cast

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.runtime.errors import (
    Busy,
    Denied,
    DomainError,
    InvalidInput,
    LoadFailed,
    NotFound,
    Outrun,
    Refused,
    Unauthenticated,
    Unavailable,
    WeightsMismatch,
)

DOMAIN = "talkmesh"
# Statuses travel as HTTP/2 headers, of which gRPC takes 8 KiB. The message is in there up to three times, once
# percent-encoded; a caller's own text in it must not break the call that tells of it.
LONGEST_MESSAGE_BYTES = 768
log = logging.getLogger(__name__)
Request = TypeVar("Request")
Response = TypeVar("Response")
Servicer = Any
Context = grpc.aio.ServicerContext[Any, Any]

CODES: tuple[tuple[type[DomainError], int], ...] = (
    (InvalidInput, code_pb2.INVALID_ARGUMENT),
    (NotFound, code_pb2.NOT_FOUND),
    (Unauthenticated, code_pb2.UNAUTHENTICATED),
    (Denied, code_pb2.PERMISSION_DENIED),
    (Busy, code_pb2.RESOURCE_EXHAUSTED),
    (Unavailable, code_pb2.UNAVAILABLE),
    (WeightsMismatch, code_pb2.FAILED_PRECONDITION),
    (LoadFailed, code_pb2.FAILED_PRECONDITION),
    (Refused, code_pb2.FAILED_PRECONDITION),
    (Outrun, code_pb2.ABORTED),
)


def packed(detail: message.Message) -> any_pb2.Any:
    wrapped = any_pb2.Any()
    wrapped.Pack(detail)
    return wrapped


def details(error: DomainError) -> list[message.Message]:
    """The machine-readable half of `error`: google.rpc error details."""
    info = error_details_pb2.ErrorInfo(reason=reason(error), domain=DOMAIN)
    match error:
        case InvalidInput():
            violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=message_of(error))
            return [info, error_details_pb2.BadRequest(field_violations=[violation])]
        case NotFound():
            return [
                info,
                error_details_pb2.ResourceInfo(
                    resource_type=error.kind, resource_name=shortened(error.name), description=message_of(error)
                ),
            ]
        case Unavailable():
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(round(error.retry_after_s * 1000))
            return [info, error_details_pb2.RetryInfo(retry_delay=delay)]
    return [info]


def message_of(error: DomainError) -> str:
    """The human half of `error`."""
    return shortened(str(error))


def shortened(text: str) -> str:
    """`text`, cut to what fits into a status."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= LONGEST_MESSAGE_BYTES:
        return text
    return encoded[: LONGEST_MESSAGE_BYTES - 3].decode(errors="ignore") + "…"


def reason(error: DomainError) -> str:
    """UPPER_SNAKE_CASE of the error's class, as ErrorInfo wants it."""
    name = type(error).__name__
    return "".join(f"_{letter}" if letter.isupper() and i else letter for i, letter in enumerate(name)).upper()


def status_of(error: DomainError) -> status_pb2.Status:
    """The google.rpc.Status that tells `error` to a client."""
    code = next((code for kind, code in CODES if isinstance(error, kind)), code_pb2.INTERNAL)
    return status_pb2.Status(
        code=code, message=message_of(error), details=[packed(detail) for detail in details(error)]
    )


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: DomainError) -> NoReturn:
    """End the call with the status of `error`."""
    await context.abort_with_status(rpc_status.to_status(status_of(error)))
    raise AssertionError("abort_with_status returned")


def told_as_status(
    method: Callable[[Servicer, Any, Any], AsyncIterator[Response]],
) -> Callable[[Servicer, Any, Any], AsyncIterator[Response]]:
    """Wrap a streaming servicer method so that a domain error ends its call with the right status.

    Anything else is a defect: it is logged with its traceback and told as INTERNAL without internals.
    """

    @functools.wraps(method)
    async def wrapped(
        self: Servicer, requests: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Response]:
        try:
            made = cast("AsyncGenerator[Response, None]", method(self, requests, context))
            async with contextlib.aclosing(made) as responses:
                async for response in responses:
                    yield response
        except DomainError as error:
            await abort(context, error)
        except (grpc.aio.AbortError, grpc.RpcError):
            raise
        except Exception as error:
            log.exception("%s failed", method.__qualname__)
            await context.abort(grpc.StatusCode.INTERNAL, f"{method.__qualname__}: {type(error).__name__}")

    return wrapped


def answered(
    method: Callable[[Servicer, Request, Context], Awaitable[Response]],
) -> Callable[[Servicer, Request, Context], Awaitable[Response]]:
    """Wrap a method with one answer so that a domain error ends its call with its status; all else is a defect."""

    @functools.wraps(method)
    async def wrapped(self: Servicer, request: Request, context: Context) -> Response:
        try:
            return await method(self, request, context)
        except DomainError as error:
            return await abort(context, error)
        except Exception as error:
            logging.getLogger(method.__module__).exception("%s failed", method.__qualname__)
            return await context.abort(grpc.StatusCode.INTERNAL, f"{method.__qualname__}: {type(error).__name__}")

    return wrapped
