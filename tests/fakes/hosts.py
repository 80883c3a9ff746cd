"""Real host processes with the echo service, for tests of the runtime."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import psutil
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime import channels
from services.runtime.lifeline import PARENT_VARIABLE
from talkmesh.llm.v1 import llm_pb2, llm_pb2_grpc
from talkmesh.model.v1 import model_pb2, model_pb2_grpc
from talkmesh.outcomes import Ending

ROOT = Path(__file__).resolve().parents[2]
SERVICE_NAME = "talkmesh.llm.v1.LlmService"
START_S = 15.0
STOP_S = 10.0
Catalog = Mapping[str, Mapping[str, Any]]
Detail = TypeVar("Detail", bound=Message)
PARROT: Catalog = {"parrot": {"engine": "echo"}}


@dataclass
class Host:
    """A host process, what it has logged, and a channel to it. Used through `running`."""

    process: asyncio.subprocess.Process
    temporary: Path
    log: list[str] = field(default_factory=list)
    port: int = 0
    channel: grpc.aio.Channel = field(init=False)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def talk(self, **options: Any) -> "Talk":
        return Talk(self.channel, **options)

    async def ask(self, text: str) -> str:
        """The one reply to a prompt, on a stream of its own. Raises AioRpcError."""
        talk = self.talk()
        try:
            await talk.start()
            await talk.say(text)
            reply = await talk.hear()
            await talk.finish()
        except (grpc.aio.AioRpcError, EOFError, asyncio.InvalidStateError):
            raise await talk.failure() from None
        return reply

    async def stats(self) -> dict[str, int]:
        """What the engine process has seen, less the stream that asks."""
        stats: dict[str, int] = json.loads(await self.ask("stats"))
        return stats

    async def engine_streams(self) -> int:
        """Streams that are open in the engine process."""
        stats = await self.stats()
        return stats["opened"] - stats["ended"] - 1

    async def model(self) -> model_pb2.ModelStatus:
        response = await model_pb2_grpc.ModelServiceStub(self.channel).ListModels(model_pb2.ListModelsRequest())
        return response.models[0]

    async def serving(self, name: str = "") -> bool:
        request = health_pb2.HealthCheckRequest(service=name)
        answer = await health_pb2_grpc.HealthStub(self.channel).Check(request)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def watch_health(self) -> Any:
        return health_pb2_grpc.HealthStub(self.channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE_NAME))

    def socket_folders(self) -> list[Path]:
        return list(self.temporary.glob("talkmesh-*"))

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send the host, or all of its process group as a terminal does, a signal."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    async def logged(self, text: str) -> None:
        """Wait until the log has a line with that text."""
        await until(lambda: asyncio.sleep(0, any(text in line for line in self.log)), START_S)

    async def exit_code(self) -> int:
        return await asyncio.wait_for(self.process.wait(), STOP_S)

    def complaints(self) -> list[str]:
        """Lines of the log that a normal life does not have."""
        return [line for line in self.log if re.search(r"Traceback| ERROR |^E\d{4} |never retrieved|destroyed", line)]


class Talk:
    """One call of LlmService.Generate."""

    def __init__(self, channel: grpc.aio.Channel, **options: Any) -> None:
        self.call = llm_pb2_grpc.LlmServiceStub(channel).Generate(**options)
        self._ending = Ending(self.call)

    async def start(self) -> llm_pb2.GenerationStarted:
        await self.call.write(llm_pb2.GenerateRequest(config=llm_pb2.GenerationConfig()))
        response = await self.call.read()
        if not isinstance(response, llm_pb2.GenerateResponse):
            raise EOFError("the stream ended before its first response")
        return response.started

    async def say(self, text: str) -> None:
        message = llm_pb2.Message(role=llm_pb2.ROLE_USER, content=text)
        await self.call.write(llm_pb2.GenerateRequest(prompt=llm_pb2.Prompt(messages=[message])))

    async def hear(self) -> str:
        response = await self.call.read()
        if not isinstance(response, llm_pb2.GenerateResponse):
            raise EOFError("the stream ended")
        return response.delta.text

    async def finish(self) -> None:
        """Half-close, and read to the end of the stream: only Finished may come."""
        await self.call.done_writing()
        rest = [response.WhichOneof("response") async for response in reading(self.call)]
        assert rest == ["finished"]
        assert await self.call.code() is grpc.StatusCode.OK

    async def failure(self) -> grpc.aio.AioRpcError:
        """The error that ends the stream."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for _ in reading(self.call):
                pass
        ended = await self._ending.outcome()
        assert ended.code is not grpc.StatusCode.OK
        return grpc.aio.AioRpcError(ended.code, grpc.aio.Metadata(), grpc.aio.Metadata(*ended.trailing), ended.details)


