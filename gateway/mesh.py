"""The five services behind the gateway: a channel to each, and one way to open a stream on any of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Generic, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime import channels
from services.runtime.errors import DomainError
from talkmesh.animation.v1 import animation_pb2_grpc
from talkmesh.asr.v1 import asr_pb2_grpc
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.llm.v1 import llm_pb2_grpc
from talkmesh.model.v1 import model_pb2, model_pb2_grpc
from talkmesh.outcomes import Ending, Outcome
from talkmesh.render.v1 import render_pb2_grpc
from talkmesh.tts.v1 import tts_pb2_grpc

STATUS_TIMEOUT_S = 2.0
Request = TypeVar("Request")
Response = TypeVar("Response")


class ServiceFailed(DomainError):
    """A service ended a stream with an error. Its status is passed on to the client as it is."""

    def __init__(self, service: str, outcome: Outcome) -> None:
        self.service = service
        self.outcome = outcome
        super().__init__(f"{service}: {outcome.details}")


class Stream(Generic[Request, Response]):
    """A bidirectional call to a service. Every failure comes out as ServiceFailed."""

    def __init__(self, service: str, call: Any) -> None:
        self.service = service
        self._call = call
        self._ending = Ending(call)

    async def send(self, request: Request) -> None:
        """Send one message; waits while the service does not read."""
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            raise await self._failure() from None

    async def close(self) -> None:
        """Send nothing more."""
        if not self._call.done():
            await self._call.done_writing()

    async def __aiter__(self) -> AsyncIterator[Response]:
        try:
            async for response in self._call:
                yield response
        except grpc.aio.AioRpcError:
            raise await self._failure() from None

    async def first(self) -> Response:
        """The first response."""
        async for response in self:
            return response
        raise await self._failure()

    async def _failure(self) -> ServiceFailed:
        """What the call ended with; a call that ended well, but too early, is a failure too."""
        outcome = await self._ending.outcome()
        if outcome.code is grpc.StatusCode.OK:
            outcome = Outcome(grpc.StatusCode.UNAVAILABLE, "the service ended the stream early", ())
        return ServiceFailed(self.service, outcome)


class Mesh:
    """Stubs of the five services, used by all sessions."""

    def __init__(self, addresses: Mapping[str, str], open_channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._addresses = addresses
        self._channels = open_channels
        self.asr: asr_pb2_grpc.AsrServiceAsyncStub = asr_pb2_grpc.AsrServiceStub(open_channels["asr"])
        self.llm: llm_pb2_grpc.LlmServiceAsyncStub = llm_pb2_grpc.LlmServiceStub(open_channels["llm"])
        self.tts: tts_pb2_grpc.TtsServiceAsyncStub = tts_pb2_grpc.TtsServiceStub(open_channels["tts"])
        self.animation: animation_pb2_grpc.AnimationServiceAsyncStub = animation_pb2_grpc.AnimationServiceStub(
            open_channels["animation"]
        )
        self.render: render_pb2_grpc.RenderServiceAsyncStub = render_pb2_grpc.RenderServiceStub(open_channels["render"])

    async def status(self) -> list[conversation_pb2.ServiceStatus]:
        """How each service does, asked all at once."""
        return list(await asyncio.gather(*(self._status(name) for name in self._addresses)))

    async def _status(self, name: str) -> conversation_pb2.ServiceStatus:
        status = conversation_pb2.ServiceStatus(service=name, address=self._addresses[name])
        try:
            health = health_pb2_grpc.HealthStub(self._channels[name])
            began = time.perf_counter()
            reply = await health.Check(health_pb2.HealthCheckRequest(), timeout=STATUS_TIMEOUT_S)
            status.latency_ms = 1000 * (time.perf_counter() - began)
            serving = reply.status == health_pb2.HealthCheckResponse.SERVING
            status.health = conversation_pb2.HEALTH_SERVING if serving else conversation_pb2.HEALTH_NOT_SERVING
            models: model_pb2_grpc.ModelServiceAsyncStub = model_pb2_grpc.ModelServiceStub(self._channels[name])
            listed = await models.ListModels(model_pb2.ListModelsRequest(), timeout=STATUS_TIMEOUT_S)
            status.models.extend(listed.models)
        except grpc.aio.AioRpcError as error:
            status.health = conversation_pb2.HEALTH_UNREACHABLE
            status.error = f"{error.code().name}: {error.details()}"
        return status


@asynccontextmanager
async def connected(addresses: Mapping[str, str]) -> AsyncIterator[Mesh]:
    """A mesh with a channel to each address. A service that is away is found when it comes."""
    async with AsyncExitStack() as stack:
        opened = {name: await stack.enter_async_context(channels.channel(target)) for name, target in addresses.items()}
        yield Mesh(addresses, opened)


@asynccontextmanager
async def opened(service: str, call: Any, config: Request) -> AsyncIterator[tuple[Stream[Request, Any], Any]]:
    """A stream that has been sent its config, with the service's first response; cancelled on leaving."""
    stream: Stream[Request, Any] = Stream(service, call)
    try:
        await stream.send(config)
        yield stream, (await stream.first()).started
    finally:
        call.cancel()
