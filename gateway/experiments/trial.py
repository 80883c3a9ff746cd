"""What was seen of one experiment, arm by arm, and which of its guardrails that breaks. No I/O."""

import itertools
from array import array
from bisect import insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.experiments.buckets import BUCKETS
from gateway.experiments.flags import Flag, Guardrail
from gateway.experiments.statistics import (
    FailureTest,
    Interval,
    Moments,
    RatioTest,
    mean_difference,
    quantile_difference,
    rate_interval,
)

FAILED, RATIO = "turn_failed", "sample_ratio"
RATIO_ALPHA = 0.001
Action = Literal["hold", "roll back", "veto"]
Numbers = dict[str, float]
NUMBERS = itertools.count(1)


@dataclass
class Times:
    """Milliseconds, one value a session: 8 bytes each are kept."""

    ordered: "array[float]" = field(default_factory=lambda: array("d"))
    moments: Moments = field(default_factory=Moments)

    def add(self, ms: float) -> None:
        insort(self.ordered, ms)
        self.moments.add(ms)


@dataclass
class Arm:
    """Sessions that were given a variant."""

    sessions: int = 0
    failed: int = 0
    """Of them, with a turn that failed. Turns of one session fail together, so only the first counts."""
    times: dict[str, Times] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.failed} of {self.sessions} sessions"

    def timed(self, metric: str) -> Times:
        return self.times.setdefault(metric, Times())


@dataclass(frozen=True)
class Finding:
    """A guardrail that is broken, with the numbers that break it."""

    metric: str
    action: Action
    alpha: float
    variant: str
    reason: str
    numbers: Mapping[str, float]
    arms: Mapping[str, Mapping[str, int]]


