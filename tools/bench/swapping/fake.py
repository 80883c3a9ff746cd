"""A service whose every chunk tells who made it: `python -m tools.bench.swapping.fake --listen … --etcd …`.

It speaks LlmService. Each prompt is answered by one delta, "MODEL/PID NUMBER": the model's name, its engine process, and how
many chunks this stream has had from it. A chunk that another model, or another process, has put into a stream shows.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import grpc
from pydantic import BaseModel, ConfigDict, Field

from services.runtime import host, settings
from services.runtime.engine import Identity, Service
from services.runtime.engine_process import service_in
from services.runtime.options import of_engine
from services.runtime.statuses import told_as_status
from services.runtime.streams import config_and_data
from talkmesh.llm.v1 import llm_pb2, llm_pb2_grpc
from tools.bench.swapping.burning import imitated_weights

NAME = "fake"
GRPC_NAME = llm_pb2.DESCRIPTOR.services_by_name["LlmService"].full_name
ENGINES = {"fake": "tools.bench.swapping.fake:FakeEngine"}
Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterator[llm_pb2.GenerateRequest]


class Options(BaseModel):
    """How hard this model is to load."""

    model_config = ConfigDict(extra="forbid")

    load_cpu_s: float = Field(default=0.0, ge=0)
    load_mb: int = Field(default=0, ge=0)


class FakeEngine:
    """Has weights that are good for nothing but being loaded."""

    def __init__(self, source: Path | None, options: Mapping[str, Any]) -> None:
        self._options = of_engine(Options, options)
        self._weights = bytearray()

    async def load(self) -> None:
        self._weights = await asyncio.to_thread(imitated_weights, self._options.load_cpu_s, self._options.load_mb)

    async def unload(self) -> None:
        self._weights = bytearray()


class FakeServicer(llm_pb2_grpc.LlmServiceServicer):
    """Answers started, then each prompt with a delta."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    @told_as_status
    async def Generate(self, requests: Requests, context: Context) -> AsyncIterator[llm_pb2.GenerateResponse]:
        _, prompts = await config_and_data(requests, llm_pb2.GenerationConfig)
        started = llm_pb2.GenerationStarted(model=self._identity.serving(context))
        yield llm_pb2.GenerateResponse(started=started)
        maker, numbers = f"{self._identity.model}/{os.getpid()}", count()
        async for _ in prompts:
            yield llm_pb2.GenerateResponse(delta=llm_pb2.TextDelta(text=f"{maker} {next(numbers)}"))


def attach(server: grpc.aio.Server, engine: FakeEngine, identity: Identity) -> None:
    llm_pb2_grpc.add_LlmServiceServicer_to_server(FakeServicer(identity), server)


async def warm_up(engine: FakeEngine) -> None:
    pass


SERVICE = Service(name=NAME, grpc_name=GRPC_NAME, engines=ENGINES, attach=attach, warm_up=warm_up)

if __name__ == "__main__":
    # By its name, for an engine process has to find it too.
    host.run(service_in("tools.bench.swapping.fake"), settings.service_settings(NAME))
