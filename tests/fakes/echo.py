"""A service for tests of the runtime: speaks LlmService, and does what a prompt's text commands.

    repeat N GAP_MS   N deltas                         flood BYTES    deltas of that size until stopped
    hang              never answers, never reads on    stats          what this process has seen, as JSON
    metadata          the call's metadata, as JSON     exit CODE      ends its own process
    kill SIGNAL       sends itself a signal            refuse, unavailable    domain errors
    unknown           a defect                         anything else  comes back

Options for the way up: `fail` (a LoadFailed of that text), `defect` (a RuntimeError of that text), `crash` (a signal's
name), `exit` (a code), `hang` (wait forever), `block` (the same without letting the loop run), `slow` (seconds), `hold` (MB
of memory that it keeps) and `eat` (MB it takes, 10 at a time, a little later each time).
Options for later: `crash_when` ("validating", "warming" or "stream"), `hold_when` (the same, for some seconds), `interface`
and `measure` (what it tells then).
"""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc

from services.runtime.engine import Identity, Service
from services.runtime.errors import InvalidInput, LoadFailed, Unavailable
from services.runtime.interface import Interface
from services.runtime.statuses import told_as_status
from services.runtime.streams import config_and_data
from talkmesh.llm.v1 import llm_pb2, llm_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterator[llm_pb2.GenerateRequest]
OPTIONS = (
    *("fail", "defect", "crash", "exit", "hang", "block", "slow", "hold", "eat"),
    *("crash_when", "hold_when", "interface", "measure"),
)
RETRY_AFTER_S = 7.0
HOLD_S = 4.0


class EchoEngine:
    def __init__(self, source: Path | None, options: Mapping[str, Any]) -> None:
        for name in options:
            if name not in OPTIONS:
                raise InvalidInput(f"options.{name}", "unknown", f"one of {', '.join(OPTIONS)}")
        self.options = options
        self.held: list[bytearray] = []
        self.opened = self.ended = self.sent = self.received = 0

    async def load(self) -> None:
        match dict(self.options):
            case {"fail": text}:
                raise LoadFailed(text)
            case {"defect": text}:
                raise RuntimeError(text)
            case {"crash": name}:
                os.kill(os.getpid(), signal.Signals[name])
            case {"exit": code}:
                os._exit(code)
            case {"hang": _}:
                await asyncio.Event().wait()
            case {"block": _}:
                while True:
                    time.sleep(60)
            case {"slow": seconds}:
                await asyncio.sleep(seconds)
        for step in range(int(self.options.get("hold", 0) or self.options.get("eat", 0)) // 10):
            self.held.append(bytearray(os.urandom(1024) * 10 * 1024))
            await asyncio.sleep(0.02 if "eat" in self.options and step else 0)

    async def at(self, moment: str) -> None:
        """Die or dally, if this is the moment for it."""
        if self.options.get("hold_when") == moment:
            await asyncio.sleep(HOLD_S)
        if self.options.get("crash_when") == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    async def unload(self) -> None:
        pass

    async def replies(self, text: str) -> AsyncIterator[str]:
        match text.split(maxsplit=2):
            case ["repeat", count, gap_ms]:
                for index in range(int(count)):
                    yield str(index)
                    await asyncio.sleep(int(gap_ms) / 1000)
            case ["flood", size]:
                while True:
                    yield "x" * int(size)
            case ["hang"]:
                await asyncio.Event().wait()
            case ["stats"]:
                yield json.dumps(self.stats())
            case ["exit", code]:
                os._exit(int(code))
            case ["kill", name]:
                os.kill(os.getpid(), signal.Signals[name])
            case ["refuse"]:
                raise InvalidInput("prompt.text", "refused", "something else")
            case ["unavailable"]:
                raise Unavailable("resting", RETRY_AFTER_S)
            case ["unknown"]:
                raise ZeroDivisionError("secret")
            case _:
                yield text

    def stats(self) -> dict[str, int]:
        return {
            "opened": self.opened,
            "ended": self.ended,
            "sent": self.sent,
            "received": self.received,
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
        }


class EchoServicer(llm_pb2_grpc.LlmServiceServicer):
    def __init__(self, engine: EchoEngine, identity: Identity) -> None:
        self._engine = engine
        self._identity = identity

    @told_as_status
    async def Generate(self, requests: Requests, context: Context) -> AsyncIterator[llm_pb2.GenerateResponse]:
        self._engine.opened += 1
        try:
            _, data = await config_and_data(requests, llm_pb2.GenerationConfig)
            await self._engine.at("stream")
            await context.send_initial_metadata((("echo-initial", "seen"),))
            context.set_trailing_metadata((("echo-trailer", "seen"), ("echo-trailer-bin", b"\x00\xff")))
            yield llm_pb2.GenerateResponse(started=llm_pb2.GenerationStarted(model=self._identity.serving(context)))
            async for request in data:
                self._engine.received += 1
                asked = request.prompt.messages[0].content
                async for text in self._replies(asked, context):
                    yield llm_pb2.GenerateResponse(delta=llm_pb2.TextDelta(text=text))
                    self._engine.sent += asked != "stats"
            yield llm_pb2.GenerateResponse(finished=llm_pb2.Finished(reason=llm_pb2.FINISH_REASON_END))
        finally:
            self._engine.ended += 1

    async def _replies(self, text: str, context: Context) -> AsyncIterator[str]:
        if text == "metadata":
            yield json.dumps([[str(key), str(value)] for key, value in context.invocation_metadata() or ()])
            return
        async for reply in self._engine.replies(text):
            yield reply


def attach(server: grpc.aio.Server, engine: EchoEngine, identity: Identity) -> None:
    llm_pb2_grpc.add_LlmServiceServicer_to_server(EchoServicer(engine, identity), server)


async def measure(engine: EchoEngine) -> dict[str, str | float]:
    await engine.at("validating")
    return {"said": "hello", "loudness": float(engine.options.get("measure", 1.0))}


async def warm_up(engine: EchoEngine) -> None:
    await engine.at("warming")
    assert [text async for text in engine.replies("hello")] == ["hello"]


SERVICE = Service(
    name="echo",
    grpc_name=llm_pb2.DESCRIPTOR.services_by_name["LlmService"].full_name,
    engines={"echo": "tests.fakes.echo:EchoEngine"},
    attach=attach,
    warm_up=warm_up,
    interface=lambda engine: Interface(**engine.options.get("interface", {})),
    measure=measure,
)
