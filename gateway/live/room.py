"""How loud it is where the user is. No I/O."""

from collections import deque
from collections.abc import Iterable
from statistics import median

import numpy as np
from numpy.typing import NDArray

FRAME_MS = 20
BEFORE, NOW = 15, 3
"""Frames."""
LOUDER_DB = 14.0
INAUDIBLE_DB = -50.0


class Room:
    """Hears a word begin before anybody can tell that it is one: for moments in which that is worth a little patience."""

    def __init__(self) -> None:
        self._levels: deque[float] = deque(maxlen=BEFORE + NOW)

    def heard(self, levels: Iterable[float]) -> None:
        """The next frames."""
        self._levels.extend(levels)

    @property
    def stirs(self) -> bool:
        """Whether it became louder than it was in the last 60 ms."""
        levels = list(self._levels)
        if len(levels) < BEFORE + NOW:
            return False
        return max(levels[BEFORE:]) > max(INAUDIBLE_DB, median(levels[:BEFORE]) + LOUDER_DB)


def decibels(samples: NDArray[np.float64], frame: int) -> list[float]:
    """Levels of mono audio (full scale 1), `frame` samples at a time; the last frame may be shorter."""
    starts = np.arange(0, len(samples), max(1, frame))
    if not len(starts):
        return []
    power = np.add.reduceat(samples**2, starts) / np.diff([*starts, len(samples)])
    return [float(level) for level in 10 * np.log10(power + 1e-10)]