async def reading(call: Any) -> AsyncIterator[llm_pb2.GenerateResponse]:
    while isinstance(response := await call.read(), llm_pb2.GenerateResponse):
        yield response


async def until(condition: Callable[[], Awaitable[Any]], within_s: float, every_s: float = 0.02) -> float:
    """Wait until a condition holds; returns how long it took."""
    began = time.monotonic()
    while not await condition():
        if time.monotonic() - began > within_s:
            raise AssertionError(f"not so within {within_s} s")
        await asyncio.sleep(every_s)
    return time.monotonic() - began


async def gone(pid: int, within_s: float) -> float:
    """Wait until a process is no more; returns how long it took."""

    async def ended() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return await until(ended, within_s)


def command(catalog: Path, *arguments: str) -> list[str]:
    """The command line of a host."""
    defaults = ["--listen", "127.0.0.1:0", "--catalog", str(catalog)]
    return [sys.executable, "-m", "tests.fakes.echo_host", *defaults, *arguments]


@asynccontextmanager
async def running(
    catalog: Catalog = PARROT,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    ready: bool = True,
    clean: bool = True,
    before: Sequence[str] = (),
) -> AsyncIterator[Host]:
    """A host that listens and, if `ready`, serves. `before` comes before its command line.

    On leaving it is told to stop, if it still runs; then it must end with code 0, have logged nothing bad (unless not
    `clean`) and leave no socket behind.
    """
    # A short path: that of a socket may have no more than 107 bytes.
    temporary = Path(tempfile.mkdtemp(prefix="tm-"))
    (temporary / "catalog.json").write_text(json.dumps(catalog))
    process = await asyncio.create_subprocess_exec(
        *(*before, *command(temporary / "catalog.json", *arguments)),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary), PARENT_VARIABLE: str(os.getpid()), **(environment or {})},
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    host = Host(process, temporary)
    following = asyncio.create_task(follow(host))
    try:
        await asyncio.wait_for(until(lambda: is_listening(host), START_S), START_S)
        async with channels.channel(host.target) as host.channel:
            if ready:
                await until(host.serving, START_S)
            yield host
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                assert await host.exit_code() == 0
                assert host.socket_folders() == []
        await following
        assert not clean or host.complaints() == []
    except BaseException:
        sys.stderr.write("".join(host.log))
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        following.cancel()
        shutil.rmtree(temporary)


async def follow(host: Host) -> None:
    """Keep what the host and its engine process log."""
    assert host.process.stderr is not None
    async for line in host.process.stderr:
        host.log.append(line.decode())


async def is_listening(host: Host) -> bool:
    for line in list(host.log):
        if found := re.search(r"listening on \S+:(\d+)$", line):
            host.port = int(found[1])
            return True
    assert host.process.returncode is None, "the host ended: " + "".join(host.log)
    return False


def detail(error: grpc.aio.AioRpcError, kind: type[Detail]) -> Detail:
    """The detail of one kind in the google.rpc.Status that came with an error."""
    packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(packed)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    unpacked = kind()
    assert any(each.Unpack(unpacked) for each in status.details), f"no {kind.__name__}"
    return unpacked
