"""A model that a host keeps running: its engine process, kept alive, and the channel to it."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import grpc
import psutil

from services.runtime import channels
from services.runtime.engine import ModelSpec, Service
from services.runtime.engine_process import EngineJob, Progress
from services.runtime.errors import LoadFailed

FIRST_BACKOFF_S, MOST_BACKOFF_S = 0.2, 10.0
STABLE_AFTER_S = 30.0
EXIT_GRACE_S = 3.0
READY_CHANNEL_S = 5.0
log = logging.getLogger(__name__)


class Phase(Enum):
    """Where a model stands; the values are those of talkmesh.model.v1.Phase."""

    FETCHING = 1
    LOADING = 2
    VALIDATING = 3
    WARMING = 4
    STANDBY = 5
    ACTIVE = 6
    DRAINING = 7
    UNLOADED = 8
    FAILED = 9


@dataclass
class Resident:
    """One model of a service in one engine process at a time.

    `run` keeps it alive: an engine process that ends is started again, later and later while it keeps ending early.
    """

    service: Service
    model: str
    spec: ModelSpec
    phase: Phase = Phase.UNLOADED
    pid: int = 0
    restarts: int = 0
    streams: int = 0
    load_s: float = 0.0
    last_error: str = ""
    channel: grpc.aio.Channel | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self) -> None:
        """Keep an engine process running until cancelled."""
        backoff = FIRST_BACKOFF_S
        while True:
            began = time.monotonic()
            try:
                await self._run_once()
            except LoadFailed as error:
                await self._enter(Phase.FAILED, str(error))
            if time.monotonic() - began > STABLE_AFTER_S:
                backoff = FIRST_BACKOFF_S
            log.warning("%s: %s; starting it again in %.1f s", self.model, self.last_error, backoff)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, MOST_BACKOFF_S)
            self.restarts += 1

    async def _run_once(self) -> None:
        began = time.monotonic()
        async with self._process() as (process, progress):
            self.pid = process.pid
            await self._until_ready(process, progress)
            self.load_s = time.monotonic() - began
            async with channels.channel(f"unix:{self._socket}") as channel:
                await asyncio.wait_for(channel.channel_ready(), READY_CHANNEL_S)
                self.channel = channel
                try:
                    log.info("%s: ready after %.2f s (pid %d)", self.model, self.load_s, self.pid)
                    await self._enter(Phase.ACTIVE)
                    code = await process.wait()
                finally:
                    self.channel, self.pid = None, 0
                await self._enter(Phase.FAILED, f"the engine process {ended(code)}")

    async def _until_ready(self, process: asyncio.subprocess.Process, progress: asyncio.StreamReader) -> None:
        """Follow the process's progress. Raises LoadFailed when it does not get ready."""
        async for line in progress:
            told = Progress.model_validate_json(line)
            if told.phase == "ready":
                return
            if told.phase == "failed":
                raise LoadFailed(told.error)
            await self._enter(Phase[told.phase.upper()])
        raise LoadFailed(f"the engine process {ended(await process.wait())} while {self.phase.name.lower()}")

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
        """A started engine process and what it tells of its progress; gone, with its socket, on leaving."""
        reader, writer = os.pipe()
        with tempfile.TemporaryDirectory(prefix="talkmesh-") as folder:
            self._socket = Path(folder) / "engine.sock"
            job = EngineJob(
                module=self.service.module,
                model=self.model,
                spec=self.spec,
                socket=self._socket,
                progress_fd=writer,
                log_level=logging.getLevelName(logging.getLogger().level),
            )
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "services.runtime.engine_process", job.model_dump_json()),
                    stdin=asyncio.subprocess.PIPE,
                    pass_fds=[writer],
                )
            except OSError:
                os.close(reader)
                raise
            finally:
                os.close(writer)
            async with reading(reader) as progress:
                try:
                    yield process, progress
                finally:
                    await asyncio.shield(ensure_gone(process))

    async def _enter(self, phase: Phase, error: str = "") -> None:
        async with self.changed:
            self.phase = phase
            self.last_error = error or self.last_error
            self.changed.notify_all()

    @property
    def rss_bytes(self) -> int:
        """Resident memory of the engine process; 0 while there is none."""
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self.pid).memory_info().rss) if self.pid else 0
        return 0


@asynccontextmanager
async def reading(descriptor: int) -> AsyncIterator[asyncio.StreamReader]:
    """A pipe's reading end as a stream."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb"))
    try:
        yield reader
    finally:
        transport.close()


async def ensure_gone(process: asyncio.subprocess.Process) -> None:
    """Ask a process to end, and kill it if it does not."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), EXIT_GRACE_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def ended(code: int) -> str:
    """How a process ended, in words."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
