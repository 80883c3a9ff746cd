"""One message to, or from, a stream of etcd's, with one error for all the ways in which gRPC says that it is over."""

import asyncio
from typing import Generic, TypeVar

import grpc

Request = TypeVar("Request")
Response = TypeVar("Response")


class Broken(Exception):
    """The stream is of no use any more; the message says why."""


class Stream(Generic[Request, Response]):
    """A call with messages both ways."""

    def __init__(self, call: "grpc.aio.StreamStreamCall[Request, Response]") -> None:
        self._call = call

    async def send(self, request: Request) -> None:
        """Raises Broken."""
        try:
            await self._call.write(request)
        except BaseException as error:
            raise reworded(error) from None

    async def receive(self) -> Response:
        """Raises Broken, when the other side ends the stream too."""
        try:
            response = await self._call.read()
        except BaseException as error:
            raise reworded(error) from None
        if response is grpc.aio.EOF:
            raise Broken("etcd has ended the stream")
        return response  # type: ignore[return-value]

    def cancel(self) -> None:
        self._call.cancel()


def reworded(error: BaseException) -> BaseException:
    """What to raise in place of an error of gRPC's."""
    if isinstance(error, grpc.aio.AioRpcError):
        return Broken(f"the stream broke off ({error.code().name}: {error.details()})")
    if isinstance(error, asyncio.InvalidStateError):
        return Broken("the stream is over")
    # A stream that the *server* cancels shows as a cancellation too; of this task nobody has asked it.
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task and not task.cancelling():
        return Broken("the stream was cancelled")
    return error
