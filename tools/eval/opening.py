"""How far the mouth is open: measured on landmarks, and as it was meant to be.

The unit is the distance between the outer corners of the eyes, which no expression changes.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import InvalidInput, NotFound
from tools.eval.landmarks import EYE_CORNERS, Points
from tools.eval.trace import Curve, Floats, Phoneme, Trace

# Points of the inner lips that face each other, upper and lower.
LIPS = ((13, 14), (82, 87), (312, 317))
GRID_S = 0.01

# By the first letter of an IPA phoneme: how open the mouth is, and how loud the sound, 0 to 1.
SOUNDS: dict[str, tuple[float, float]] = {
    letter: (openness, loudness)
    for letters, openness, loudness in (
        ("aɑæɐɒ", 1.0, 1.0),
        ("ɔʌɛɜɝ", 0.75, 1.0),
        ("eəɚɪoɘɵøœᵊᵻ", 0.5, 0.95),
        ("iuʊyɨʉ", 0.3, 0.85),
        ("wɹɻrɾljʎɫ", 0.2, 0.7),
        ("nŋɲ", 0.15, 0.6),
        ("m", 0.0, 0.55),
        ("h", 0.35, 0.25),
        ("zʒðɣʝ", 0.12, 0.4),
        ("szʃθçx", 0.12, 0.3),
        ("vf", 0.05, 0.3),
        ("dɡgtkʔcɟʤʧ", 0.15, 0.2),
        ("pb", 0.0, 0.15),
    )
    for letter in letters
}
SILENCE = (0.0, 0.0)
BILABIALS = frozenset("pbm")
# Lips cannot jump: half the width of the window by which the phonemes' steps are smoothed.
INERTIA_S = 0.06


def measured(points: Points) -> float:
    """The mean gap of the inner lips."""
    gaps = [np.hypot(*(points[lower, :2] - points[upper, :2])) for upper, lower in LIPS]
    return float(np.mean(gaps) / np.hypot(*(points[EYE_CORNERS[0], :2] - points[EYE_CORNERS[1], :2])))


def intended(trace: Trace, pack: Path) -> Curve:
    """The gap that the weights of the trace give on a portrait's own geometry. `pack` is the portrait's folder."""
    try:
        points = np.load(pack / "landmarks.npy").astype(np.float64)
        with np.load(pack / "arkit.npz") as basis:
            units, names = basis["units"].astype(np.float64), [str(name) for name in basis["names"]]
    except OSError as error:
        raise NotFound("portrait", pack.name, known(pack.parent)) from error
    if missing := set(trace.blendshape_names) - set(names):
        raise InvalidInput("blendshape_names", f"the portrait has no {', '.join(sorted(missing))}")
    order = [names.index(name) for name in trace.blendshape_names]
    heights = np.zeros(len(trace.times))
    for upper, lower in LIPS:
        moved = trace.weights @ (units[order, lower, 1] - units[order, upper, 1])
        heights += np.maximum(0.0, points[lower, 1] - points[upper, 1] + moved)
    eyes = np.hypot(*(points[EYE_CORNERS[0], :2] - points[EYE_CORNERS[1], :2]))
    return Curve(trace.times, heights / len(LIPS) / eyes)


def known(folder: Path) -> list[str]:
    return sorted(found.parent.name for found in folder.glob("*/arkit.npz"))


def spoken(phonemes: tuple[Phoneme, ...], *, loudness: bool = False) -> Curve | None:
    """What the phonemes say of the opening (0 to 1), or of the loudness, on the 10 ms grid; None if nobody speaks."""
    if not any(phoneme.name for phoneme in phonemes):
        return None
    start, end = phonemes[0].start, phonemes[-1].end
    times = start + GRID_S * np.arange(round((end - start) / GRID_S) + 1)
    values = np.zeros(len(times))
    for phoneme in phonemes:
        inside = (times >= phoneme.start) & (times < phoneme.end)
        values[inside] = SOUNDS.get(phoneme.name[:1], (0.2, 0.4) if phoneme.name else SILENCE)[int(loudness)]
    return Curve(times, values if loudness else smoothed(values, INERTIA_S))


def smoothed(values: Floats, half_width_s: float) -> Floats:
    window: NDArray[np.float64] = np.hanning(2 * round(half_width_s / GRID_S) + 1)
    padded = np.pad(values, len(window) // 2, mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid")
