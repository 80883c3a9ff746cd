"""What comes out at the other end of a conversation, when, and whether a person would hear it.

Used in the environments of peers too: nothing but the standard library and numpy may be imported here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

AUDIBLE = 0.01
"""Of full scale (-40 dB): nobody hears a voice that stays below."""
UNPLACED = -1


@dataclass(frozen=True)
class Heard:
    """A chunk of sound. `at` is when it came, or was due to be played; moments are seconds of time.monotonic."""

    at: float
    lasts_s: float
    audible_from: float | None
    """When its first audible sample is played by a player that plays it at once; None if it is silent."""
    audible_until: float | None
    turn: str = ""
    """The turn whose reply it belongs to, as far as that is told."""
    start: int = UNPLACED
    """Its place on the media clock, in samples."""
    samples: int = 0


def heard(data: bytes, rate_hz: int, at: float, turn: str = "", start: int = UNPLACED) -> Heard:
    """A chunk of mono PCM_S16LE that came just now."""
    samples = np.frombuffer(data, np.int16)
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) >= AUDIBLE * 32768)
    first, last = (at + int(loud[0]) / rate_hz, at + (int(loud[-1]) + 1) / rate_hz) if len(loud) else (None, None)
    return Heard(at, len(samples) / rate_hz, first, last, turn, start, len(samples))


class Loudspeaker:
    """Everything heard in a session, in its order."""

    def __init__(self) -> None:
        self.chunks: list[Heard] = []

    def first_audible(self, since: float) -> float | None:
        """When something was heard first, at or after a moment."""
        return next((moment for chunk in self._audible(since) if (moment := chunk.audible_from) is not None), None)

    def last_audible(self, since: float, until: float, turn: str = "") -> float | None:
        """When something was heard last between two moments; of one turn's reply, if it is named."""
        found = [
            chunk.audible_until
            for chunk in self._audible(since)
            if chunk.audible_until is not None and chunk.at < until and turn in ("", chunk.turn)
        ]
        return max(found, default=None)

    def quiet_since(self) -> float:
        """When something was heard last; 0 if never."""
        return max((chunk.audible_until or 0.0 for chunk in self.chunks[-200:]), default=0.0)

    def _audible(self, since: float) -> Iterator[Heard]:
        return (c for c in self.chunks if c.audible_until is not None and c.audible_until > since and c.at >= since - 1)
