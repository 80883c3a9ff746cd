"""Speech as AAC: mono PCM of any rate in, raw AAC frames at 48 kHz out."""

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

RATE_HZ = 48_000
BIT_RATE = 96_000
FRAME_SAMPLES = 1024


@dataclass(frozen=True)
class AacFrame:
    """FRAME_SAMPLES samples from `start` on, at RATE_HZ."""

    start: int
    data: bytes


class AacEncoder:
    """Encodes sound without gaps, which begins at 0. The encoder's priming is left out."""

    def __init__(self, rate_hz: int) -> None:
        self._rate = rate_hz
        self._given = 0
        self._codec = av.CodecContext.create("aac", "w")
        self._codec.sample_rate, self._codec.layout, self._codec.format = RATE_HZ, "mono", "fltp"
        self._codec.bit_rate, self._codec.time_base = BIT_RATE, Fraction(1, RATE_HZ)
        self._codec.open()

    @property
    def configuration(self) -> bytes:
        """The AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1)."""
        return bytes(self._codec.extradata or b"")

    def encode(self, pcm: bytes) -> list[AacFrame]:
        """The frames that mono PCM_S16LE, which follows what was given before, has completed."""
        if not pcm:
            return []
        frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, "<i2")[None], format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = self._rate, Fraction(1, self._rate), self._given
        self._given += frame.samples
        packets = self._codec.encode(frame)
        return [AacFrame(packet.pts, bytes(packet)) for packet in packets if packet.pts is not None and packet.pts >= 0]
