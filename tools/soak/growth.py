"""Whether something grows. No I/O."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools.soak.census import COUNTS, Census

ALLOWED = {"malloc_kib": 8.0, "blocks": 40.0, "objects": 4.0, "anonymous_kib": 64.0}
"""Growth in a cycle that is no leak. A session that is kept has buffers of hundreds of KiB, thousands of small blocks and
hundreds of objects. All anonymous memory may grow more, because of what lies free between what is used."""
SURE = 3.0
"""Standard errors that a growth has to lie above what is allowed."""


@dataclass(frozen=True)
class Finding:
    """Something that grows beyond what is allowed."""

    process: str
    what: str
    text: str

    @property
    def about(self) -> tuple[str, str]:
        return self.process, self.what

    def __str__(self) -> str:
        return f"{self.process}: {self.what} {self.text}"


@dataclass(frozen=True)
class Slope:
    """Of a straight line through measurements that has as many above it as below."""

    per_cycle: float
    error: float
    """Standard error, from what the line does not explain."""

    @property
    def at_least(self) -> float:
        return self.per_cycle - SURE * self.error


def slope(cycles: Sequence[float], values: Sequence[float]) -> Slope:
    """The estimate of Theil (1950) and Sen (1968): the median of the slopes of all pairs. At least three measurements."""
    pairs = itertools.combinations(zip(cycles, values, strict=True), 2)
    estimate = statistics.median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in pairs)
    rest = [y - estimate * x for x, y in zip(cycles, values, strict=True)]
    middle = statistics.median(rest)
    # 1.4826 makes of a median deviation what a standard deviation would be if the errors were normal ones.
    spread = 1.4826 * statistics.median(abs(each - middle) for each in rest)
    width = sum((x - statistics.fmean(cycles)) ** 2 for x in cycles) ** 0.5
    return Slope(estimate, spread / width)


def counts_above(base: Census, now: Census) -> list[Finding]:
    """What has to come back exactly and did not."""
    return [
        Finding(name, what, f"{getattr(base[name], what)} → {getattr(holding, what)}")
        for name, holding in now.items()
        for what in COUNTS
        if getattr(holding, what) > getattr(base[name], what) and (what != "threads" or holding.is_python)
    ]


def growing(censuses: Mapping[int, Census]) -> list[Finding]:
    """What grows in memory and objects: samples by cycle, after all that is made once has been made."""
    if len(censuses) < 3:
        return []
    found = []
    for name, first in next(iter(censuses.values())).items():
        # A database is no leak: etcd keeps what was, until it compacts it.
        for what, allowed in ALLOWED.items():
            measured = slope(list(censuses), [getattr(census[name], what) for census in censuses.values()])
            if first.is_python and measured.at_least > allowed:
                text = f"grows by {measured.per_cycle:.1f} ± {measured.error:.1f} a cycle; allowed {allowed:g}"
                found.append(Finding(name, what, text))
    return found


def grown_types(first: Census, last: Census, name: str, most: int = 12) -> dict[str, int]:
    """The types of which a process has more objects than before, most of them first."""
    before, after = first[name].types, last[name].types
    grown = {kind: count - before.get(kind, 0) for kind, count in after.items() if count > before.get(kind, 0)}
    return dict(sorted(grown.items(), key=lambda each: -each[1])[:most])
