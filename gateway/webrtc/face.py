"""The face of a session as a track: ready-made H.264, or pictures for aiortc to encode as VP8."""

import asyncio
import logging
from contextlib import ExitStack
from fractions import Fraction
from typing import Any

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import Packet, VideoFrame

from gateway.live.program import Picture, Program, Viewer
from gateway.webrtc.clock import MediaClock

VIDEO_HZ = 90000
TIME_BASE = Fraction(1, VIDEO_HZ)
LAG_MS = 400
log = logging.getLogger(__name__)


class FaceTrack(MediaStreamTrack):
    """Access units as they are: nothing is encoded for a viewer. The first one is a keyframe."""

    kind = "video"

    def __init__(self, program: Program, clock: MediaClock, watching: ExitStack) -> None:
        """It stops to watch when `watching` is closed."""
        super().__init__()
        self._program = program
        self._clock = clock
        self._watching = watching
        self._viewer: Viewer | None = None
        self._broken = False
        """A picture was left out, and no keyframe has come since."""

    async def recv(self) -> "Packet[Any] | VideoFrame":
        """The next picture, when it is due. Raises MediaStreamError at the session's end."""
        return await self.packet()

    async def packet(self) -> "Packet[Any]":
        """The next access unit, on RTP's clock."""
        if self._viewer is None:
            self._viewer = self._watching.enter_context(self._program.watch(sound=False, told=False, lag_ms=LAG_MS))
        picture = await self._picture(self._viewer)
        packet = Packet(picture.data)
        packet.pts = picture.start * VIDEO_HZ // self._program.rate_hz
        packet.time_base = TIME_BASE
        return packet

    async def _picture(self, viewer: Viewer) -> Picture:
        """The next one that is in time and can be decoded."""
        async for picture in viewer:
            assert isinstance(picture, Picture)
            if not self._clock.in_time(picture.start):
                self._broken = True
            elif picture.keyframe or not self._broken:
                self._broken = False
                return picture
            if self._broken:
                viewer.want_keyframe()
        raise MediaStreamError

    def want_keyframe(self) -> None:
        """The viewer has lost its picture."""
        if self._viewer is not None:
            self._viewer.want_keyframe()


class DecodedFaceTrack(FaceTrack):
    """Pictures, for viewers who cannot decode H.264."""

    def __init__(self, program: Program, clock: MediaClock, watching: ExitStack) -> None:
        super().__init__(program, clock, watching)
        self._decoder = av.CodecContext.create("h264", "r")
        self._decoder.thread_count = 1

    async def recv(self) -> "Packet[Any] | VideoFrame":
        while True:
            packet = await self.packet()
            frame = await asyncio.to_thread(self._decoded, packet)
            if frame is not None:
                frame.pts, frame.time_base = packet.pts, TIME_BASE
                return frame

    def _decoded(self, packet: "Packet[Any]") -> VideoFrame | None:
        """On a thread: the decoder is this track's own, and asked for one picture at a time."""
        try:
            frames = self._decoder.decode(packet)
        except av.FFmpegError as error:
            log.warning("a picture cannot be decoded: %s", error)
            self.want_keyframe()
            return None
        return frames[-1] if frames else None
