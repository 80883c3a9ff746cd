"""How a session's media lies in time when it arrives. No I/O; times are seconds."""

import bisect
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.soak.growth import Slope, slope

WINDOW_S = 10.0
HEARD_S = 0.06
"""Sound that came not longer ago is what is heard now."""


@dataclass(frozen=True)
class Arrival:
    """Something that came at `at`, to be seen or heard from `media` on."""

    at: float
    media: float

    @property
    def offset(self) -> float:
        return self.at - self.media


@dataclass
class Arrivals:
    """Of one session, in order."""

    fps: float
    pictures: list[Arrival] = field(default_factory=list)
    sound: list[Arrival] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """All there is to tell. Needs pictures for at least three windows."""
        span = self.pictures[-1].media - self.pictures[0].media
        expected = round(span * self.fps) + 1
        offsets = self.av_offsets()
        return {
            "seconds": round(span, 1),
            "pictures": len(self.pictures),
            "missing": expected - len(self.pictures),
            "missing_pct": round(100 * (expected - len(self.pictures)) / expected, 3),
            "late": self.late,
            "av_offset_ms": {
                "p50": milliseconds(quantile(offsets, 0.5)),
                "p95": milliseconds(quantile([abs(each) for each in offsets], 0.95)),
                "pictures": len(offsets),
            },
            "drift_ms": milliseconds(self.drift),
            "drift_ppm": round(1e6 * self._line.per_cycle, 2),
        }

    @property
    def floors(self) -> list[Arrival]:
        """The picture of each window that came soonest: what all others are late against. Waiting makes none sooner."""
        windows: dict[int, Arrival] = {}
        for each in self.pictures:
            number = int((each.media - self.pictures[0].media) // WINDOW_S)
            before = windows.get(number)
            windows[number] = each if before is None or each.offset < before.offset else before
        return list(windows.values())

    @property
    def drift(self) -> float:
        """How far the clocks of session and wall have gone apart, from beginning to end, by the line through all floors."""
        return self._line.per_cycle * (self.pictures[-1].media - self.pictures[0].media)

    @property
    def late(self) -> int:
        """Pictures that came more than the time of one after they could have."""
        floor = min(each.offset for each in self.pictures)
        return sum(each.offset - floor > 1 / self.fps for each in self.pictures)

    def av_offsets(self) -> list[float]:
        """For each picture that came while somebody spoke: its media time less that of the sound that came last."""
        came = [each.at for each in self.sound]
        found = []
        for picture in self.pictures:
            index = bisect.bisect_right(came, picture.at) - 1
            if index >= 0 and picture.at - came[index] < HEARD_S:
                found.append(picture.media - self.sound[index].media)
        return found

    @property
    def _line(self) -> Slope:
        floors = self.floors
        return slope([each.media for each in floors], [each.offset for each in floors])


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share is not above; NaN of none."""
    if not values:
        return math.nan
    if share == 0.5:
        return statistics.median(values)
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 2)
