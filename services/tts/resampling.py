"""Changing the sample rate of audio that comes in pieces, to the sample."""

from fractions import Fraction

import av
import numpy as np

from services.tts.engine import Samples


class Resampler:
    """One run of audio from one rate to another by libswresample; make a new one for the next run.

    `push` gives what is ready, `finish` the rest. All of it together is exactly `samples_out` samples.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int, samples_in: int) -> None:
        self._rate_in_hz = rate_in_hz
        self._swr = av.AudioResampler("flt", "mono", rate_out_hz) if rate_in_hz != rate_out_hz else None
        self._left = scaled(samples_in, rate_in_hz, rate_out_hz)
        self._pushed = 0

    def push(self, samples: Samples) -> Samples:
        if self._swr is None or not len(samples):
            return self._within(samples)
        frame = av.AudioFrame.from_ndarray(samples[None, :], "flt", "mono")
        frame.sample_rate = self._rate_in_hz
        frame.time_base = Fraction(1, self._rate_in_hz)
        frame.pts = self._pushed
        self._pushed += len(samples)
        return self._within(joined(self._swr.resample(frame)))

    def finish(self) -> Samples:
        rest = joined(self._swr.resample(None)) if self._swr and self._pushed else np.zeros(0, np.float32)
        rest = self._within(rest)
        # The filter may keep back a sample or two that rounding has promised.
        return np.concatenate([rest, np.zeros(self._left, np.float32)])

    def _within(self, samples: Samples) -> Samples:
        samples = samples[: self._left]
        self._left -= len(samples)
        return samples


def scaled(position: int, rate_in_hz: int, rate_out_hz: int) -> int:
    """A sample position at another rate, rounded half up."""
    return (2 * position * rate_out_hz + rate_in_hz) // (2 * rate_in_hz)


def joined(frames: list[av.AudioFrame]) -> Samples:
    parts = [frame.to_ndarray().reshape(-1) for frame in frames]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
