"""A browser as far as WebRTC goes: aiortc as the client of a gateway, with eyes and ears."""

import asyncio
import contextlib
import json
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceTransport,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
    clock,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtcpSrPacket
from av import AudioFrame

from gateway.webrtc.peers import Answer

Ask = Callable[[str], Awaitable[Answer]]
CLOCKS = {"audio": 48000, "video": 90000}
QUIET = 2000


class ToneTrack(MediaStreamTrack):
    """A microphone somebody whistles into; it can be muted and unplugged."""

    kind = "audio"

    def __init__(self, hz: float = 440.0) -> None:
        super().__init__()
        self.hz = hz
        self.unplugged = False
        self.sent = 0
        self._began_s: float | None = None

    async def recv(self) -> AudioFrame:
        while True:
            self._began_s = self._began_s or time.monotonic()
            await asyncio.sleep(max(0.0, self._began_s + self.sent / 48000 - time.monotonic()))
            at = np.arange(self.sent, self.sent + 960)
            self.sent += 960
            if self.unplugged:
                continue
            samples = (10000 * np.sin(2 * np.pi * self.hz * at / 48000)).astype("<i2")
            frame = AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, int(at[0]), Fraction(1, 48000)
            return frame


class Ear:
    """What one receiver gets: packets as they arrive, reports, and frames as they are decoded."""

    def __init__(self, receiver: RTCRtpReceiver, track: MediaStreamTrack) -> None:
        self.kind = track.kind
        self.rate_hz = CLOCKS[track.kind]
        self.receiver = receiver
        self.arrivals: list[tuple[float, int]] = []
        """Wall time and RTP timestamp of each packet."""
        self.reports: list[tuple[float, int]] = []
        """Wall time and RTP timestamp that belong together."""
        self.frames: list[Any] = []
        self.onsets: list[int] = []
        """RTP timestamps at which beeps or flashes begin."""
        self.loudest = 0
        self._quiet_since = 0
        self._bright: bool | None = None
        self.ssrc = 0
        self._hear_rtp, self._hear_rtcp = receiver._handle_rtp_packet, receiver._handle_rtcp_packet
        receiver._handle_rtp_packet = self._on_rtp  # type: ignore[method-assign]
        receiver._handle_rtcp_packet = self._on_rtcp  # type: ignore[method-assign]
        self.task = asyncio.create_task(self._watch(track))

    async def _watch(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                self.frames.append(frame)
                self._look(frame)

    async def _on_rtp(self, packet: Any, arrival_time_ms: int) -> None:
        if not self.ssrc:
            self.ssrc = packet.ssrc
        if packet.ssrc == self.ssrc:
            self.arrivals.append((time.time(), packet.timestamp))
        await self._hear_rtp(packet, arrival_time_ms)

    async def _on_rtcp(self, packet: Any) -> None:
        if isinstance(packet, RtcpSrPacket):
            info = packet.sender_info
            self.reports.append((clock.datetime_from_ntp(info.ntp_timestamp).timestamp(), info.rtp_timestamp))
        await self._hear_rtcp(packet)

    def wall_s(self, timestamp: int) -> float:
        """When something with an RTP timestamp was due, by the report nearest to it."""
        at_s, reported = min(self.reports, key=lambda report: abs(signed(timestamp - report[1])))
        return at_s + signed(timestamp - reported) / self.rate_hz

    def timestamp(self, frame: Any) -> int:
        """The RTP timestamp of a decoded frame."""
        return int(self.arrivals[0][1] + frame.pts)

    def lateness_s(self, since_s: float, until_s: float) -> list[float]:
        """How late packets came that arrived within a stretch of wall time."""
        return [at - self.wall_s(stamp) for at, stamp in self.arrivals if since_s <= at < until_s]

    @property
    def onset_times(self) -> list[float]:
        """Wall times of the onsets."""
        return [self.wall_s(stamp) for stamp in self.onsets]

    def _look(self, frame: Any) -> None:
        """Notice when a beep or a flash begins."""
        if self.kind == "video":
            bright = float(frame.to_ndarray(format="gray").mean()) > 128
            if bright and self._bright is False:
                self.onsets.append(self.timestamp(frame))
            self._bright = bright
            return
        left = frame.to_ndarray()[0, ::2].astype(int)
        self.loudest = max(self.loudest, int(np.abs(left).max()))
        for index in np.flatnonzero(np.abs(left) > QUIET):
            at = frame.pts + int(index)
            if at - self._quiet_since > 24000:
                self.onsets.append(self.timestamp(frame) + int(index))
            self._quiet_since = at


def signed(difference: int) -> int:
    """Of 32 bits that wrap."""
    return (difference + (1 << 31)) % (1 << 32) - (1 << 31)


class Browser:
    """One connection. Made by `browser`."""

    def __init__(self, microphone: MediaStreamTrack | None, video: str) -> None:
        """`video`: "H264", "VP8", both with a blank between, or "" for none."""
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.messages: list[dict[str, Any]] = []
        self.ears: dict[str, Ear] = {}
        self.answer: Answer | None = None
        self.connection.on("track", self._on_track)
        self.channel: RTCDataChannel = self.connection.createDataChannel("events")
        self.channel.on("message", lambda text: self.messages.append(json.loads(text)))
        if microphone is not None:
            self.connection.addTrack(microphone)
        else:
            self.connection.addTransceiver("audio", direction="recvonly")
        if video:
            wanted = [f"video/{name}" for name in video.split()] + ["video/rtx"]
            codecs = [each for each in RTCRtpSender.getCapabilities("video").codecs if each.mimeType in wanted]
            self.connection.addTransceiver("video", direction="recvonly").setCodecPreferences(codecs)

    def _on_track(self, track: MediaStreamTrack) -> None:
        receiver = next(each for each in self.connection.getReceivers() if each.track is track)
        self.ears[track.kind] = Ear(receiver, track)

    async def offer(self) -> str:
        await self.connection.setLocalDescription()
        return self.connection.localDescription.sdp

    async def accept(self, answer: Answer) -> None:
        self.answer = answer
        await self.connection.setRemoteDescription(RTCSessionDescription(answer.sdp, "answer"))
        await until(lambda: self.connection.connectionState == "connected")

    @property
    def ice(self) -> RTCIceTransport:
        return self.connection.getReceivers()[0].transport.transport

    @property
    def audio(self) -> Ear:
        return self.ears["audio"]

    @property
    def video(self) -> Ear:
        return self.ears["video"]

    def lose(self, incoming: float = 0.0, outgoing: float = 0.0, seed: int = 1) -> None:
        """From now on, lose a share of the media packets."""
        ice, dice = self.ice, random.Random(seed)
        receive, send = ice._connection.recv, ice._connection.send

        async def recv() -> bytes:
            while True:
                data = await receive()
                if not (is_media(data) and dice.random() < incoming):
                    return data

        async def send_some(data: bytes) -> None:
            if not (is_media(data) and dice.random() < outgoing):
                await send(data)

        ice._recv, ice._send = recv, send_some

    def vanish(self) -> None:
        """Be gone without a word, as when the battery is empty."""
        for protocol in self.ice._connection._protocols:
            protocol.transport.abort()

    def said(self, kind: str) -> list[dict[str, Any]]:
        """Messages of a type."""
        return [message for message in self.messages if message["type"] == kind]

    def send(self, message: object) -> None:
        self.channel.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def close(self) -> None:
        await self.connection.close()
        for ear in self.ears.values():
            ear.task.cancel()
        await asyncio.gather(*(ear.task for ear in self.ears.values()), return_exceptions=True)


def is_media(data: bytes) -> bool:
    """Whether a datagram is SRTP, and no RTCP."""
    return 127 < data[0] < 192 and not 192 <= data[1] <= 223


@asynccontextmanager
async def browser(
    ask: Ask, microphone: MediaStreamTrack | None = None, video: str = "H264 VP8"
) -> AsyncIterator[Browser]:
    """A browser that is connected by what `ask` answers its offer with."""
    made = Browser(microphone, video)
    try:
        await made.accept(await ask(await made.offer()))
        yield made
    finally:
        await made.close()


async def until(true: Callable[[], object], within_s: float = 15.0) -> None:
    """Return when something is true. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.02)


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def pitch_hz(pcm: bytes, rate_hz: int) -> float:
    """The strongest frequency of mono PCM_S16LE."""
    samples = np.frombuffer(pcm, "<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate_hz / len(samples))
