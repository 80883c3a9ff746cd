"""A service for tests of the runtime: speaks LlmService, and does what a prompt's text commands.

`repeat N GAP_MS` sends N deltas, `crash` kills its own process, `hang` never answers, `refuse` is a domain error,
`unknown` a defect, `count` tells how many calls it has seen end. Options: `fail` and `crash_on_load` for the way up.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc

from services.runtime.engine import Identity, Service
from services.runtime.errors import InvalidInput, LoadFailed
from services.runtime.statuses import told_as_status
from services.runtime.streams import config_and_data
from talkmesh.llm.v1 import llm_pb2, llm_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterator[llm_pb2.GenerateRequest]


class EchoEngine:
    def __init__(self, source: Path | None, options: Mapping[str, Any]) -> None:
        self.options = options
        self.ended = 0

    async def load(self) -> None:
        if message := self.options.get("fail"):
            raise LoadFailed(str(message))
        if self.options.get("crash_on_load"):
            os.kill(os.getpid(), signal.SIGKILL)

    async def unload(self) -> None:
        pass

    async def replies(self, text: str) -> AsyncIterator[str]:
        match text.split():
            case ["repeat", count, gap_ms]:
                for index in range(int(count)):
                    yield str(index)
                    await asyncio.sleep(int(gap_ms) / 1000)
            case ["crash"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["hang"]:
                await asyncio.Event().wait()
            case ["refuse"]:
                raise InvalidInput("prompt.text", "refused", "something else")
            case ["unknown"]:
                raise ZeroDivisionError("secret")
            case ["count"]:
                yield str(self.ended)
            case _:
                yield text


class EchoServicer(llm_pb2_grpc.LlmServiceServicer):
    def __init__(self, engine: EchoEngine, identity: Identity) -> None:
        self._engine = engine
        self._identity = identity

    @told_as_status
    async def Generate(self, requests: Requests, context: Context) -> AsyncIterator[llm_pb2.GenerateResponse]:
        try:
            _, data = await config_and_data(requests, llm_pb2.GenerationConfig)
            context.set_trailing_metadata((("echo-trailer", "seen"),))
            started = llm_pb2.GenerationStarted(model=self._identity.serving(context))
            yield llm_pb2.GenerateResponse(started=started)
            async for request in data:
                async for text in self._engine.replies(request.prompt.messages[0].content):
                    yield llm_pb2.GenerateResponse(delta=llm_pb2.TextDelta(text=text))
        finally:
            self._engine.ended += 1


def attach(server: grpc.aio.Server, engine: EchoEngine, identity: Identity) -> None:
    llm_pb2_grpc.add_LlmServiceServicer_to_server(EchoServicer(engine, identity), server)


async def warm_up(engine: EchoEngine) -> None:
    assert [text async for text in engine.replies("hello")] == ["hello"]


SERVICE = Service(
    name="echo",
    grpc_name=llm_pb2.DESCRIPTOR.services_by_name["LlmService"].full_name,
    engines={"echo": "tests.fakes.echo:EchoEngine"},
    attach=attach,
    warm_up=warm_up,
)
