"""How loud a recording is, 10 ms at a time: where its voice ends, where it pauses, where it is quietest."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
FRAME = RATE_HZ // 100
BELOW_SPEECH_DB = 30.0
BREATH_BELOW_SPEECH_DB = 20.0
ABOVE_NOISE_DB = 8.0
BURST = 4
"""A shorter run of loud frames (40 ms) is a click."""

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Stretch:
    """Samples from `start` to `end`."""

    start: int
    end: int

    @property
    def ms(self) -> int:
        return (self.end - self.start) * 1000 // RATE_HZ


def decibels(audio: Samples) -> NDArray[np.float64]:
    """The level of each whole frame."""
    frames = audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    return np.asarray(10 * np.log10((frames**2).mean(axis=1) + 1e-10))


def voices(audio: Samples) -> list[Stretch]:
    """The runs of frames with a voice in them: louder than the noise, and not much softer than the loudest speech."""
    levels = decibels(audio)
    return runs(levels > max(np.percentile(levels, 95) - BELOW_SPEECH_DB, np.percentile(levels, 3) + ABOVE_NOISE_DB))


def runs(loud: NDArray[np.bool_]) -> list[Stretch]:
    """Loud frames in a row, without clicks."""
    framed = np.concatenate([[False], loud, [False]])
    edges = np.flatnonzero(framed[1:] != framed[:-1]).reshape(-1, 2)
    return [Stretch(int(start) * FRAME, int(end) * FRAME) for start, end in edges if end - start >= BURST]


def onset(audio: Samples) -> int:
    """The first voiced sample.

    Somebody who begins to speak takes a breath first, and lips smack: what is so much softer than the voice is no voice
    yet, though at the end of a word it may be.
    """
    levels = decibels(audio)
    return runs(levels > np.percentile(levels, 95) - BREATH_BELOW_SPEECH_DB)[0].start


def pauses(audio: Samples, least_ms: int) -> list[Stretch]:
    """Between voices."""
    heard = voices(audio)
    between = [Stretch(one.end, other.start) for one, other in pairwise(heard)]
    return [pause for pause in between if pause.ms >= least_ms]


def quietest(audio: Samples, length: int) -> Stretch:
    """The stretch of `length` samples with the least energy."""
    energy = np.concatenate([[0.0], np.cumsum(audio.astype(np.float64) ** 2)])
    start = int(np.argmin(energy[length:] - energy[:-length]))
    return Stretch(start, start + length)


def has_room(audio: Samples) -> bool:
    """Whether there is a moment in which nobody speaks, so that its noise can be played where nobody shall."""
    return bool(decibels(room_noise(audio, RATE_HZ)).mean() < np.percentile(decibels(audio), 95) - BELOW_SPEECH_DB)


def room_noise(audio: Samples, length: int) -> Samples:
    """`length` samples of what the recording sounds like when nobody speaks: its quietest 120 ms, back and forth."""
    sample = quietest(audio, min(len(audio), 12 * FRAME))
    piece = audio[sample.start : sample.end]
    there_and_back = np.concatenate([piece, piece[::-1]])
    return np.asarray(np.resize(there_and_back, length), np.float32)
