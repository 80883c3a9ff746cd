"""The engine process: loads exactly one model and serves it on a unix socket until its host lets go of it.

Started by the host as `python -m services.runtime.engine_process JOB`, JOB being an EngineJob as JSON. It tells its host
how it gets on by lines of JSON (Progress) on the file descriptor that the job names.
"""

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from services.runtime import channels, lifeline, sources
from services.runtime.engine import Identity, ModelSpec, Service
from services.runtime.errors import DomainError
from services.runtime.telemetry import start_logging

STOP_GRACE_S = 2.0


class EngineJob(BaseModel):
    """What a host wants of an engine process."""

    module: str
    """Where SERVICE is defined."""
    model: str
    spec: ModelSpec
    socket: Path
    progress_fd: int
    log_level: str = "INFO"


class Progress(BaseModel):
    """A step of an engine process on its way to being ready: a Phase name in lower case, "ready" or "failed"."""

    phase: str
    error: str = ""


def service_in(module: str) -> Service:
    """The SERVICE that a module defines."""
    service: Service = importlib.import_module(module).SERVICE
    return service


class Reporter:
    """Writes progress to the host; a host that is gone is no error, for then this process is about to end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def tell(self, phase: str, error: str = "") -> None:
        line = Progress(phase=phase, error=error).model_dump_json() + "\n"
        try:
            os.write(self._descriptor, line.encode())
        except OSError:
            os._exit(1)


@asynccontextmanager
async def loaded(service: Service, job: EngineJob, reporter: Reporter) -> AsyncIterator[tuple[Any, Identity]]:
    """The job's engine, loaded and warm, with its identity."""
    reporter.tell("loading")
    source = await asyncio.to_thread(sources.resolve, job.spec.source)
    if source and job.spec.sha256:
        await asyncio.to_thread(sources.verify, source, job.spec.sha256)
    engine = service.engine(job.spec, source)
    await engine.load()
    try:
        reporter.tell("warming")
        await service.warm_up(engine)
        digest = f"sha256:{job.spec.sha256}" if job.spec.sha256 else ""
        yield engine, Identity(service.name, job.model, job.spec.engine, digest)
    finally:
        await engine.unload()


async def run(job: EngineJob) -> None:
    """Load, serve, and return when the host lets go or asks to stop."""
    reporter, service = Reporter(job.progress_fd), service_in(job.module)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    try:
        async with loaded(service, job, reporter) as (engine, identity):
            server = channels.server()
            service.attach(server, engine, identity)
            server.add_insecure_port(f"unix:{job.socket}")
            await server.start()
            reporter.tell("ready")
            waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(lifeline.parent_gone())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            await server.stop(0 if waits[1].done() else STOP_GRACE_S)
    except DomainError as error:
        reporter.tell("failed", str(error))
        sys.exit(1)


def main() -> None:
    lifeline.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = EngineJob.model_validate_json(sys.argv[1])
    start_logging(f"{job.module.split('.')[-2]}/{job.model}", job.log_level)
    asyncio.run(run(job))
    # Native thread pools of inference libraries can abort in their destructors; nothing is left to do here.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
