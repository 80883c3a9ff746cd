"""Conversations through the whole mesh, turn after turn, and how their sound and pictures arrive.

How late something is, is told by an ideal player that starts with the first sound of a turn and never stops: a chunk whose
place on the media clock is 700 ms after the first one's is due 700 ms after that one came. What comes before it is due is
not late at all: 0. A player with a buffer of BUFFER_MS stands still only for what is later than that: an underrun.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from talkmesh import (
    Audio,
    AudioInput,
    Client,
    ClientSession,
    Event,
    ReplyClause,
    SessionConfig,
    TalkmeshError,
    TurnDone,
    Video,
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
TURNS_EACH = 3
REPLY_TOKENS = 40
SIZE = 256
LONGEST_TURN_S = 60.0
TAIL_S = 0.1
"""Sound that may be missing at the end of a turn: less than anybody hears."""
BYTES_A_SAMPLE = 2


@dataclass
class Turn:
    """One turn as the client saw it; moments in seconds of time.monotonic."""

    rate_hz: int
    began: float = field(default_factory=time.monotonic)
    first_at: float = 0.0
    start_sample: int = 0
    end_sample: int = 0
    """Of the sound that has come."""
    sound: list[Gap] = field(default_factory=list)
    pictures: list[Gap] = field(default_factory=list)
    done: TurnDone | None = None
    error: str = ""

    @property
    def ttfa_ms(self) -> float:
        """From asking to the first sound."""
        return 1000 * (self.first_at - self.began)

    @property
    def failed(self) -> bool:
        return self.done is None

    @property
    def truncated(self) -> bool:
        """The reply is said to go on after the last sound that came."""
        return self.done is not None and self.done.end_sample - self.end_sample > TAIL_S * self.rate_hz

    def models_of(self, service: str) -> set[str]:
        return {model.name for model in self.done.models if model.service == service} if self.done else set()

    def take(self, event: Event, now: float) -> None:
        """Note when an event of the reply came."""
        match event:
            case Audio():
                if not self.first_at:
                    self.first_at, self.start_sample = now, event.start_sample
                self.end_sample = event.start_sample + len(event.data) // BYTES_A_SAMPLE
                self.sound.append(Gap(now, self.late_ms(event.start_sample, now)))
            case Video() if event.speaking and self.first_at:
                self.pictures.append(Gap(now, self.late_ms(event.start_sample, now)))
            case TurnDone():
                self.done = event

    def late_ms(self, sample: int, now: float) -> float:
        due = self.first_at + (sample - self.start_sample) / self.rate_hz
        return max(0.0, 1000 * (now - due))

    def heard_by(self) -> float:
        """When a listener has heard it all."""
        return self.first_at + (self.end_sample - self.start_sample) / self.rate_hz


@dataclass
class Conversations:
    """Clients that ask, listen to the end, and ask again."""

    address: str
    spoken: Path | None
    """A recorded question to speak, in real time; without it questions are typed."""
    turns: list[Turn] = field(default_factory=list)
    stopping: bool = False

    async def client(self, number: int) -> None:
        """One conversation after another until `stopping`."""
        wav = read_wav(self.spoken) if self.spoken else None
        fmt = AudioInput(wav.sample_rate_hz, wav.channels, wav.is_float) if wav else None
        async with Client(self.address) as client:
            while not self.stopping:
                config = SessionConfig(
                    input=fmt, size=SIZE, max_reply_tokens=REPLY_TOKENS, seed=number, temperature=0.0
                )
                try:
                    async with client.session(config) as session:
                        for index in range(TURNS_EACH):
                            if not self.stopping:
                                await self.turn(session, number + index)
                except TalkmeshError as error:
                    self.turns.append(Turn(1, error=f"{error.code}: {error}"))
                    await asyncio.sleep(0.5)

    async def turn(self, session: ClientSession, number: int) -> None:
        """Ask once, and wait as long as a listener would."""
        turn = Turn(session.started.sample_rate_hz)
        self.turns.append(turn)
        replying = False
        try:
            async with asyncio.timeout(LONGEST_TURN_S):
                async for event in self.asked(session, number):
                    replying = replying or isinstance(event, ReplyClause)
                    if replying or isinstance(event, TurnDone):
                        turn.take(event, time.monotonic())
        except TimeoutError:
            turn.error = f"not done within {LONGEST_TURN_S:g} s"
        except TalkmeshError as error:
            turn.error = f"{error.code}: {error}"
        else:
            await asyncio.sleep(turn.heard_by() - time.monotonic())

    def asked(self, session: ClientSession, number: int) -> AsyncIterator[Event]:
        if self.spoken:
            return session.ask_wav(self.spoken, real_time=True)
        return session.ask(QUESTIONS[number % len(QUESTIONS)])
