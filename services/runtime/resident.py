"""A model that a host keeps running: its engine process, kept alive, and the channel to it."""

import asyncio
import contextlib
import logging
import math
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import grpc
import psutil

from services.runtime import channels
from services.runtime.engine import ModelSpec, Service
from services.runtime.engine_process import EngineJob, Progress
from services.runtime.errors import LoadFailed
from services.runtime.sockets import socket_folder

FIRST_BACKOFF_S, MOST_BACKOFF_S = 0.2, 10.0
STABLE_AFTER_S = 30.0
EXIT_GRACE_S = 1.0
CONNECT_S = 2.0
LAST_WORDS_S = 1.0
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
    _ready_at: float = field(default=math.inf, init=False)

    async def run(self) -> None:
        """Keep an engine process running until cancelled."""
        backoff = FIRST_BACKOFF_S
        while True:
            self._ready_at = math.inf
            try:
                await self._run_once()
            except LoadFailed as error:
                await self._enter(Phase.FAILED, str(error))
            if time.monotonic() - self._ready_at > STABLE_AFTER_S:
                backoff = FIRST_BACKOFF_S
            log.warning("%s: %s; starting it again in %.1f s", self.model, self.last_error, backoff)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, MOST_BACKOFF_S)
            self.restarts += 1

    async def _run_once(self) -> None:
        began = time.monotonic()
        async with self._process() as (process, channel):
            self._ready_at = time.monotonic()
            self.load_s = self._ready_at - began
            log.info("%s: ready after %.2f s (pid %d)", self.model, self.load_s, process.pid)
            self.channel = channel
            try:
                await self._enter(Phase.ACTIVE)
                code = await process.wait()
            finally:
                self.channel, self.pid = None, 0
            await self._enter(Phase.FAILED, f"the engine process {ended(code)}")

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[tuple[asyncio.subprocess.Process, grpc.aio.Channel]]:
        """An engine process that is ready, and a channel to it; gone, with its socket, on leaving. Raises LoadFailed."""
        async with AsyncExitStack() as stack:
            try:
                socket = stack.enter_context(socket_folder()) / "engine.sock"
                process, descriptor = await self._start(socket)
            except OSError as error:
                raise LoadFailed(f"the engine process could not be started: {error}") from error
            self.pid = process.pid
            stack.push_async_callback(self._end, process)
            async with reading(descriptor) as progress:
                await self._until_ready(process, progress)
            channel = channels.channel(f"unix:{socket}")
            # Streams of a process that died are told so by the connection; closing at once could cancel them before.
            stack.push_async_callback(channel.close, LAST_WORDS_S)
            try:
                await asyncio.wait_for(channel.channel_ready(), CONNECT_S)
            except TimeoutError:
                raise LoadFailed(f"the engine process did not answer on its socket within {CONNECT_S:g} s") from None
            yield process, channel

    async def _start(self, socket: Path) -> tuple[asyncio.subprocess.Process, int]:
        """Start an engine process; returns it and the descriptor on which it tells its progress."""
        reader, writer = os.pipe()
        job = EngineJob(
            module=self.service.module,
            model=self.model,
            spec=self.spec,
            socket=socket,
            progress_fd=writer,
            host_pid=os.getpid(),
            log_level=logging.getLevelName(logging.getLogger().level),
        )
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.runtime.engine_process", job.model_dump_json()),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=[writer],
                # A signal to the host's process group is the host's to act on: its streams may still need the engine.
                start_new_session=True,
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return process, reader

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

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        self.pid = 0
        await ensure_gone(process)

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
    """Ask a process to end, and kill it if it does not within EXIT_GRACE_S, or at once when cancelled."""
    if process.returncode is not None:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), EXIT_GRACE_S)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def ended(code: int) -> str:
    """How a process ended, in words."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
