"""MLServer as a peer: the same streams at the same pace while its model repository reloads a model of the same cost.

It lives in an environment of its own, made once in the cache: its protobuf < 7 does not go with ours.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from services.runtime import channels, sources
from tools.bench.peers import inference
from tools.bench.swapping.processes import READY_S, ROOT, NotReady, process

NAME, VERSION = "mlserver", "1.7.1"
RUNTIME = "tools.bench.peers.mlserver_runtime"
INSTALL_S = 900.0
RELOAD_S = 120.0


class NotInstalled(Exception):
    """The peer cannot be had here."""


@dataclass
class Peer:
    """A running MLServer."""

    folder: Path
    target: str
    channel: grpc.aio.Channel
    pid: int

    async def load(self, model: str, load_cpu_s: float, load_mb: int, how: str) -> None:
        """Have the repository serve `model` under the one name that streams ask for. Returns when it says so.

        Raises AioRpcError.
        """
        await asyncio.to_thread(write_model, self.folder, model, load_cpu_s, load_mb, how)
        call = self.channel.unary_unary(
            inference.LOAD_METHOD,
            inference.LoadRequest.SerializeToString,
            inference.LoadResponse.FromString,
        )
        await call(inference.LoadRequest(model_name=inference.MODEL), timeout=RELOAD_S)


def environment() -> Path:
    """Where the peer's own environment is."""
    return sources.cache() / "peers" / f"{NAME}-{VERSION}"


async def installed() -> Path:
    """The Python of the peer's environment, made now if it is not there. Raises NotInstalled with pip's last words."""
    folder = environment()
    python, done = folder / "bin" / "python", folder / "complete"
    if done.exists():
        return python
    print(f"installing {NAME} {VERSION} into {folder}", file=sys.stderr, flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    await ran(sys.executable, "-m", "venv", "--clear", str(folder))
    await ran(str(python), "-m", "pip", "install", "--quiet", f"{NAME}=={VERSION}")
    done.touch()
    return python


async def ran(*command: str) -> None:
    """Run a command to its end. Raises NotInstalled with its last words."""
    started = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        out, _ = await asyncio.wait_for(started.communicate(), INSTALL_S)
    except BaseException:
        started.kill()
        await started.wait()
        raise
    if started.returncode:
        raise NotInstalled(f"{' '.join(command[1:])}: {out.decode(errors='replace').strip()[-500:]}")


def write_model(folder: Path, model: str, load_cpu_s: float, load_mb: int, how: str) -> None:
    """The one model of the repository in `folder`: what it is and what loading it costs."""
    extra = {"model": model, "load_cpu_s": load_cpu_s, "load_mb": load_mb, "load": how}
    content = {"name": inference.MODEL, "implementation": f"{RUNTIME}.FakeRuntime", "parameters": {"extra": extra}}
    (folder / "model-settings.json").write_text(json.dumps(content))


def write_settings(folder: Path, ports: list[int]) -> None:
    """Streams need parallel_workers 0: MLServer's workers do not take them, so models load in the process that serves."""
    http, grpc_port, metrics = ports
    content: dict[str, Any] = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc_port,
        "metrics_port": metrics,
        "parallel_workers": 0,
        "debug": False,
        "gzip_enabled": False,
    }
    (folder / "settings.json").write_text(json.dumps(content))


@asynccontextmanager
async def running(folder: Path, ports: list[int], load_cpu_s: float, load_mb: int, how: str) -> AsyncIterator[Peer]:
    """MLServer serving model "a". Raises NotInstalled and NotReady."""
    python = await installed()
    write_settings(folder, ports)
    write_model(folder, "a", load_cpu_s, load_mb, how)
    command = [str(python), "-m", RUNTIME, str(folder)]
    target = f"127.0.0.1:{ports[1]}"
    async with (
        process(command, folder / "mlserver.log", {"PYTHONPATH": str(ROOT)}) as started,
        channels.channel(target) as channel,
    ):
        await ready(channel, folder)
        yield Peer(folder, target, channel, started.pid)


async def ready(channel: grpc.aio.Channel, folder: Path) -> None:
    """Wait until the model is ready. Raises NotReady."""
    call = channel.unary_unary(
        inference.READY_METHOD, inference.ReadyRequest.SerializeToString, inference.ReadyResponse.FromString
    )
    try:
        async with asyncio.timeout(READY_S):
            while True:
                try:
                    if (await call(inference.ReadyRequest(name=inference.MODEL))).ready:
                        return
                except grpc.aio.AioRpcError:
                    pass
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise NotReady(f"{NAME} was not ready within {READY_S:g} s; see {folder / 'mlserver.log'}") from None
