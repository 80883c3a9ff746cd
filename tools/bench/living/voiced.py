"""Where somebody speaks in a recording: found with the whole of it at hand, so better than anything that listens live.

Silero says which 32 ms hold a voice; energy says, within them and a little around, where it begins and ends.
"""

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.asr.silero import WINDOW, SpeechProbabilities, open_session

RATE_HZ = 16_000
LIKELY = 0.5
FRAME = RATE_HZ // 100
BELOW_LOUD_DB = 26.0
"""A frame that is so much quieter than the loudest ones is not voiced: breath and room."""
LEAST_PAUSE_MS = 200
Samples = NDArray[np.float32]
Span = tuple[int, int]


@cache
def silero() -> Any:
    from faster_whisper.utils import get_assets_path

    return open_session(next(Path(get_assets_path()).glob("silero_vad*.onnx")))


def levels_db(samples: Samples) -> NDArray[np.float32]:
    """Level of each 10 ms, relative to full scale."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.sqrt(np.mean(frames.astype(np.float64) ** 2, axis=1))
    return np.asarray(20 * np.log10(np.maximum(power, 1e-6)), np.float32)


def spans(samples: Samples) -> list[Span]:
    """Where the voice is, in samples at 16 kHz (full scale is 1); silences shorter than LEAST_PAUSE_MS are part of it."""
    probabilities = SpeechProbabilities(silero()).push(np.pad(samples, (0, WINDOW)))
    levels = levels_db(samples)
    if not len(levels):
        return []
    loud = levels > np.percentile(levels, 95) - BELOW_LOUD_DB
    likely = np.repeat(np.array(probabilities) >= LIKELY, WINDOW)[: len(samples) // FRAME * FRAME]
    # A window before and after: Silero is a little late both ways.
    near = np.convolve(likely, np.ones(2 * WINDOW + 1), "same") > 0
    voiced = loud & near.reshape(-1, FRAME).any(axis=1)
    return joined(voiced)


def joined(voiced: NDArray[np.bool_]) -> list[Span]:
    """Runs of voiced frames, in samples."""
    found: list[Span] = []
    for frame in np.flatnonzero(voiced):
        start, end = int(frame) * FRAME, (int(frame) + 1) * FRAME
        if found and start - found[-1][1] < LEAST_PAUSE_MS * RATE_HZ // 1000:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return [span for span in found if span[1] - span[0] > 3 * FRAME]


def pauses(found: list[Span]) -> list[Span]:
    """The silences between the spans."""
    return [(before[1], after[0]) for before, after in pairwise(found)]


def noise(samples: Samples, seed: int, lasts_s: float = 2.0) -> Samples:
    """The room without the speaker: noise as loud as the quietest twentieth of a recording."""
    quietest = 10 ** (float(np.percentile(levels_db(samples), 5)) / 20)
    return np.random.default_rng(seed).normal(0, quietest, int(lasts_s * RATE_HZ)).astype(np.float32)