class Trial:
    """One experiment, for as long as its arms are what they are."""

    def __init__(self, flag: Flag, signature: str) -> None:
        self.signature = signature
        self.number = next(NUMBERS)
        """Tells this gateway's trials apart."""
        self.arms: dict[str, Arm] = {}
        self.acted: set[str] = set()
        """States that were decided on."""
        self._flag = flag
        self._tests: dict[str, FailureTest] = {}
        self._others = [name for name in flag.variants if name != flag.control and 0 < share_of(flag, name) < 1]
        self._ratio = RatioTest(shares(flag))

    def arm(self, variant: str) -> Arm:
        return self.arms.setdefault(variant, Arm())

    def came(self, variant: str) -> None:
        """A session had its first turn."""
        self.arm(variant).sessions += 1
        if variant in self._ratio.shares:
            self._ratio.came(variant)

    def failed(self, variant: str) -> None:
        """A session had its first turn that failed."""
        self.arm(variant).failed += 1
        for other in self._compared(variant):
            test = self._tests.setdefault(other, FailureTest())
            test.failed(variant == other, share_of(self._flag, other))

    def took(self, variant: str, metric: str, ms: float) -> None:
        """A session's value of a time."""
        self.arm(variant).timed(metric).add(ms)

    def _compared(self, variant: str) -> list[str]:
        """The variants that a session of this one says something about."""
        return self._others if variant == self._flag.control else [each for each in self._others if each == variant]

    def findings(self, metric: str, guardrails: tuple[Guardrail, ...], variant: str) -> Iterator[Finding]:
        """What the guardrails of one metric say, now that a session of a variant has told of it."""
        for rail in guardrails:
            if rail.metric == metric:
                for other in self._compared(variant):
                    if broken := self._broken(rail, other):
                        yield self._finding(rail.metric, rail.action, rail.alpha, other, *broken)

    def mismatch(self) -> Finding | None:
        """Whether sessions come to the arms in other shares than were dealt out: then nothing else can be believed."""
        if len(self._ratio.shares) < 2 or not self._ratio.alarms(RATIO_ALPHA):
            return None
        expected = {f"share_{name}": round(share, 6) for name, share in self._ratio.shares.items()}
        counts = ", ".join(f"{self._ratio.counts.get(name, 0)} of {name}" for name in self._ratio.shares)
        reason = f"sessions do not come in the shares that were dealt out: {counts}"
        numbers = expected | {"log_e": round(self._ratio.log_e, 3)}
        return self._finding(RATIO, "hold", RATIO_ALPHA, "", reason, numbers)

    def _finding(
        self, metric: str, action: Action, alpha: float, variant: str, reason: str, numbers: Numbers
    ) -> Finding:
        arms = {name: {"sessions": arm.sessions, "failed": arm.failed} for name, arm in sorted(self.arms.items())}
        return Finding(metric, action, alpha, variant, f"{reason} (alpha {alpha:g})", numbers, arms)

    def _broken(self, rail: Guardrail, variant: str) -> tuple[str, Numbers] | None:
        """Why a guardrail is broken, and its numbers. Each of several variants gets its part of alpha."""
        alpha = rail.alpha / len(self._others)
        if rail.metric == FAILED:
            return self._fails(rail, variant, alpha) if rail.margin else self._fails_more(variant, alpha)
        return self._slower(rail, variant, alpha)

    def _fails_more(self, variant: str, alpha: float) -> tuple[str, Numbers] | None:
        test = self._tests.get(variant)
        if test is None or not test.alarms(alpha):
            return None
        return f"{self._failures(variant)}, log e {test.log_e:.1f}", {"log_e": round(test.log_e, 3)}

    def _fails(self, rail: Guardrail, variant: str, alpha: float) -> tuple[str, Numbers] | None:
        """By more than a margin: each of both rates is known to within half of alpha."""
        one, other = (rate_interval(arm.failed, arm.sessions, alpha / 2) for arm in self._pair(variant))
        apart = Interval(one.effect - other.effect, one.low - other.high, one.high - other.low)
        if apart.low <= rail.margin:
            return None
        return f"{self._failures(variant)}, by {ranged(apart, '')}, over {rail.margin:g}", numbered(apart)

    def _slower(self, rail: Guardrail, variant: str, alpha: float) -> tuple[str, Numbers] | None:
        one, other = (arm.timed(rail.metric) for arm in self._pair(variant))
        if rail.percentile:
            apart = quantile_difference(one.ordered, other.ordered, rail.percentile / 100, alpha)
        else:
            apart = mean_difference(one.moments, other.moments, alpha)
        if apart.low <= rail.margin:
            return None
        what = f"p{rail.percentile}" if rail.percentile else "mean"
        count = f"{one.moments.n} sessions with {variant}, {other.moments.n} with {self._flag.control}"
        text = f"{what} of {rail.metric} is longer by {ranged(apart, ' ms')} in {count}, over {rail.margin:g} ms"
        return text, numbered(apart) | {"treatment_n": one.moments.n, "control_n": other.moments.n}

    def _pair(self, variant: str) -> tuple[Arm, Arm]:
        return self.arm(variant), self.arm(self._flag.control)

    def _failures(self, variant: str) -> str:
        treatment, control = self._pair(variant)
        return f"turns failed in {treatment} with {variant}, in {control} with {self._flag.control}"


def ranged(interval: Interval, unit: str) -> str:
    return f"{interval.effect:.3g}{unit} [{interval.low:.3g}, {interval.high:.3g}]"


def numbered(interval: Interval) -> Numbers:
    return {"effect": interval.effect, "low": interval.low, "high": interval.high}


def widths(flag: Flag) -> dict[str, int]:
    """Buckets of each arm that has any."""
    found = {name: sum(end - start for start, end in flag.shares.get(name, ())) for name in flag.variants}
    assert sum(found.values()) <= BUCKETS
    return {name: width for name, width in found.items() if width}


def shares(flag: Flag) -> dict[str, float]:
    """The chance of each arm for a unit that is in one; together 1."""
    found = widths(flag)
    return {name: width / sum(found.values()) for name, width in found.items()}


def share_of(flag: Flag, variant: str) -> float:
    """The chance with which one of the control's or a variant's units is the variant's."""
    found = widths(flag)
    width, control = found.get(variant, 0), found.get(flag.control, 0)
    return width / max(1, width + control)
