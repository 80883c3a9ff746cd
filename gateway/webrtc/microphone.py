"""The microphone of a peer: what it sends, as a session wants to hear it."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

import av
from aiortc import RTCRtpReceiver
from aiortc.rtp import RtpPacket
from av import AudioResampler, Packet

from gateway.webrtc.reception import OPUS_HZ, Reception
from services.runtime.errors import DomainError

CHUNK_MS = 20
BACKLOG_MS = 500
"""Most audio that waits for a session which is slow to hear; what is older becomes silence."""
LONGEST_SILENCE_CHUNKS = 5
# aiortc's own jitter buffer holds 80 ms of audio back, and 320 ms for good once a packet is lost.
BUFFER = "_RTCRtpReceiver__jitter_buffer"
log = logging.getLogger(__name__)


class OpusDecoder:
    """Opus packets to mono PCM_S16LE."""

    def __init__(self, rate_hz: int) -> None:
        self._codec = av.CodecContext.create("libopus", "r")
        self._codec.sample_rate = OPUS_HZ
        self._codec.layout = "mono"
        self._codec.format = "s16"
        self._resampler = AudioResampler("s16", "mono", rate_hz)

    def decode(self, payload: bytes) -> bytes:
        """b"" if it is no Opus."""
        try:
            frames = self._codec.decode(Packet(payload)) if payload else []
        except av.FFmpegError:
            return b""
        pcm = b""
        for frame in frames:
            frame.pts = None
            for piece in self._resampler.resample(frame):
                pcm += bytes(piece.planes[0])[: 2 * piece.samples]
        return pcm


class Microphone:
    """Passes audio on in chunks of CHUNK_MS, in real time, silence for what is lost."""

    def __init__(
        self, rate_hz: int, hear: Callable[[bytes], Awaitable[None]], troubled: Callable[[DomainError], None]
    ) -> None:
        """`hear` takes mono PCM_S16LE of `rate_hz`; `troubled` is told when it could not."""
        self.reception = Reception(rate_hz, OpusDecoder(rate_hz).decode, self._heard)
        self.dropped_ms = 0
        """Became silence because the session was slow."""
        self._hear = hear
        self._troubled = troubled
        self._chunk_bytes = 2 * rate_hz * CHUNK_MS // 1000
        self._rest = bytearray()
        self._chunks: deque[bytes] = deque()
        self._skipped = 0
        """Chunks of silence to be heard before all others."""
        self._more = asyncio.Event()

    def listen_to(self, receiver: RTCRtpReceiver) -> None:
        """Take a receiver's packets before it decodes them. Once it has begun, it cannot be undone."""
        if not hasattr(receiver, BUFFER):
            raise RuntimeError("this aiortc keeps its jitter buffer elsewhere")
        setattr(receiver, BUFFER, Tap(self.take))

    def take(self, packet: RtpPacket) -> None:
        """A packet as it came."""
        self.reception.arrived(time.monotonic(), packet.timestamp, packet.payload)

    async def keep_time(self) -> None:
        """Fill in for what does not come, until cancelled."""
        while True:
            await asyncio.sleep(CHUNK_MS / 1000)
            self.reception.tick(time.monotonic())

    async def pass_on(self) -> None:
        """Have the session hear, until cancelled."""
        while True:
            await self._more.wait()
            try:
                await self._hear(self._taken())
            except DomainError as error:
                self._troubled(error)

    def _heard(self, pcm: bytes) -> None:
        self._rest += pcm
        while len(self._rest) >= self._chunk_bytes:
            self._chunks.append(bytes(self._rest[: self._chunk_bytes]))
            del self._rest[: self._chunk_bytes]
        while len(self._chunks) > BACKLOG_MS // CHUNK_MS:
            self._chunks.popleft()
            self._skipped += 1
            self.dropped_ms += CHUNK_MS
        if self._chunks:
            self._more.set()

    def _taken(self) -> bytes:
        """What is to be heard next."""
        if self._skipped:
            chunks = min(self._skipped, LONGEST_SILENCE_CHUNKS)
            self._skipped -= chunks
            return bytes(chunks * self._chunk_bytes)
        chunk = self._chunks.popleft()
        if not self._chunks:
            self._more.clear()
        return chunk


class Tap:
    """In place of a receiver's jitter buffer: it never has a frame for the receiver to decode."""

    def __init__(self, take: Callable[[RtpPacket], None]) -> None:
        self._take = take

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """No picture was lost, and no frame is complete."""
        try:
            self._take(packet)
        except Exception:
            log.exception("a packet of audio could not be taken")
        return False, None
