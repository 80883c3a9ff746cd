"""A service that sends back what it gets, for measuring what carries it: `python -m tools.bench.echo --listen …`.

It speaks LlmService: each prompt comes back as one delta.
"""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc

from services.runtime import host, settings
from services.runtime.engine import Identity, Service
from services.runtime.engine_process import service_in
from services.runtime.statuses import told_as_status
from services.runtime.streams import config_and_data
from talkmesh.llm.v1 import llm_pb2, llm_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterator[llm_pb2.GenerateRequest]


class EchoEngine:
    """Has no weights and no options."""

    def __init__(self, source: Path | None, options: Mapping[str, Any]) -> None:
        pass

    async def load(self) -> None:
        pass

    async def unload(self) -> None:
        pass


class EchoServicer(llm_pb2_grpc.LlmServiceServicer):
    """Answers started, then each prompt with a delta of the same text."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    @told_as_status
    async def Generate(self, requests: Requests, context: Context) -> AsyncIterator[llm_pb2.GenerateResponse]:
        _, prompts = await config_and_data(requests, llm_pb2.GenerationConfig)
        started = llm_pb2.GenerationStarted(model=self._identity.serving(context))
        yield llm_pb2.GenerateResponse(started=started)
        async for request in prompts:
            text = "".join(message.content for message in request.prompt.messages)
            yield llm_pb2.GenerateResponse(delta=llm_pb2.TextDelta(text=text))


def attach(server: grpc.aio.Server, engine: EchoEngine, identity: Identity) -> None:
    llm_pb2_grpc.add_LlmServiceServicer_to_server(EchoServicer(identity), server)


async def warm_up(engine: EchoEngine) -> None:
    pass


SERVICE = Service(
    name="echo",
    grpc_name=llm_pb2.DESCRIPTOR.services_by_name["LlmService"].full_name,
    engines={"echo": "tools.bench.echo:EchoEngine"},
    attach=attach,
    warm_up=warm_up,
)

if __name__ == "__main__":
    # By its name, for an engine process has to find it too.
    host.run(service_in("tools.bench.echo"), settings.service_settings("echo"))
