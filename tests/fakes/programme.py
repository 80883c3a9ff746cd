"""Live sessions that nobody talks to: a white flash and a click once a second, in real time, on a real Program."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.video.frame import PictureType

from gateway.live.program import Picture, Program, Sound, Told
from services.runtime.errors import DomainError, NotFound
from talkmesh.conversation.v1 import conversation_pb2

RATE_HZ, FPS, SIZE = 24_000, Fraction(25), 128
PICTURE_SAMPLES = RATE_HZ // 25
SOUND_SAMPLES = RATE_HZ // 50
EVENT_EVERY = 25
"""Pictures from one flash, with its click, to the next."""
CLICK_SAMPLES = 120


class Encoder:
    """Pictures of a colour, with noise if they are to be large."""

    def __init__(self, noise: bool = False, preset: str = "ultrafast") -> None:
        self.codec = av.CodecContext.create("libx264", "w")
        self.codec.width = self.codec.height = SIZE
        self.codec.pix_fmt, self.codec.time_base, self.codec.framerate = "yuv420p", 1 / FPS, FPS
        self.codec.gop_size = 1000
        self.codec.options = {
            "preset": preset,
            "tune": "zerolatency",
            "forced-idr": "1",
            "crf": "10" if noise else "23",
            "x264-params": "scenecut=0:repeat-headers=1:annexb=1",
        }
        self._noise = np.random.default_rng(1) if noise else None

    def encode(self, index: int, level: int, keyframe: bool) -> tuple[bytes, bool]:
        picture = np.full((SIZE, SIZE, 3), level, np.uint8)
        if self._noise is not None:
            picture = self._noise.integers(0, 255, (SIZE, SIZE, 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = index
        frame.pict_type = PictureType.I if keyframe else PictureType.NONE
        (packet,) = self.codec.encode(frame)
        return bytes(packet), packet.is_keyframe


@dataclass
class FakeSession:
    """A session whose programme runs by the clock while `running` is on."""

    id: str
    noise: bool = False
    spoken: list[str] = field(default_factory=list)
    mute: bool = False
    """What it is to say never ends."""
    picture_delay: int = 0
    """Pictures come so many sounds later than they are due."""

    def __post_init__(self) -> None:
        self._wanted = False
        self.keyframes_wanted = 0
        self.encoder = Encoder(self.noise)
        self.program = Program(RATE_HZ, FPS, SIZE, SIZE)
        self.program.keyframe = self._want_keyframe
        self.started = conversation_pb2.ConversationStarted(
            session_id=self.id, sample_rate_hz=RATE_HZ, fps_numerator=25, fps_denominator=1, width=SIZE, height=SIZE
        )
        self.kept = 0
        self.error: DomainError | None = None
        self._ended = asyncio.Event()

    def _want_keyframe(self) -> None:
        self._wanted = True
        self.keyframes_wanted += 1

    input_rate_hz = 0

    async def hear(self, data: bytes, start_sample: int | None = None) -> None: ...

    async def start_of_turn(self) -> None: ...

    async def end_of_turn(self) -> None: ...

    async def interrupt(self) -> None: ...

    async def ask(self, text: str) -> str:
        return await self.say(text)

    async def say(self, text: str) -> str:
        self.spoken.append(text)
        turn = f"turn-{len(self.spoken)}"
        if not self.mute:
            asyncio.get_running_loop().call_later(0.3, self._done, turn, text)
        return turn

    def _done(self, turn: str, text: str) -> None:
        done = conversation_pb2.TurnDone(outcome=conversation_pb2.OUTCOME_COMPLETED, reply_text=text)
        self.program.release(Told(conversation_pb2.ConverseResponse(turn_id=turn, done=done)))

    async def closed(self) -> None:
        await self._ended.wait()
        if self.error:
            raise self.error

    def swap_renderer(self) -> None:
        """Pictures come from another encoder, with other parameter sets, from now on."""
        self.encoder = Encoder(self.noise, "veryfast")

    def end(self, error: DomainError | None = None) -> None:
        self.error = error
        self.program.end()
        self._ended.set()

    async def play(self) -> None:
        """Release sound and pictures when they are due."""
        loop = asyncio.get_running_loop()
        began, index = loop.time(), 0
        waiting: list[Picture] = []
        while not self._ended.is_set():
            start = index * SOUND_SAMPLES
            self.program.release(Sound(start, sound(start), speaking=True))
            if start % PICTURE_SAMPLES == 0:
                waiting.append(self._picture(start // PICTURE_SAMPLES))
            while waiting and start - waiting[0].start >= self.picture_delay * SOUND_SAMPLES:
                self.program.release(waiting.pop(0))
            index += 1
            await asyncio.sleep(began + index * SOUND_SAMPLES / RATE_HZ - loop.time())

    def _picture(self, index: int) -> Picture:
        wanted, self._wanted = self._wanted, False
        data, keyframe = self.encoder.encode(index, 235 if index % EVENT_EVERY == 0 else 16, wanted)
        return Picture(index * PICTURE_SAMPLES, data, keyframe, speaking=True)


def sound(start: int) -> bytes:
    """20 ms of the clicks."""
    at = np.arange(start, start + SOUND_SAMPLES) % (EVENT_EVERY * PICTURE_SAMPLES)
    tone = np.sin(at * 2 * np.pi * 3000 / RATE_HZ) * 20_000
    return np.where(at < CLICK_SAMPLES, tone, 0).astype("<i2").tobytes()


class FakeSessions:
    """Sessions by name; those that are `attached` are new ones."""

    def __init__(self) -> None:
        self._sessions: dict[str, FakeSession] = {}
        self._playing: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def attached(self, config: conversation_pb2.ConversationConfig) -> AsyncIterator[FakeSession]:
        async with self.playing(config.session_id or f"session-{len(self._sessions) + 1}") as session:
            session.started.portrait = config.portrait
            yield session

    def get(self, session_id: str) -> FakeSession:
        if session_id not in self._sessions:
            raise NotFound("session", session_id)
        return self._sessions[session_id]

    def list(self) -> list[FakeSession]:
        return list(self._sessions.values())

    def close(self, session_id: str) -> None:
        self.get(session_id).end()

    @asynccontextmanager
    async def kept(self, session_id: str) -> AsyncIterator[FakeSession]:
        session = self.get(session_id)
        session.kept += 1
        try:
            yield session
        finally:
            session.kept -= 1

    @asynccontextmanager
    async def playing(self, session_id: str = "one", noise: bool = False, delay: int = 0) -> AsyncIterator[FakeSession]:
        """A session that plays until it is left."""
        session = self._sessions[session_id] = FakeSession(session_id, noise, picture_delay=delay)
        playing = asyncio.create_task(session.play())
        try:
            yield session
        finally:
            session.end(session.error)
            self._sessions.pop(session_id, None)
            await playing
