"""A model that a host holds: its engine process, looked after, and the channel to it."""

import asyncio
import contextlib
import logging
import math
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import grpc

from services.runtime import channels, memory, priority
from services.runtime.bell import Bell
from services.runtime.engine import ModelSpec, Service
from services.runtime.engine_process import EngineJob, Progress
from services.runtime.errors import LoadFailed
from services.runtime.interface import Interface
from services.runtime.liveness import pulse
from services.runtime.sockets import socket_folder

FIRST_BACKOFF_S, MOST_BACKOFF_S = 0.2, 10.0
STABLE_AFTER_S = 30.0
EXIT_GRACE_S = 1.0
CONNECT_S = 2.0
LAST_WORDS_S = 1.0
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
"""Of engine processes, unless it is set otherwise. numpy's threads spin for some 25 ms after a product of matrices, waiting
for the next one: with 25 pictures a second that took more of a core than drawing them did."""
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


@dataclass(eq=False)
class Resident:
    """One model of a service in one engine process at a time.

    `run` brings it up and looks after it. While it is `wanted`, an engine process that ends is started again, later and
    later if it keeps ending early; otherwise its end is the resident's.
    """

    service: Service
    model: str
    spec: ModelSpec
    bell: Bell = field(default_factory=Bell)
    wanted: bool = True
    preloaded: bool = False
    pid: int = 0
    restarts: int = 0
    load_s: float = 0.0
    last_error: str = ""
    channel: grpc.aio.Channel | None = None
    interface: Interface = field(default_factory=Interface)
    slots: set[str] = field(default_factory=set)
    """Slots whose new streams it serves."""
    leases: set[Any] = field(default_factory=set)
    timings: dict[Phase, float] = field(default_factory=dict)
    """Seconds that the engine process spent in each phase on its way up."""
    deaths: list[float] = field(default_factory=list)
    """When, on the monotonic clock, an engine process died that had been ready."""
    on_death: Callable[["Resident"], None] = field(default=lambda _: None)
    used_at: float = field(default_factory=time.monotonic)
    """When it last served a slot or a stream."""
    keep_until: float = 0.0
    """Until when it stays warm with no slot to serve, and until when its streams may go on, on the monotonic clock."""
    drain_until: float = math.inf
    _step: Phase = Phase.FETCHING
    _step_at: float = field(default_factory=time.monotonic)
    _ready_at: float = math.inf
    _killed_for: str = ""

    @property
    def phase(self) -> Phase:
        """Where it stands. Once ready that follows from who uses it."""
        if self.channel is None:
            return self._step
        if self.slots:
            return Phase.ACTIVE
        return Phase.DRAINING if self.leases else Phase.STANDBY

    @property
    def streams(self) -> int:
        return len(self.leases)

    @property
    def rss_bytes(self) -> int:
        """Resident memory of the engine process; 0 while there is none."""
        return memory.rss_bytes(self.pid)

    @property
    def vram_bytes(self) -> int:
        """Memory of the engine process on accelerators."""
        return memory.vram_bytes(self.pid)

    async def run(self) -> None:
        """Look after the engine process until it is gone for good, or until cancelled."""
        backoff = FIRST_BACKOFF_S
        try:
            while True:
                await self._run_once()
                if time.monotonic() - self._ready_at > STABLE_AFTER_S:
                    backoff = FIRST_BACKOFF_S
                if not self.wanted:
                    return
                log.warning("%s: %s; starting it again in %.1f s", self.model, self.last_error, backoff)
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, MOST_BACKOFF_S)
                self.restarts += 1
        except asyncio.CancelledError:
            self._enter(Phase.UNLOADED)
            raise

    async def _run_once(self) -> None:
        """One engine process, from its start to its end."""
        self._ready_at, self._killed_for, self.timings = math.inf, "", {}
        began = time.monotonic()
        try:
            async with self._process() as (process, channel):
                self._ready_at = time.monotonic()
                self.load_s = self._ready_at - began
                log.info("%s: ready after %.2f s (pid %d)", self.model, self.load_s, process.pid)
                await self._serve(process, channel)
        except LoadFailed as error:
            self._enter(Phase.FAILED, str(error))
            if self.slots:
                self._mourn()

    def _mourn(self) -> None:
        self.deaths.append(time.monotonic())
        self.on_death(self)

    async def _serve(self, process: asyncio.subprocess.Process, channel: grpc.aio.Channel) -> None:
        """Have streams served until the process ends."""
        self._enter(Phase.STANDBY)
        self.channel = channel
        self.bell.ring()
        kill = self._killer(process)
        try:
            async with cancelled_at_end(
                memory.limited(process.pid, self.spec.memory_limit_mb, memory.SERVING_INTERVAL_S, kill),
                pulse(channel, kill),
            ):
                code = await process.wait()
        finally:
            self.channel, self.pid = None, 0
        self._enter(Phase.FAILED, f"the engine process {self._killed_for or ended(code)}")
        self._mourn()

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
            if not self.wanted:
                priority.yield_to_others(process.pid)
            async with reading(descriptor) as progress:
                await self._until_ready(process, progress)
            priority.be_equal(process.pid, self.service.nice)
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
                env=ENVIRONMENT | os.environ,
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
        """Follow the process's progress, in the time and memory that it may take. Raises LoadFailed."""
        limited = memory.limited(
            process.pid, self.spec.memory_limit_mb, memory.LOADING_INTERVAL_S, self._killer(process)
        )
        limit_s = self.spec.load_timeout_s
        try:
            async with cancelled_at_end(limited, hurried(process.pid)), asyncio.timeout(limit_s) as timeout:
                async for line in progress:
                    told = Progress.model_validate_json(line)
                    if told.phase == "ready":
                        return self._timed()
                    if told.phase == "failed":
                        raise LoadFailed(told.error)
                    if told.phase == "validating":
                        limit_s = self.spec.warm_up_timeout_s
                        timeout.reschedule(asyncio.get_running_loop().time() + limit_s)
                    self.interface = told.interface or self.interface
                    self._enter(Phase[told.phase.upper()])
                code = await process.wait()
        except TimeoutError:
            raise LoadFailed(f"was still {self._step.name.lower()} after {limit_s:g} s") from None
        raise LoadFailed(f"the engine process {self._killed_for or ended(code)} while {self._step.name.lower()}")

    def _killer(self, process: asyncio.subprocess.Process) -> Callable[[str], None]:
        def kill(why: str) -> None:
            self._killed_for = f"was stopped: it {why}"
            with contextlib.suppress(ProcessLookupError):
                process.kill()

        return kill

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        self.pid = 0
        if process.returncode is None:
            # To give memory back takes a while, in which nobody is to be kept waiting.
            priority.yield_to_others(process.pid)
        await ensure_gone(process)

    def _enter(self, phase: Phase, error: str = "") -> None:
        self._timed()
        self._step = phase
        self.last_error = error or self.last_error
        self.bell.ring()

    def _timed(self) -> None:
        """Book the time since the last step on that step."""
        now = time.monotonic()
        self.timings[self._step] = self.timings.get(self._step, 0.0) + now - self._step_at
        self._step_at = now


async def hurried(pid: int) -> None:
    """A model that is still being loaded after a while has waited for idle time long enough."""
    await asyncio.sleep(priority.PATIENCE_S)
    priority.hurry(pid)


@asynccontextmanager
async def cancelled_at_end(*watches: Any) -> AsyncIterator[None]:
    """Run coroutines beside the body, and cancel them when it ends."""
    tasks = [asyncio.create_task(watch) for watch in watches]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
            priority.be_equal(process.pid)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def ended(code: int) -> str:
    """How a process ended, in words."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
