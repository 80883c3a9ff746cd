"""Where one curve lies in time against another."""

import numpy as np
from numpy.typing import NDArray

from tools.eval.clip import SOUND_RATE_HZ
from tools.eval.opening import GRID_S
from tools.eval.trace import Curve, Floats

REACH_S = 0.4
# Less in common, and a best place means nothing.
LEAST_OVERLAP_S = 0.5
LEAST_CORRELATION = 0.2
QUIET_DB = -60.0


def offset_ms(late: Curve, reference: Curve) -> tuple[float, float] | None:
    """By how much `late` comes after `reference`, in ms, and how well they then agree (Pearson's r).

    Both are interpolated on a 10 ms grid, moved against one another by up to 400 ms, and the peak is refined by a parabola.
    None where they have too little in common, or nothing moves.
    """
    steps = round(REACH_S / GRID_S)
    scores = np.array([correlation(late, reference, GRID_S * step) for step in range(-steps, steps + 1)])
    if np.isnan(scores).all() or np.nanmax(scores) < LEAST_CORRELATION:
        return None
    best = int(np.nanargmax(scores))
    place = best - steps + peak(scores[max(0, best - 1) : best + 2])
    return float(place * GRID_S * 1000), float(scores[best])


def correlation(curve: Curve, reference: Curve, lag: float = 0.0) -> float:
    """Pearson's r of `reference` and `curve` moved back by `lag` seconds; not a number where it is undefined."""
    start = max(curve.times[0] - lag, reference.times[0])
    end = min(curve.times[-1] - lag, reference.times[-1])
    if end - start < LEAST_OVERLAP_S:
        return float("nan")
    grid = np.arange(start, end, GRID_S)
    first = np.interp(grid + lag, curve.times, curve.values)
    second = np.interp(grid, reference.times, reference.values)
    if first.std() < 1e-9 or second.std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def peak(scores: Floats) -> float:
    """Where between its neighbours the middle one of three values has its peak, -0.5 to 0.5."""
    if len(scores) < 3 or np.isnan(scores).any():
        return 0.0
    before, here, after = scores
    bend = before - 2 * here + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def loudness(start: float, samples: NDArray[np.float32]) -> Curve | None:
    """The level of the sound every 10 ms, from 0 (silence, -60 dB under its peak) to 1; None without any sound."""
    hop = round(SOUND_RATE_HZ * GRID_S)
    count = len(samples) // hop
    if not count or not samples.any():
        return None
    rms = np.sqrt(np.mean(samples[: count * hop].reshape(count, hop).astype(np.float64) ** 2, axis=1))
    return Curve(start + (np.arange(count) + 0.5) * GRID_S, level(rms))


def level(rms: Floats) -> Floats:
    """Root mean squares as a level between 0 and 1."""
    decibels = 20 * np.log10(np.maximum(rms / rms.max(), 1e-9)) if rms.any() else np.full(len(rms), QUIET_DB)
    levels: Floats = np.maximum(decibels, QUIET_DB) / -QUIET_DB + 1
    return levels
