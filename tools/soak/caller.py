"""One live call after the other, each of another kind."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from talkmesh import Audio, AudioInput, Client, Cut, LiveCall, LiveOptions, SessionConfig, TurnDone, read_wav
from tools.up import ROOT

QUESTION = ROOT / "services" / "asr" / "golden" / "question.wav"
RATE_HZ = 16000
CHUNK = 320
TURN_S = 60.0
CONFIG = SessionConfig(
    input=AudioInput(RATE_HZ),
    size=256,
    seed=1,
    temperature=0.0,
    max_reply_tokens=16,
    mp4=True,
    face_frames=True,
    live=LiveOptions(grace_ms=1),
)
Part = Callable[[LiveCall], Awaitable[None]]


class TurnLost(Exception):
    """A turn was not answered."""


async def typed(call: LiveCall) -> None:
    """A question in writing, and its answer."""
    await call.ask("What is the capital of France?")
    await until(call, TurnDone)


async def said(call: LiveCall) -> None:
    """A text that is only said."""
    await call.say("Good morning, and welcome.")
    await until(call, TurnDone)


async def spoken(call: LiveCall) -> None:
    """A question by voice, and its answer."""
    talking = asyncio.create_task(talk(call, QUESTION))
    try:
        await until(call, TurnDone)
    finally:
        talking.cancel()


async def left(call: LiveCall) -> None:
    """A question whose answer is not heard to its end."""
    await call.ask("Tell me a long story about the sea.")
    await until(call, Audio)


async def interrupted(call: LiveCall) -> None:
    """An answer that the user stops."""
    await call.ask("Tell me a long story about the sea.")
    await until(call, Audio)
    await call.interrupt()
    await until(call, Cut)
    await until(call, TurnDone)


PARTS: tuple[Part, ...] = (typed, said, spoken, left, interrupted)


async def call(address: str, part: Part) -> None:
    """Connect, talk, leave. Raises TurnLost, TalkmeshError."""
    async with Client(address) as client, client.live(CONFIG) as made:
        try:
            async with asyncio.timeout(TURN_S):
                await part(made)
        except TimeoutError:
            raise TurnLost(f"{part.__name__} took more than {TURN_S:g} s") from None


async def until(call: LiveCall, kind: type) -> None:
    """Take what comes until there is one of a kind. Raises TurnLost."""
    async for each in call.events():
        if isinstance(each.event, kind):
            return
    raise TurnLost("the call ended before the turn")


async def talk(call: LiveCall, recording: Path) -> None:
    """Speak, then be silent, until cancelled."""
    data, began, chunks = read_wav(recording).data, time.perf_counter(), 0
    while True:
        chunk, data = data[: 2 * CHUNK], data[2 * CHUNK :]
        await call.hear(chunk.ljust(2 * CHUNK, b"\0"))
        chunks += 1
        await asyncio.sleep(max(0.0, began + chunks * CHUNK / RATE_HZ - time.perf_counter()))
