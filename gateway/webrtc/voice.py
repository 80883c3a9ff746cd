"""The voice of a session as an Opus track."""

from contextlib import ExitStack
from fractions import Fraction
from typing import Any

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, AudioResampler, Packet

from gateway.live.program import Program, Sound, Viewer
from gateway.webrtc.clock import MediaClock

OPUS_HZ = 48000
"""RTP timestamps of Opus always count these."""
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
OPUS_DELAY = 312
"""Samples at 48 kHz by which a decoder's output is behind what was encoded, with the encoder's settings below."""
BIT_RATE = 40000
TIME_BASE = Fraction(1, OPUS_HZ)
LAG_MS = 200
"""After a stall the voice goes on at most so late."""


class OpusEncoder:
    """Mono PCM_S16LE to Opus packets with forward error correction, one for each piece of 20 ms."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._coded_hz = rate_hz if rate_hz in OPUS_RATES else OPUS_HZ
        codec = av.CodecContext.create("libopus", "w")
        codec.sample_rate = self._coded_hz
        codec.layout = "mono"
        codec.format = "s16"
        codec.bit_rate = BIT_RATE
        codec.options = {"application": "voip", "fec": "1", "packet_loss": "5", "compression_level": "5"}
        self._codec = codec
        self._resampler = AudioResampler("s16", "mono", self._coded_hz, frame_size=self._coded_hz // 50)

    def encode(self, sound: Sound) -> "Packet[Any] | None":
        """The packet, its pts such that what is decoded from it belongs there; None while a resampler begins."""
        frame = AudioFrame.from_ndarray(np.frombuffer(sound.data, "<i2").reshape(1, -1), "s16", "mono")
        frame.sample_rate = self._rate_hz
        frames = [frame] if self._coded_hz == self._rate_hz else self._resampler.resample(frame)
        coded = b""
        for piece in frames:
            piece.pts = None
            coded = coded or b"".join(bytes(packet) for packet in self._codec.encode(piece))
        if not coded:
            return None
        packet = Packet(coded)
        packet.pts = sound.start * OPUS_HZ // self._rate_hz - OPUS_DELAY
        packet.time_base = TIME_BASE
        return packet


class VoiceTrack(MediaStreamTrack):
    """What a session says, from the first moment that anybody asks for it."""

    kind = "audio"

    def __init__(self, program: Program, clock: MediaClock, watching: ExitStack) -> None:
        """It stops to watch when `watching` is closed."""
        super().__init__()
        self._program = program
        self._clock = clock
        self._watching = watching
        self._encoder = OpusEncoder(program.rate_hz)
        self._viewer: Viewer | None = None

    async def recv(self) -> "Packet[Any]":
        """The next packet, when it is due. Raises MediaStreamError at the session's end."""
        if self._viewer is None:
            self._viewer = self._watching.enter_context(self._program.watch(pictures=False, told=False, lag_ms=LAG_MS))
        async for item in self._viewer:
            assert isinstance(item, Sound)
            packet = self._encoder.encode(item) if self._clock.in_time(item.start) else None
            if packet is not None:
                return packet
        raise MediaStreamError
