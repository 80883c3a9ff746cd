"""Hosts of the LLM service in the test's own process: real servers with health, watched models and an echo."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from services.runtime.engine import WANTED_SLOT_KEY
from services.runtime.errors import Drained
from services.runtime.serve import HealthReport, listening
from services.runtime.statuses import told_as_status
from services.runtime.streams import config_and_data
from talkmesh.llm.v1 import llm_pb2, llm_pb2_grpc
from talkmesh.model.v1 import model_pb2, model_pb2_grpc

LLM = llm_pb2.DESCRIPTOR.services_by_name["LlmService"].full_name
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass
class Candidate:
    """What is in the slot "candidate", how it behaves, and what it was told."""

    generation: int = 2
    late_s: float = 0.0
    fails: bool = False
    says: str = ""
    """Instead of what it was told."""
    told: list[str] = field(default_factory=list)


class Echo(llm_pb2_grpc.LlmServiceServicer):
    """Says its name first. "drain" ends the stream as a swap does, "lose" as a broken wire; all else comes back."""

    def __init__(self, name: str, candidate: Candidate | None = None) -> None:
        self._name = name
        self._candidate = candidate

    @told_as_status
    async def Generate(self, requests: Any, context: Context) -> AsyncIterator[llm_pb2.GenerateResponse]:
        _, data = await config_and_data(requests, llm_pb2.GenerationConfig)
        model = model_pb2.ServingModel(service="llm", model=self._name)
        yield llm_pb2.GenerateResponse(started=llm_pb2.GenerationStarted(model=model))
        async for request in data:
            text = request.prompt.messages[0].content
            if self._candidate and dict(context.invocation_metadata() or ()).get(WANTED_SLOT_KEY) == "candidate":
                text = await self._tried(self._candidate, text, context)
            if text == "drain":
                raise Drained("its model's time is over")
            if text == "lose":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
            yield llm_pb2.GenerateResponse(delta=llm_pb2.TextDelta(text=text))
        yield llm_pb2.GenerateResponse(finished=llm_pb2.Finished(reason=llm_pb2.FINISH_REASON_END))

    async def _tried(self, candidate: Candidate, text: str, context: Context) -> str:
        candidate.told.append(text)
        await asyncio.sleep(candidate.late_s)
        if candidate.fails:
            await context.abort(grpc.StatusCode.INTERNAL, "broken")
        return candidate.says or text


class Models(model_pb2_grpc.ModelServiceServicer):
    """Tells the generation in the slot "stable", and every change of it."""

    def __init__(self, watchable: bool, candidate: Candidate | None = None) -> None:
        self._watchable = watchable
        self._candidate = candidate
        self._generation = 1
        self._changed = asyncio.Event()

    def swap(self, generation: int) -> None:
        """Have another generation."""
        self._generation = generation
        self._changed.set()
        self._changed = asyncio.Event()

    def _slots(self) -> list[model_pb2.SlotStatus]:
        slots = [model_pb2.SlotStatus(slot="stable", model="echo", generation=self._generation)]
        if self._candidate:
            generation = self._candidate.generation
            slots.append(model_pb2.SlotStatus(slot="candidate", model="other", generation=generation))
        return slots

    async def ListModels(self, request: Any, context: Context) -> model_pb2.ListModelsResponse:
        return model_pb2.ListModelsResponse(service="llm", slots=self._slots())

    async def WatchModels(self, request: Any, context: Context) -> AsyncIterator[model_pb2.WatchModelsResponse]:
        if not self._watchable:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")
        while True:
            changed = self._changed
            yield model_pb2.WatchModelsResponse(host=model_pb2.HostStatus(service="llm", slots=self._slots()))
            await changed.wait()


@dataclass
class SmallHost:
    """A host that listens. Used through `small_host`."""

    name: str
    address: str
    health: HealthReport
    models: Models


@asynccontextmanager
async def small_host(
    name: str = "one",
    port: int = 0,
    *,
    grpc_name: str = LLM,
    serving: bool = True,
    watchable: bool = True,
    candidate: Candidate | None = None,
) -> AsyncIterator[SmallHost]:
    """A host that serves until left; then its calls end at once, as those of a killed process do."""
    models = Models(watchable, candidate)

    def attach(server: grpc.aio.Server) -> None:
        llm_pb2_grpc.add_LlmServiceServicer_to_server(Echo(name, candidate), server)
        model_pb2_grpc.add_ModelServiceServicer_to_server(models, server)

    async with listening(f"127.0.0.1:{port}", (grpc_name,), attach, grace_s=0) as (bound, health):
        await health.say(serving=serving)
        yield SmallHost(name, f"127.0.0.1:{bound}", health, models)
