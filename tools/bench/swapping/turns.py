"""Live conversations through the whole mesh, turn after turn, and how their sound and pictures arrive.

How late something is, is told by the session's clock as the client knows it: the least delay that anything of the session
had is that of the way, and whatever comes later than that after its place on the clock is late by as much. A picture that
was left out is as late as the next one that takes its place. A player with a buffer of BUFFER_MS stands still only for sound
that is later than that: an underrun.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from talkmesh import (
    Audio,
    AudioInput,
    Client,
    LiveCall,
    LiveEvent,
    Outcome,
    SessionConfig,
    TalkmeshError,
    TurnDone,
    Video,
    Wav,
    read_wav,
)
from tools.bench.swapping.records import Gap

QUESTIONS = (
    "What is the capital of France?",
    "Tell me something about the ocean.",
    "Why is the sky blue?",
    "How do birds fly?",
)
BUFFER_MS = 200.0
TURNS_EACH = 6
AGAIN_S = 0.5
REPLY_TOKENS = 40
SIZE = 256
LONGEST_TURN_S = 60.0
TAIL_S = 0.1
"""Sound that may be missing at the end of a turn: less than anybody hears."""
BYTES_A_SAMPLE = 2


CHUNK_S = 0.02


@dataclass
class Turn:
    """One turn as the client saw it; moments in seconds of time.monotonic."""

    rate_hz: int
    began: float = field(default_factory=time.monotonic)
    first_at: float = 0.0
    end_sample: int = 0
    """Of the sound that has come."""
    done: TurnDone | None = None
    error: str = ""

    @property
    def ttfa_ms(self) -> float:
        """From asking to the first sound."""
        return 1000 * (self.first_at - self.began)

    @property
    def failed(self) -> bool:
        return self.done is None or self.done.outcome is Outcome.FAILED

    @property
    def truncated(self) -> bool:
        """The reply is said to go on after the last sound that came."""
        return self.done is not None and self.done.end_sample - self.end_sample > TAIL_S * self.rate_hz

    def models_of(self, service: str) -> set[str]:
        return {model.name for model in self.done.models if model.service == service} if self.done else set()


@dataclass
class Arrivals:
    """What came of one session's sound and pictures, and when."""

    rate_hz: int
    frame: int
    """Samples a picture."""
    sound: list[tuple[int, float]] = field(default_factory=list)
    pictures: list[tuple[int, float]] = field(default_factory=list)

    def late(self) -> tuple[list[Gap], list[Gap]]:
        """How late sound was, and each picture that there should have been."""
        both = [*self.sound, *self.pictures]
        way = min((at - start / self.rate_hz for start, at in both), default=0.0)
        sound = [Gap(at, 1000 * max(0.0, at - start / self.rate_hz - way)) for start, at in self.sound]
        return sound, list(self._pictures_late(way))

    def _pictures_late(self, way: float) -> Iterator[Gap]:
        due = self.pictures[0][0] if self.pictures else 0
        for start, at in self.pictures:
            while due <= start:
                yield Gap(at, 1000 * max(0.0, at - due / self.rate_hz - way))
                due += self.frame


@dataclass
class Conversations:
    """Clients that ask, listen to the end, and ask again."""

    address: str
    spoken: Path | None
    """A recorded question to speak; without it questions are typed."""
    turns: list[Turn] = field(default_factory=list)
    arrivals: list[Arrivals] = field(default_factory=list)
    refused: int = 0
    """So often a new session was told to come again later, as the machine was busy. It came again."""
    stopping: bool = False

    async def client(self, number: int) -> None:
        """One session after another until `stopping`."""
        wav = read_wav(self.spoken) if self.spoken else None
        fmt = AudioInput(wav.sample_rate_hz, wav.channels, wav.is_float) if wav else None
        async with Client(self.address) as client:
            while not self.stopping:
                config = SessionConfig(
                    input=fmt, size=SIZE, max_reply_tokens=REPLY_TOKENS, seed=number, temperature=0.0, phonemes=False
                )
                try:
                    async with client.live(config) as call:
                        await self.session(call, wav, number)
                except TalkmeshError as error:
                    if error.code == "RESOURCE_EXHAUSTED":
                        self.refused += 1
                    else:
                        self.turns.append(Turn(1, error=f"{error.code}: {error}"))
                    await asyncio.sleep(error.retry_after_s or AGAIN_S)

    async def session(self, call: LiveCall, wav: Wav | None, number: int) -> None:
        """Some turns, and everything that comes meanwhile."""
        started = call.started
        arrivals = Arrivals(started.sample_rate_hz, int(started.sample_rate_hz / started.fps))
        self.arrivals.append(arrivals)
        microphone = Microphone(call, wav) if wav else None
        speaking = asyncio.create_task(microphone.run()) if microphone else None
        events = call.events()
        try:
            for index in range(TURNS_EACH):
                if not self.stopping:
                    await self.turn(call, events, arrivals, microphone, number + index)
        finally:
            if speaking:
                speaking.cancel()

    async def turn(
        self,
        call: LiveCall,
        events: AsyncIterator[LiveEvent],
        arrivals: Arrivals,
        microphone: "Microphone | None",
        number: int,
    ) -> None:
        """Ask once, and wait as long as a listener would."""
        turn = Turn(call.started.sample_rate_hz)
        self.turns.append(turn)
        try:
            async with asyncio.timeout(LONGEST_TURN_S):
                if microphone:
                    microphone.speak(turn)
                else:
                    await call.ask(QUESTIONS[number % len(QUESTIONS)])
                async for each in events:
                    take(turn, arrivals, each)
                    if turn.done:
                        return
        except TimeoutError:
            turn.error = f"not done within {LONGEST_TURN_S:g} s"
        turn.error = turn.error or "the call ended in the middle of a turn"
        raise TalkmeshError(turn.error, "UNAVAILABLE")


def take(turn: Turn, arrivals: Arrivals, each: LiveEvent) -> None:
    """Note when an event came."""
    now = time.monotonic()
    match each.event:
        case Audio() as audio:
            turn.first_at = turn.first_at or now
            turn.end_sample = audio.start_sample + len(audio.data) // BYTES_A_SAMPLE
            arrivals.sound.append((audio.start_sample, now))
        case Video() as picture:
            arrivals.pictures.append((picture.start_sample, now))
        case TurnDone() as done:
            turn.done = done


class Microphone:
    """Silence, and now and then a recorded question, in real time."""

    def __init__(self, call: LiveCall, wav: Wav) -> None:
        self._call = call
        self._wav = wav
        self._samples = round(wav.sample_rate_hz * CHUNK_S)
        self._asking: Turn | None = None

    def speak(self, turn: Turn) -> None:
        """Say the question once. The turn begins when it is said."""
        self._asking = turn

    async def run(self) -> None:
        """Send until cancelled."""
        began, sent, size = time.monotonic(), 0, self._samples * self._wav.frame_bytes
        left = b""
        while True:
            if self._asking and not left:
                left = self._wav.data
            chunk, left = left[:size], left[size:]
            await self._call.hear(chunk.ljust(size, b"\0"))
            sent += 1
            if chunk and not left and self._asking:
                self._asking.began, self._asking = time.monotonic(), None
            await asyncio.sleep(max(0.0, began + sent * CHUNK_S - time.monotonic()))
