"""Domain errors as they arrive at a caller of a real server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from services.runtime import channels, errors
from services.runtime.statuses import LONGEST_MESSAGE_BYTES, told_as_status
from talkmesh.outcomes import Ending

Code = grpc.StatusCode


class Raising(grpc.GenericRpcHandler):
    """Answers every method with one message, and then raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.closed = asyncio.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return grpc.stream_stream_rpc_method_handler(self.answer)

    @told_as_status
    async def answer(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.sleep(0)
            raise self.error
        finally:
            self.closed.set()


@asynccontextmanager
async def serving(handler: grpc.GenericRpcHandler) -> AsyncIterator[grpc.aio.Channel]:
    server = channels.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with channels.channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def told(error: BaseException) -> tuple[grpc.StatusCode, str, list[Message]]:
    """Code, message and details that a caller gets."""
    async with serving(Raising(error)) as channel:
        call: Any = channel.stream_stream("/any.Service/Method")()
        ending = Ending(call)
        assert await call.read() == b"first"
        ended = await ending.outcome()
    details: list[Message] = []
    if packed := dict(ended.trailing).get("grpc-status-details-bin"):
        assert isinstance(packed, bytes)
        status = status_pb2.Status.FromString(packed)
        assert (status.code, status.message) == (ended.code.value[0], ended.details)
        details = [unpacked(each) for each in status.details]
    return ended.code, ended.details, details


def unpacked(packed: Any) -> Message:
    kind: Callable[[], Message] = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])
    message = kind()
    assert packed.Unpack(message)
    return message


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (errors.InvalidInput("audio.rate", "is 7", "8000"), Code.INVALID_ARGUMENT, "INVALID_INPUT"),
        (errors.NotFound("voice", "ann", ["joe"]), Code.NOT_FOUND, "NOT_FOUND"),
        (errors.Busy("64 streams are open", 2.5), Code.RESOURCE_EXHAUSTED, "BUSY"),
        (errors.Unavailable("not ready", 0.25), Code.UNAVAILABLE, "UNAVAILABLE"),
        (errors.WeightsMismatch("wrong file"), Code.FAILED_PRECONDITION, "WEIGHTS_MISMATCH"),
        (errors.LoadFailed("no file"), Code.FAILED_PRECONDITION, "LOAD_FAILED"),
        (errors.DomainError("something"), Code.INTERNAL, "DOMAIN_ERROR"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_each_error_has_its_code_message_and_reason(
    error: errors.DomainError, code: grpc.StatusCode, reason: str
) -> None:
    found, message, (info, *_) = await told(error)
    assert (found, message) == (code, str(error))
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == (reason, "talkmesh")


async def test_bad_input_names_its_field() -> None:
    _, _, (_, bad) = await told(errors.InvalidInput("audio.rate", "is 7", "8000"))
    assert isinstance(bad, error_details_pb2.BadRequest)
    assert [violation.field for violation in bad.field_violations] == ["audio.rate"]


async def test_what_is_not_found_is_named() -> None:
    _, _, (_, resource) = await told(errors.NotFound("voice", "ann"))
    assert isinstance(resource, error_details_pb2.ResourceInfo)
    assert (resource.resource_type, resource.resource_name) == ("voice", "ann")


@pytest.mark.parametrize("kind", [errors.Busy, errors.Unavailable])
async def test_who_may_try_again_is_told_when(kind: type[errors.Unavailable]) -> None:
    _, _, (_, retry) = await told(kind("later", 2.5))
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 2500


@pytest.mark.parametrize("text", ["x" * 1_000_000, "語" * 100_000], ids=["ascii", "wide"])
async def test_a_message_too_long_for_a_status_is_cut_and_arrives(text: str) -> None:
    code, message, details = await told(errors.NotFound("voice", text))
    assert code is Code.NOT_FOUND
    assert message.endswith("…")
    assert len(message.encode()) <= LONGEST_MESSAGE_BYTES
    assert len(details) == 2


async def test_a_defect_is_told_without_internals(caplog: pytest.LogCaptureFixture) -> None:
    code, message, details = await told(ZeroDivisionError("secret"))
    assert (code, details) == (Code.INTERNAL, [])
    assert "ZeroDivisionError" in message
    assert "secret" not in message
    assert "secret" in caplog.text


async def test_the_method_is_closed_when_its_caller_leaves() -> None:
    class Waiting(Raising):
        @told_as_status
        async def answer(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 1024
            finally:
                self.closed.set()

    handler = Waiting(RuntimeError())
    async with serving(handler) as channel:
        call: Any = channel.stream_stream("/any.Service/Method")()
        await call.read()
        call.cancel()
        await asyncio.wait_for(handler.closed.wait(), 2)
