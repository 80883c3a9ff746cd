"""What the hop from a host to its engine process adds to a message's round trip."""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from services.runtime import channels
from services.runtime.lifeline import PARENT_VARIABLE
from talkmesh.llm.v1 import llm_pb2, llm_pb2_grpc
from tools.bench import echo
from tools.bench.figures import percentile

ROOT = Path(__file__).resolve().parents[2]
# 20 ms of speech at 16 kHz: the message that the mesh carries most of.
MESSAGE = "x" * 640
WARM_UP_MESSAGES = 50
READY_S = 20.0
STOP_S = 10.0


class NotReady(Exception):
    """The host under measurement did not get ready."""


async def host_added_ms(messages: int = 500, gap_ms: float = 20) -> dict[str, float]:
    """Round trips of a 640 byte message through a host, less those straight to its engine process's socket, in ms.

    Both are taken in one run, by turns (host, direct, direct, host, …), each after a pause of `gap_ms`, with host and engine
    as real processes. Returns the differences of the medians ("p50") and of the 95th percentiles ("p95"), and the median
    straight to the engine process ("direct_p50"). Raises NotReady.
    """
    async with echo_host() as (host, engine), open_stream(host) as through, open_stream(engine) as direct:
        for _ in range(WARM_UP_MESSAGES):
            await round_trip_ms(through)
            await round_trip_ms(direct)
        took: dict[Any, list[float]] = {through: [], direct: []}
        for number in range(messages):
            for call in (through, direct) if number % 2 == 0 else (direct, through):
                await asyncio.sleep(gap_ms / 1000)
                took[call].append(await round_trip_ms(call))
    return {
        "p50": percentile(took[through], 50) - percentile(took[direct], 50),
        "p95": percentile(took[through], 95) - percentile(took[direct], 95),
        "direct_p50": percentile(took[direct], 50),
    }


async def round_trip_ms(call: Any) -> float:
    """Send one message on a stream and wait for it to come back."""
    message = llm_pb2.Message(role=llm_pb2.ROLE_USER, content=MESSAGE)
    request = llm_pb2.GenerateRequest(prompt=llm_pb2.Prompt(messages=[message]))
    began = time.perf_counter()
    await call.write(request)
    response = await call.read()
    took = time.perf_counter() - began
    assert response.delta.text == MESSAGE
    return 1000 * took


@asynccontextmanager
async def open_stream(target: str) -> AsyncIterator[Any]:
    """A stream to the echo service at `target`, past its first response."""
    async with channels.channel(target) as channel:
        call = llm_pb2_grpc.LlmServiceStub(channel).Generate()
        await call.write(llm_pb2.GenerateRequest(config=llm_pb2.GenerationConfig()))
        started = await call.read()
        if not isinstance(started, llm_pb2.GenerateResponse):
            raise NotReady(f"{target} ended the stream")
        yield call
        call.cancel()


@asynccontextmanager
async def echo_host() -> AsyncIterator[tuple[str, str]]:
    """A host with the echo service; yields the addresses of the host and of its engine process."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "catalog.json").write_text(json.dumps({"echo": {"engine": "echo"}}))
        listen = f"unix:{folder}/host.sock"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", echo.__name__, "--listen", listen, "--catalog", str(folder / "catalog.json")),
            *("--log-level", "WARNING"),
            cwd=ROOT,
            env={**os.environ, "TMPDIR": name, PARENT_VARIABLE: str(os.getpid())},
        )
        try:
            await ready(listen)
            yield listen, f"unix:{engine_socket(folder)}"
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.wait(), STOP_S)


def engine_socket(temporary: Path) -> Path:
    """Where the one engine process listens whose host has `temporary` for temporary files."""
    (path,) = temporary.glob("*/engine.sock")
    return path


async def ready(target: str) -> None:
    """Wait until a stream can be opened. Raises NotReady."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            async with open_stream(target):
                return
        except (grpc.aio.AioRpcError, NotReady) as error:
            if time.monotonic() > deadline:
                raise NotReady(f"the echo host did not get ready within {READY_S:g} s") from error
        await asyncio.sleep(0.1)
