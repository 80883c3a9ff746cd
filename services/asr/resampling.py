"""Any input rate → the 16 kHz of speech models, as a stream, with exact positions on both clocks."""

import av
import numpy as np
from av.audio.resampler import AudioResampler

from services.asr.engine import Samples

RATE_HZ = 16_000


class Clock:
    """Positions on the input's clock ↔ positions at 16 kHz, which count from 0 at the input's first sample.

    Both directions round down, so that a position never moves past the audio it was taken from.
    """

    def __init__(self, start_sample: int, rate_hz: int) -> None:
        self._start = start_sample
        self._rate_hz = rate_hz

    def to_input(self, position: int) -> int:
        return self._start + position * self._rate_hz // RATE_HZ

    def from_input(self, sample: int) -> int:
        return (sample - self._start) * RATE_HZ // self._rate_hz


class Resampler:
    """Mono float audio of one stream to 16 kHz.

    FFmpeg's resampler is aligned with its input: output k lies at input k · rate / 16000, and the last 1 to 2 ms come out
    with the audio that follows them.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._resampler = AudioResampler(format="flt", layout="mono", rate=RATE_HZ)

    def push(self, samples: Samples) -> Samples:
        """The 16 kHz samples that `samples` complete, shape [m]."""
        if not len(samples):
            return samples
        if self._rate_hz == RATE_HZ:
            return samples
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples)[None], format="flt", layout="mono")
        frame.sample_rate = self._rate_hz
        pieces = [piece.to_ndarray()[0] for piece in self._resampler.resample(frame)]
        return np.concatenate(pieces) if pieces else np.empty(0, np.float32)
