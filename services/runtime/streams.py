"""The grammar that every stream of the mesh shares: one config first, then data, each in the `oneof` named `request`."""

from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from services.runtime.errors import InvalidInput


class Request(Protocol):
    """A message with `oneof request { Config config = 1; … }`."""

    def WhichOneof(self, oneof_group: Any, /) -> Any: ...


R = TypeVar("R", bound=Request)


async def config_and_data(requests: AsyncIterator[R], config: type[Message]) -> tuple[R, AsyncIterator[R]]:
    """The first request, which carries the config, and an iterator over the data after it.

    Raises InvalidInput when the first message is no config; the iterator raises it at a second config and at an empty
    message. `config` is only there to name what was expected.
    """
    first = await anext(aiter(requests), None)
    if first is None:
        raise InvalidInput("request", "the stream ended before its config", config.DESCRIPTOR.full_name)
    if (kind := first.WhichOneof("request")) != "config":
        raise InvalidInput("request", f"the first message is {kind or 'empty'}", f"config ({config.DESCRIPTOR.name})")
    return first, data(requests)


async def data(requests: AsyncIterator[R]) -> AsyncIterator[R]:
    """Everything after the config."""
    async for request in requests:
        match request.WhichOneof("request"):
            case "config":
                raise InvalidInput("config", "sent twice", "one config, as the first message of the stream")
            case None:
                raise InvalidInput("request", "the message is empty or of an unknown kind")
        yield request
