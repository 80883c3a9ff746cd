"""A person in a live call: a microphone that never stops, and a notebook of what came and when."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from talkmesh import (
    Audio,
    AudioInput,
    Client,
    Cut,
    Event,
    LiveCall,
    LiveEvent,
    SessionConfig,
    TurnDone,
    Video,
    read_wav,
)

RATE = 16000
CHUNK = 320
PATIENCE_S = 45.0
Kind = TypeVar("Kind", bound=Event)


@dataclass
class Heard:
    """An event, and when it came (seconds of perf_counter)."""

    at: float
    live: LiveEvent

    @property
    def event(self) -> Event:
        return self.live.event


@dataclass
class Person:
    """Use through `person`."""

    call: LiveCall
    format: AudioInput
    heard: list[Heard] = field(default_factory=list)
    sends: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared, the microphone is open but nothing comes from it."""
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared, nobody takes what comes."""
    _left: bytes = b""
    _said: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def say(self, wav: Path | bytes) -> float:
        """Speak a recording, or PCM of the microphone's format; returns when it was all said (seconds of perf_counter)."""
        self._said.clear()
        self._left = wav if isinstance(wav, bytes) else read_wav(wav).data
        await self._said.wait()
        return time.perf_counter()

    def of(self, kind: type[Kind]) -> list[Kind]:
        """Everything of a kind that came, in order."""
        return [each.event for each in self.heard if isinstance(each.event, kind)]

    async def until(self, kind: type[Kind], count: int = 1) -> Kind:
        """Wait until there are so many of a kind; the last of them."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    async def turns(self, count: int) -> list[TurnDone]:
        """Wait until so many turns are over."""
        await self.until(TurnDone, count)
        return self.of(TurnDone)[:count]

    async def speaks(self, seconds: float = 0.0) -> None:
        """Wait until so much more of a reply was heard."""
        before = len(self.of(Audio))
        await self.until(Audio, before + 1 + round(50 * seconds))

    async def run_microphone(self) -> None:
        began, chunks = time.perf_counter(), 0
        size = self.format.sample_rate_hz // 50 * self.format.channels * (4 if self.format.is_float else 2)
        while True:
            if not self.sends.is_set():
                await self.sends.wait()
                began, chunks = time.perf_counter(), 0
            chunk, self._left = self._left[:size], self._left[size:]
            await self.call.hear(chunk.ljust(size, b"\0"))
            if chunk and not self._left:
                self._said.set()
            chunks += 1
            await asyncio.sleep(max(0.0, began + chunks * CHUNK / RATE - time.perf_counter()))

    async def run_ears(self) -> None:
        async for live in self.call.events():
            self.heard.append(Heard(time.perf_counter(), live))
            async with self._news:
                self._news.notify_all()
            await self.reads.wait()


@asynccontextmanager
async def person(address: str, config: SessionConfig, microphone: bool = True) -> AsyncIterator[Person]:
    """Somebody in a live call."""
    async with Client(address) as client, client.live(config) as call:
        made = Person(call, config.input or AudioInput(RATE))
        made.sends.set()
        made.reads.set()
        tasks = [asyncio.create_task(made.run_ears())]
        tasks += [asyncio.create_task(made.run_microphone())] if microphone else []
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)


def listening(**options: object) -> SessionConfig:
    """A session with a microphone."""
    return SessionConfig(input=AudioInput(RATE), size=256, seed=1, temperature=0.0, **options)  # type: ignore[arg-type]


def cough() -> bytes:
    """A burst of noise of 150 ms with the envelope of a cough, twice; nobody would take it for words."""
    rng = np.random.default_rng(7)
    burst = rng.normal(0, 9000, RATE * 150 // 1000) * np.exp(-np.linspace(0, 5, RATE * 150 // 1000))
    return np.concatenate([burst, np.zeros(RATE // 10), burst]).clip(-32000, 32000).astype("<i2").tobytes()


def check_one_clock(heard: list[Heard], rate_hz: int) -> None:
    """Sound and pictures keep their order, sound of a reply has no overlap, and nothing stale comes after a cut."""
    sound_until = picture_until = 0
    cut: Cut | None = None
    stale = 0
    for each in heard:
        match each.event:
            case Cut():
                cut, stale = each.event, each.live.generation
            case Audio(start, data):
                assert start >= sound_until, "sound comes twice"
                sound_until = start + len(data) // 2
                if cut and not cut.may_resume and each.live.generation < stale:
                    assert start < cut.at_sample + rate_hz // 50, "sound of what was cut"
            case Video(start_sample=start):
                assert start >= picture_until, "pictures out of order"
                picture_until = start
