"""Live sessions without services: a face that flashes and beeps once a second, and remembers what it was told."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction

import av
import numpy as np
from av.video.frame import PictureType

from gateway.live.program import Picture, Program, Sound, Told
from services.runtime.errors import Busy, DomainError, InvalidInput, NotFound
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.model.v1 import model_pb2

RATE_HZ = 24000
FPS = Fraction(25)
SOUND = RATE_HZ // 50
PICTURE = RATE_HZ // 25
BEEP_S = 0.12
BEEP_HZ = 1000
PORTRAITS = ("mei", "leo")


class Camera:
    """H.264 as the renderer makes it: black, white at the beginning of every second."""

    def __init__(self, size: int) -> None:
        codec = av.CodecContext.create("libx264", "w")
        codec.width = codec.height = size
        codec.pix_fmt = "yuv420p"
        codec.time_base, codec.framerate = 1 / FPS, FPS
        codec.bit_rate = 600_000
        codec.gop_size = 1000
        codec.profile = "Baseline"
        codec.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "scenecut=0"}
        self._codec = codec
        self._size = size
        self._noise = np.random.default_rng(1).integers(0, 60, (size * 3 // 2, size), dtype=np.uint8)
        self.wanted = True
        self.keyframes = 0

    def picture(self, index: int) -> Picture:
        """Picture `index`, a keyframe if it was wanted."""
        start = index * PICTURE
        pixels = np.roll(self._noise, index, axis=1)
        pixels[: self._size] += np.uint8(170 if beeping(start) else 0)
        frame = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
        frame.pts = index
        frame.pict_type = PictureType.I if self.wanted else PictureType.NONE
        packets = self._codec.encode(frame)
        keyframe = any(packet.is_keyframe for packet in packets)
        self.wanted = False
        self.keyframes += keyframe
        return Picture(start, b"".join(bytes(packet) for packet in packets), keyframe, beeping(start))


def beeping(sample: int) -> bool:
    """Whether a sample of the session lies in a beep."""
    return sample % RATE_HZ < BEEP_S * RATE_HZ


def tone(start: int) -> bytes:
    """SOUND samples from `start` on."""
    at = np.arange(start, start + SOUND)
    loud = at % RATE_HZ < BEEP_S * RATE_HZ
    return (12000 * np.sin(2 * np.pi * BEEP_HZ * at / RATE_HZ) * loud).astype("<i2").tobytes()


class FakeLive:
    """A live session that does as gateway.live.session.LiveSession says."""

    input_rate_hz = 16000

    def __init__(self, config: conversation_pb2.ConversationConfig) -> None:
        self.id = secrets.token_urlsafe(8)
        size = config.size or 256
        self.config = config
        self.camera = Camera(size)
        self.wishes: list[float] = []
        self.program = Program(RATE_HZ, FPS, size, size)
        self.program.keyframe = self._keyframe
        self.started = conversation_pb2.ConversationStarted(
            session_id=self.id,
            portrait=config.portrait or "mei",
            width=size,
            height=size,
            sample_rate_hz=RATE_HZ,
            models=[model_pb2.ServingModel(service="tts", model="heart", slot_generation=3)],
        )
        self.heard = bytearray()
        self.calls: list[str] = []
        self.slow_s = 0.0
        self.attachments = 0
        self.began_s = 0.0
        self._ended = asyncio.Event()
        self._error: DomainError | None = None

    def _keyframe(self) -> None:
        """At most one in 500 ms."""
        now = asyncio.get_running_loop().time()
        if not self.wishes or now - self.wishes[-1] > 0.5:
            self.wishes.append(now)
            self.camera.wanted = True

    async def hear(self, data: bytes, start_sample: int | None = None) -> None:
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        self.heard += data

    async def ask(self, text: str) -> str:
        if not text:
            raise InvalidInput("text", "is empty")
        return self._done("ask", text)

    async def say(self, text: str) -> str:
        return self._done("say", text)

    async def start_of_turn(self) -> None:
        self._done("start_of_turn")

    async def end_of_turn(self) -> None:
        self._done("end_of_turn")

    async def interrupt(self) -> None:
        self._done("interrupt")

    async def closed(self) -> None:
        await self._ended.wait()
        if self._error is not None:
            raise self._error

    def _done(self, *words: str) -> str:
        self.calls.append(" ".join(words))
        return f"turn-{len(self.calls)}"

    def tell(self, event: conversation_pb2.ConverseResponse) -> None:
        """Release an event."""
        self.program.release(Told(event))

    def end(self, error: DomainError | None = None) -> None:
        """The session is over."""
        self._error = error
        self.program.end()
        self._ended.set()

    async def play(self) -> None:
        """Release what is due, in real time, until the end."""
        loop = asyncio.get_running_loop()
        self.began_s = loop.time()
        index = 0
        while not self._ended.is_set():
            if index % 2 == 0:
                self.program.release(self.camera.picture(index // 2))
            self.program.release(Sound(index * SOUND, tone(index * SOUND), beeping(index * SOUND)))
            index += 1
            await asyncio.sleep(max(0.0, self.began_s + index * 0.02 - loop.time()))


class FakeSessions:
    """Opens fake sessions, and keeps them for a while when nobody is attached. Made by `live`."""

    def __init__(self, group: asyncio.TaskGroup, grace_s: float = 2.0, most: int = 8) -> None:
        self.sessions: dict[str, FakeLive] = {}
        self._group = group
        self._grace_s = grace_s
        self._most = most

    def get(self, session_id: str) -> FakeLive:
        if session_id not in self.sessions:
            raise NotFound("session", session_id)
        return self.sessions[session_id]

    def close(self, session_id: str) -> None:
        self.get(session_id).end()
        del self.sessions[session_id]

    def list(self) -> list[FakeLive]:
        return [*self.sessions.values()]

    @asynccontextmanager
    async def attached(self, config: conversation_pb2.ConversationConfig) -> AsyncIterator[FakeLive]:
        if config.portrait and config.portrait not in PORTRAITS:
            raise NotFound("portrait", config.portrait, PORTRAITS)
        if config.size % 2:
            raise InvalidInput("size", f"{config.size} is odd", "an even number")
        session = self.get(config.session_id) if config.session_id else self._opened(config)
        async with self.kept(session.id):
            yield session

    @asynccontextmanager
    async def kept(self, session_id: str) -> AsyncIterator[FakeLive]:
        session = self.get(session_id)
        session.attachments += 1
        try:
            yield session
        finally:
            session.attachments -= 1
            if not session.attachments:
                self._group.create_task(self._forget(session))

    def _opened(self, config: conversation_pb2.ConversationConfig) -> FakeLive:
        if len(self.sessions) >= self._most:
            raise Busy(f"all {self._most} sessions are in use", retry_after_s=2.5)
        session = FakeLive(config)
        self.sessions[session.id] = session
        self._group.create_task(session.play())
        return session

    async def _forget(self, session: FakeLive) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(self._grace_s)
        if not session.attachments:
            session.end()
            self.sessions.pop(session.id, None)


@asynccontextmanager
async def live(grace_s: float = 2.0, most: int = 8) -> AsyncIterator[FakeSessions]:
    """Fake sessions; all end on leaving."""
    async with asyncio.TaskGroup() as group:
        sessions = FakeSessions(group, grace_s, most)
        try:
            yield sessions
        finally:
            for session in sessions.list():
                session.end()
            sessions._grace_s = 0.0
