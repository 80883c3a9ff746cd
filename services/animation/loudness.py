"""The mouth by ear: where no phonemes are known, loud is open."""

import numpy as np

from services.animation.engine import AnimationConfig, SpeechAudio
from services.animation.shapes import Weights, weights

OPEN = weights({"jawOpen": 0.5, "mouthLowerDown": 0.25, "mouthUpperUp": 0.14})
ROUND = weights({"mouthFunnel": 0.35, "mouthPucker": 0.2})
QUIET_DB, LOUD_DB = -42.0, -14.0
ATTACK, RELEASE = 0.75, 0.4
"""Share of the way to the target that a frame goes, at 25 frames a second."""
HISS_HZ, HUM_HZ = 2500.0, 600.0


class Loudness:
    """Opening and roundness of the mouth from audio, frame by frame."""

    def __init__(self, config: AnimationConfig) -> None:
        self._config = config
        self._samples = np.zeros(0, np.float32)
        self._start = 0
        self._open = self._round = 0.0

    def add(self, audio: SpeechAudio) -> None:
        """Learn of audio. What was known from its start on is replaced, a gap is silence."""
        at = max(0, audio.start - self._start)
        kept = self._samples[:at]
        gap = np.zeros(at - len(kept), np.float32)
        self._samples = np.concatenate([kept, gap, audio.samples])

    def cut(self, at: int) -> None:
        """Forget what lies behind a sample."""
        self._samples = self._samples[: max(0, at - self._start)]

    def shape(self, frame: int) -> Weights:
        """The mouth in a frame."""
        first, last = self._config.frame_start(frame), self._config.frame_start(frame + 1)
        heard = self._samples[max(0, first - self._start) : max(0, last - self._start)]
        wanted, rounded = levels(heard, self._config.sample_rate_hz)
        self._samples = self._samples[max(0, min(last - self._start, len(self._samples))) :]
        self._start = last
        self._open += (wanted - self._open) * (ATTACK if wanted > self._open else RELEASE)
        self._round += (rounded - self._round) * RELEASE
        return self._open * OPEN + self._open * self._round * ROUND


def levels(samples: np.ndarray[tuple[int], np.dtype[np.float32]], rate_hz: int) -> tuple[float, float]:
    """How open (0 to 1, by level) and how round (0 to 1, by how low the spectrum's centre lies) a mouth sounds."""
    if len(samples) < 16:
        return 0.0, 0.0
    level = 20 * np.log10(np.sqrt(np.mean(samples**2)) + 1e-9)
    wanted = float(np.clip((level - QUIET_DB) / (LOUD_DB - QUIET_DB), 0, 1))
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    centre = float(spectrum @ np.fft.rfftfreq(len(samples), 1 / rate_hz) / (spectrum.sum() + 1e-9))
    return wanted, float(np.clip((HISS_HZ - centre) / (HISS_HZ - HUM_HZ), 0, 1))
