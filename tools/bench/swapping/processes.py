"""The processes of the bench: hosts under measurement, and load."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.runtime.lifeline import PARENT_VARIABLE
from tools.bench.swapping import load, records
from tools.bench.swapping.records import Records

ROOT = Path(__file__).resolve().parents[3]
READY_S = 60.0
STOP_S = 20.0


class NotReady(Exception):
    """Something that is to be measured did not get ready."""


@asynccontextmanager
async def process(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, quiet: bool = True
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that is told to end on leaving, and killed with its group when it does not. `log` takes what it says.

    With `quiet` its standard output goes to the log as well; otherwise, and its standard input, they are pipes.
    """
    with log.open("ab") as out:
        started = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env={**os.environ, PARENT_VARIABLE: str(os.getpid()), **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL if quiet else asyncio.subprocess.PIPE,
            stdout=out if quiet else asyncio.subprocess.PIPE,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(started.wait(), STOP_S)
        except TimeoutError:
            os.killpg(started.pid, signal.SIGKILL)
            await started.wait()


@dataclass
class RunningLoad:
    """A load process; `finish` once, while it still runs."""

    process: asyncio.subprocess.Process
    stem: Path

    async def finish(self) -> Records:
        """Let the streams that run end, and return what was recorded. Raises NotReady when the process has failed."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = await asyncio.wait_for(self.process.wait(), STOP_S + load.STUCK_S)
        if code != 0:
            raise NotReady(f"the load process ended with code {code}; its log says why: {self.stem}.log")
        return records.read(self.stem)


@asynccontextmanager
async def loading(job: load.LoadJob) -> AsyncIterator[RunningLoad]:
    """A load process all of whose streams have been answered once. Raises NotReady."""
    command = [sys.executable, "-m", load.__name__, job.model_dump_json()]
    async with process(command, job.stem.with_suffix(".log"), quiet=False) as started:
        assert started.stdout is not None
        try:
            line = await asyncio.wait_for(started.stdout.readline(), READY_S)
        except TimeoutError:
            line = b""
        if line.strip() != b"ready":
            raise NotReady(f"the streams were not answered; see {job.stem.with_suffix('.log')}")
        yield RunningLoad(started, job.stem)
