"""Placing an engine's audio and spans on a call's clock: the rate asked for, 16 bit, no chunk too long, no gap."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from services.tts.engine import PhonemeSpan, Samples, Speech, WordSpan
from services.tts.resampling import Resampler, scaled

CHUNK_MS = 40
Pcm = bytes
"""Mono PCM_S16LE."""


class Delivery:
    """The clock of a call. Announce a Speech, then push its audio; after the last sample it is complete by itself."""

    def __init__(self, rate_in_hz: int, rate_out_hz: int) -> None:
        self._rate_in_hz, self._rate_out_hz = rate_in_hz, rate_out_hz
        self._chunk = CHUNK_MS * rate_out_hz // 1000
        self._clock = 0
        self._missing = 0

    @property
    def clock(self) -> int:
        """Where the next chunk starts."""
        return self._clock

    def announce(self, speech: Speech) -> tuple[list[PhonemeSpan], list[WordSpan]]:
        """Its spans on the clock. The rest of the Speech before must have been pushed."""
        if self._missing:
            raise RuntimeError(f"the engine owes {self._missing} samples of the speech before")
        self._missing = speech.samples
        self._resampler = Resampler(self._rate_in_hz, self._rate_out_hz, speech.samples)
        self._buffer = np.zeros(0, np.float32)
        return (
            [replace(span, start=self._placed(span.start), end=self._placed(span.end)) for span in speech.phonemes],
            [replace(span, start=self._placed(span.start), end=self._placed(span.end)) for span in speech.words],
        )

    def push(self, samples: Samples) -> Iterator[tuple[int, Pcm]]:
        """(start, data) of the chunks that are full now, and at the end of the Speech of all that is left."""
        self._missing -= len(samples)
        if self._missing < 0:
            raise RuntimeError(f"the engine gave {-self._missing} samples more than it announced")
        ready = [self._buffer, self._resampler.push(samples)]
        if not self._missing:
            ready.append(self._resampler.finish())
        self._buffer = np.concatenate(ready)
        while len(self._buffer) >= self._chunk or (len(self._buffer) and not self._missing):
            chunk, self._buffer = self._buffer[: self._chunk], self._buffer[self._chunk :]
            yield self._clock, pcm(chunk)
            self._clock += len(chunk)

    def _placed(self, position: int) -> int:
        return self._clock + scaled(position, self._rate_in_hz, self._rate_out_hz)


def pcm(samples: Samples) -> Pcm:
    """Float samples as 16 bit; what is beyond full scale is clipped."""
    return np.rint(np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()
