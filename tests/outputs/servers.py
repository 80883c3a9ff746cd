"""A real RTMP server, and what somebody who watches it, or a file, sees and hears."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import av
import numpy as np
import pytest

MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
WITHIN_S = 30.0
needs_nginx = pytest.mark.skipif(
    not MODULE.exists() or shutil.which("nginx", path="/usr/sbin:/usr/bin") is None,
    reason="needs Debian's nginx-light and libnginx-mod-rtmp",
)
CONFIGURATION = """
load_module {module};
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 64; }}
rtmp {{
    access_log {folder}/access.log;
    server {{
        listen 127.0.0.1:{port};
        application live {{ live on; wait_key on; }}
        application closed {{ live on; deny publish all; }}
    }}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass
class Nginx:
    """nginx with its RTMP module, as one process."""

    port: int
    process: asyncio.subprocess.Process

    def url(self, key: str = "secretkey", app: str = "live") -> str:
        return f"rtmp://127.0.0.1:{self.port}/{app}/{key}"

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def nginx(folder: Path, port: int = 0) -> AsyncIterator[Nginx]:
    """A server that listens, killed on leaving."""
    port = port or free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(module=MODULE, folder=folder, port=port))
    process = await asyncio.create_subprocess_exec(
        *("/usr/sbin/nginx", "-p", str(folder), "-c", str(configuration)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    server = Nginx(port, process)
    try:
        await listens(port)
        yield server
    finally:
        await server.kill()


async def listens(port: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)


@dataclass
class Watched:
    """What was decoded: times in seconds on the medium's own clock."""

    pictures: list[tuple[float, float]] = field(default_factory=list)
    """Time and mean brightness."""
    sound: list[tuple[float, "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"]] = field(default_factory=list)
    rate_hz: int = 0
    codecs: tuple[str, ...] = ()

    @property
    def flashes(self) -> list[float]:
        """Where a bright picture follows a dark one."""
        pairs = zip([(0.0, 255.0), *self.pictures], self.pictures, strict=False)
        return [now for (_, before), (now, level) in pairs if level > 128 >= before]

    @property
    def clicks(self) -> list[float]:
        """Where sound begins after half a second of silence."""
        found: list[float] = []
        for start, samples in self.sound:
            loud = np.flatnonzero(np.abs(samples) > 0.15) / self.rate_hz + start
            found += [float(time) for time in loud]
        return [now for before, now in zip([-1.0, *found], found, strict=False) if now - before > 0.5]

    @property
    def offsets(self) -> list[float]:
        """Seconds by which each flash comes later than its click; those at the edges have none."""
        clicks, end = self.clicks, self.sound[-1][0]
        inner = [flash for flash in self.flashes if self.sound[0][0] + 0.1 < flash < end - 0.1]
        return [flash - min(clicks, key=lambda click: abs(click - flash)) for flash in inner]


def watched(source: str | IO[bytes], seconds: float, **options: str) -> Watched:
    """Decode so much of a source, which blocks meanwhile."""
    seen = Watched()
    with av.open(source, "r", timeout=(15.0, 15.0), options=options) as file:
        seen.codecs = tuple(sorted(stream.codec_context.name for stream in file.streams))
        seen.rate_hz = file.streams.audio[0].rate
        first: float | None = None
        for frame in file.decode(file.streams.video[0], file.streams.audio[0]):
            assert isinstance(frame, av.VideoFrame | av.AudioFrame)
            time = float(frame.time or 0.0)
            first = time if first is None else first
            if isinstance(frame, av.VideoFrame):
                seen.pictures.append((time, float(frame.to_ndarray(format="gray").mean())))
            else:
                seen.sound.append((time, frame.to_ndarray()[0]))
            if time - first > seconds:
                return seen
    return seen


async def watch(source: str, seconds: float, **options: str) -> Watched:
    """The same, beside everything else."""
    async with asyncio.timeout(WITHIN_S + seconds):
        return await asyncio.to_thread(watched, source, seconds, **options)


async def until(condition: "object", within_s: float = WITHIN_S) -> None:
    """Wait for what a function says."""
    assert callable(condition)
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)
