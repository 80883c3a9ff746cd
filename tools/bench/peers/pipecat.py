"""pipecat as a peer: the same questions, spoken at the same pace, answered by the same engine servers.

It lives in an environment of its own, made once in the cache; a process there (pipecat_runtime) holds the conversations.
Our stubs need a newer protobuf than pipecat asks for. pipecat itself uses protobuf for one wire format only, which is not
used here, so it runs with ours.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from services.runtime import sources
from tools.bench.living.arms import LEAD_S, Wanted
from tools.bench.living.scenes import BargeIn, Turn
from tools.bench.living.speech import Speech
from tools.bench.peers import mlserver
from tools.bench.swapping.processes import ROOT, NotReady, process

NAME, VERSION = "pipecat", "1.14.0"
RUNTIME = "tools.bench.peers.pipecat_runtime"
PACKAGE = f"pipecat-ai[silero]=={VERSION}"
STUBS = ("grpcio", "googleapis-common-protos", "protobuf")
ARMS = ("default", "tuned", "token")
"""As it comes (Silero, Smart Turn v3.2, whole sentences); the turn over after 200 ms of silence; that, and each token spoken
by itself, which no voice of ours is made for: it tells how much of the time is the waiting for a sentence."""
READY_S = 60.0
SCENE_S = 90.0


def environment() -> Path:
    """Where the peer's own environment is."""
    return sources.cache() / "peers" / f"{NAME}-{VERSION}"


async def installed() -> Path:
    """The Python of the peer's environment, made now if it is not there. Raises NotInstalled with pip's last words."""
    folder = environment()
    python, done = folder / "bin" / "python", folder / "complete"
    if done.exists():
        return python
    print(f"installing {PACKAGE} into {folder}", file=sys.stderr, flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    await mlserver.ran(sys.executable, "-m", "venv", "--clear", str(folder))
    pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    await mlserver.ran(*pip, PACKAGE)
    await mlserver.ran(*pip, "--no-deps", *(f"{name}=={version(name)}" for name in STUBS), "typing-extensions")
    done.touch()
    return python


@dataclass(frozen=True)
class Closed:
    """What a conversation took."""

    cpu_s: float
    behind_ms: float
    """How late the microphone was at most: the machine was too busy to measure on."""


@dataclass
class Conversation:
    """One open session of the peer."""

    runtime: "Runtime"

    async def ask(self, speech: Speech, listen_s: float) -> Turn:
        return Turn(**await self.runtime.do(do="ask", speech=speech.as_json(), listen_s=listen_s))

    async def interrupt(self, question: Speech, interruption: Speech, after_s: float) -> BargeIn:
        said = {"question": question.as_json(), "interruption": interruption.as_json()}
        return BargeIn(**await self.runtime.do(do="interrupt", after_s=after_s, **said))


@dataclass
class Runtime:
    """The peer's process; one conversation at a time."""

    process: asyncio.subprocess.Process
    targets: Mapping[str, str]
    log: Path
    closed: Closed | None = None

    async def do(self, **command: Any) -> dict[str, Any]:
        """Give a command and take its answer. Raises NotReady when the process has failed."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self.answer(SCENE_S)

    async def answer(self, limit_s: float) -> dict[str, Any]:
        """Raises NotReady when none comes. Lines that are no answer are what libraries print."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(limit_s):
                while line := await self.process.stdout.readline():
                    if line.startswith(b"{"):
                        told: dict[str, Any] = json.loads(line)
                        return told
        except TimeoutError:
            raise NotReady(f"{NAME} did not answer within {limit_s:g} s; see {self.log}") from None
        raise NotReady(f"{NAME} has ended; see {self.log}")

    @asynccontextmanager
    async def conversation(self, arm: str, silence: bytes, wanted: Wanted) -> AsyncIterator[Conversation]:
        """A session in one of ARMS, without history, that has heard the room for a while. Raises NotReady."""
        how = {"arm": arm, "silence": silence.hex(), "wanted": asdict(wanted), "lead_s": LEAD_S}
        await self.do(do="open", targets=dict(self.targets), **how)
        yield Conversation(self)
        told = await self.do(do="close")
        self.closed = Closed(told["cpu_s"], told["behind_ms"])


@asynccontextmanager
async def running(folder: Path, targets: Mapping[str, str]) -> AsyncIterator[Runtime]:
    """The peer on these servers ("asr", "llm", "tts" → host:port). Raises NotInstalled and NotReady."""
    python = await installed()
    log = folder / "pipecat.log"
    environment = {"PYTHONPATH": str(ROOT)}
    async with process([str(python), "-m", RUNTIME], log, environment, quiet=False) as started:
        runtime = Runtime(started, targets, log)
        await runtime.answer(READY_S)
        yield runtime
