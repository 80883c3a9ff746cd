"""The engine process: loads exactly one model and serves it on a unix socket until its host lets go of it.

Started by the host as `python -m services.runtime.engine_process JOB`, JOB being an EngineJob as JSON. It tells its host
how it gets on by lines of JSON (Progress) on the file descriptor that the job names, up to "ready" or "failed".
"""

import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

from grpc_health.v1 import health_pb2_grpc
from pydantic import BaseModel

from services.runtime import channels, formats, lifeline, neighbours, sources, tracing
from services.runtime.engine import Identity, ModelSpec, Service
from services.runtime.errors import DomainError, LoadFailed
from services.runtime.health import HealthServicer
from services.runtime.interface import Interface
from services.runtime.telemetry import start_logging

STOP_GRACE_S = 2.0
FLUSH_S = 0.5
"""For the last spans: a host does not wait long for an engine process to end."""
LONGEST_ERROR = 1000
log = logging.getLogger(__name__)


class EngineJob(BaseModel):
    """What a host wants of an engine process."""

    module: str
    """Where SERVICE is defined."""
    model: str
    spec: ModelSpec
    socket: Path
    progress_fd: int
    host_pid: int
    log_level: str = "INFO"


class Progress(BaseModel):
    """A step of an engine process on its way to being ready: a Phase name in lower case, "ready" or "failed"."""

    phase: str
    error: str = ""
    interface: Interface | None = None


def service_in(module: str) -> Service:
    """The SERVICE that a module defines."""
    service: Service = importlib.import_module(module).SERVICE
    return service


class Reporter:
    """Writes progress to the host; a host that is gone is no error, for then this process is about to end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # Nothing that an engine starts may keep the pipe open.
        os.set_inheritable(descriptor, False)

    def tell(self, phase: str, error: str = "", interface: Interface | None = None) -> None:
        """Tell one step. "ready" and "failed" are the last: the host stops reading then, so the pipe is closed."""
        line = Progress(phase=phase, error=error[:LONGEST_ERROR], interface=interface).model_dump_json() + "\n"
        try:
            os.write(self._descriptor, line.encode())
        except OSError:
            os._exit(1)
        if phase in ("ready", "failed"):
            os.close(self._descriptor)


@asynccontextmanager
async def loaded(service: Service, job: EngineJob, reporter: Reporter) -> AsyncIterator[tuple[Any, Identity]]:
    """The job's engine, loaded and warm, with its identity."""
    reporter.tell("loading")
    engine = service.engine(job.spec, await asyncio.to_thread(checked_source, job.spec))
    await engine.load()
    try:
        reporter.tell("validating")
        interface = await validated(service, job.spec, engine)
        reporter.tell("warming", interface=interface)
        await service.warm_up(engine)
        digest = f"sha256:{job.spec.sha256}" if job.spec.sha256 else ""
        yield engine, Identity(service.name, job.model, job.spec.engine, digest)
    finally:
        await engine.unload()


def checked_source(spec: ModelSpec) -> Path | None:
    """Where a model's files are. Raises what is wrong with them as a DomainError."""
    source = sources.resolve(spec.source)
    if source:
        formats.refuse_pickles(source)
        if spec.sha256:
            sources.verify(source, spec.sha256)
    return source


async def validated(service: Service, spec: ModelSpec, engine: Any) -> Interface:
    """What a loaded engine takes and gives. Raises LoadFailed when that, or what it makes of the golden input, is not as
    the catalog says."""
    interface = service.interface(engine)
    wrong = neighbours.check_declared(spec.interface, interface) if spec.interface else []
    if service.measure:
        wrong += neighbours.golden_differences(spec.golden, await service.measure(engine))
    if wrong:
        raise LoadFailed("; ".join(wrong))
    return interface


@asynccontextmanager
async def serving(job: EngineJob, reporter: Reporter) -> AsyncIterator[None]:
    """The job's model, served on its socket; streams get STOP_GRACE_S to end on leaving."""
    service = service_in(job.module)
    async with loaded(service, job, reporter) as (engine, identity), tracing.exported(service.name, FLUSH_S):
        server = channels.server()
        service.attach(server, engine, identity)
        health = HealthServicer(())
        await health.say(serving=True)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        server.add_insecure_port(f"unix:{job.socket}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(STOP_GRACE_S)


async def run(job: EngineJob) -> NoReturn:
    """Load, serve, and end the process when asked to stop; with status 1 when the model does not get ready."""
    reporter, stop, ready = Reporter(job.progress_fd), asyncio.Event(), False
    lifeline.end_with_parent()
    try:
        async with serving(job, reporter):
            # Until here SIGTERM simply ends the process: half a model is worth no waiting.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            ready = True
            reporter.tell("ready")
            await stop.wait()
    except Exception as error:
        if not isinstance(error, DomainError):
            log.exception("stopping failed" if ready else "the model did not get ready")
        if not ready:
            reporter.tell("failed", told(error))
        leave(1)
    leave(0)


def leave(status: int) -> NoReturn:
    """End this process, now. Nothing is left to do, while native thread pools can abort in their destructors, a worker
    thread may be deep in an inference, and cancelling calls that are over anyway would only fill the log."""
    sys.stderr.flush()
    os._exit(status)


def told(error: Exception) -> str:
    """An error in words for a person; one that nobody foresaw keeps its type's name."""
    return str(error) if isinstance(error, DomainError) else f"{type(error).__name__}: {error}"


def main() -> None:
    job = EngineJob.model_validate_json(sys.argv[1])
    lifeline.die_with_parent(job.host_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start_logging(f"{job.module.split('.')[-2]}/{job.model}", job.log_level)
    asyncio.run(run(job))


if __name__ == "__main__":
    main()
