"""The mouth by ear: where no phonemes are known, loud is open."""

import math

import numpy as np
from numpy.typing import NDArray

from services.animation.engine import AnimationConfig, SpeechAudio
from services.animation.shapes import Weights, weights

OPEN = weights({"jawOpen": 0.5, "mouthLowerDown": 0.25, "mouthUpperUp": 0.14})
ROUND = weights({"mouthFunnel": 0.35, "mouthPucker": 0.2})
QUIET_DB, LOUD_DB = -42.0, -14.0
ATTACK_S, RELEASE_S = 0.029, 0.078
"""Time constants with which the mouth follows what it hears, opening and closing."""
HISS_HZ, HUM_HZ = 2500.0, 600.0


class Loudness:
    """Opening and roundness of the mouth from audio, frame by frame."""

    def __init__(self, config: AnimationConfig) -> None:
        self._config = config
        frame_s = float(1 / config.fps)
        self._attack, self._release = (1 - math.exp(-frame_s / constant) for constant in (ATTACK_S, RELEASE_S))
        self._samples = np.zeros(0, np.float32)
        self._start = config.frame_start(config.frame_from(config.start))
        self._open = self._round = 0.0

    def add(self, audio: SpeechAudio) -> None:
        """Learn of audio, in place of what was known of its time. What is past is not heard any more, a gap is silence."""
        heard = audio.samples[max(0, self._start - audio.start) :]
        first = max(0, audio.start - self._start)
        known = self._samples
        gap = np.zeros(max(0, first - len(known)), np.float32)
        self._samples = np.concatenate([known[:first], gap, heard, known[first + len(heard) :]])

    def forget(self, start: int, end: int) -> None:
        """Unlearn what lies in [start, end), in samples."""
        kept = self._samples.copy()
        kept[max(0, start - self._start) : max(0, end - self._start)] = 0
        self._samples = kept

    def shape(self, frame: int) -> Weights:
        """The mouth in a frame. Frames are asked for in order."""
        first, last = self._config.frame_start(frame), self._config.frame_start(frame + 1)
        heard = self._samples[max(0, first - self._start) : max(0, last - self._start)]
        wanted, rounded = levels(heard, self._config.sample_rate_hz)
        self._samples = self._samples[max(0, last - self._start) :]
        self._start = last
        self._open += (wanted - self._open) * (self._attack if wanted > self._open else self._release)
        self._round += (rounded - self._round) * self._release
        return self._open * OPEN + self._open * self._round * ROUND


def levels(samples: NDArray[np.float32], rate_hz: int) -> tuple[float, float]:
    """How open (0 to 1, by level) and how round (0 to 1, by how low the spectrum's centre lies) a mouth sounds."""
    if len(samples) < 16:
        return 0.0, 0.0
    level = 20 * np.log10(np.sqrt(np.mean(samples**2)) + 1e-9)
    wanted = float(np.clip((level - QUIET_DB) / (LOUD_DB - QUIET_DB), 0, 1))
    if not wanted:
        return 0.0, 0.0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    centre = float(spectrum @ np.fft.rfftfreq(len(samples), 1 / rate_hz) / (spectrum.sum() + 1e-9))
    return wanted, float(np.clip((HISS_HZ - centre) / (HISS_HZ - HUM_HZ), 0, 1))
