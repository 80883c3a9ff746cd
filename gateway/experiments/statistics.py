"""Tests and intervals that hold however often one looks. No I/O.

The chance that any of them ever says something about two equal arms is at most its alpha, from the first outcome to the
last: whoever watches them live may act on the first alarm. Arms are compared under randomisation: `share` is the chance
with which a unit that took part was given the treatment, which may change from one outcome to the next.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MIXTURE = 64
"""Points of the mixture over how much worse a treatment may be."""


def worse_by() -> Floats:
    """Odds with which the next failure is the treatment's, at equal shares: as if their chance were uniform on (1/2, 1)."""
    chance = 0.5 + 0.5 * (np.arange(MIXTURE) + 0.5) / MIXTURE
    return np.asarray(chance / (1 - chance))


ODDS = worse_by()


class FailureTest:
    """Whether the treatment fails more often than the control: an exact e-process.

    If both fail alike, a failure is the treatment's with the chance with which its unit was given the treatment, whatever
    the rate of failures is and however it drifts. Bets at odds r pay r / (1 - share + r · share) when it is, and
    1 / (1 - share + r · share) when it is not: a martingale with mean 1. Mixed over r, it exceeds 1/alpha with a chance
    of at most alpha, ever (J. Ville, 1939; A. Ramdas, P. Grünwald, V. Vovk, G. Shafer, "Game-theoretic statistics and safe
    anytime-valid inference", Statistical Science 38(4), 2023).
    """

    def __init__(self) -> None:
        self._log_wealth: Floats = np.zeros(MIXTURE)
        self.treatment = 0
        """Failures of each arm."""
        self.control = 0

    def failed(self, treated: bool, share: float) -> None:
        """A unit's first failure. `share`: the chance with which it was given the treatment, between 0 and 1."""
        stake = np.log1p(share * (ODDS - 1))
        self._log_wealth += (np.log(ODDS) if treated else 0.0) - stake
        self.treatment += treated
        self.control += not treated

    @property
    def log_e(self) -> float:
        """Logarithm of the evidence."""
        most = float(self._log_wealth.max())
        return most + math.log(float(np.exp(self._log_wealth - most).mean()))

    def alarms(self, alpha: float) -> bool:
        return self.log_e >= -math.log(alpha)


@dataclass
class Moments:
    """Count, mean and variance, kept up as values come (B. Welford, Technometrics 4(3), 1962)."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        self.n += 1
        before = value - self.mean
        self.mean += before / self.n
        self.squares += before * (value - self.mean)

    @property
    def variance(self) -> float:
        """Of the values; infinite for fewer than two."""
        return self.squares / (self.n - 1) if self.n > 1 else math.inf


@dataclass(frozen=True)
class Interval:
    """An effect with its limits."""

    effect: float
    low: float
    high: float


TUNED_FOR = 500
"""Units at which the intervals of means are narrowest."""


def mean_difference(treatment: Moments, control: Moments, alpha: float) -> Interval:
    """Treatment less control. Each of the limits alone holds at all times with a chance of 1 - alpha.

    An asymptotic confidence sequence, one-sided (I. Waudby-Smith, D. Arbour, R. Sinha, E. Kennedy, A. Ramdas,
    "Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 52(6), 2024).
    """
    effect = treatment.mean - control.mean
    n = treatment.n + control.n
    if min(treatment.n, control.n) < 2:
        return Interval(effect, -math.inf, math.inf)
    # Of the difference, as if n units had each contributed: the variance of one is n times that of the difference.
    deviation = math.sqrt(n * (treatment.variance / treatment.n + control.variance / control.n))
    tuned = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / TUNED_FOR
    spread = n * tuned + 1
    half = deviation * math.sqrt(2 * spread / (n * n * tuned) * math.log1p(math.sqrt(spread) / (2 * alpha)))
    return Interval(effect, effect - half, effect + half)


def rank_limits(n: int, quantile: float, alpha: float) -> tuple[int, int]:
    """Ranks (0 to n + 1, of n sorted values) between which a quantile lies, at all times, with a chance of 1 - alpha.

    The values below a quantile are as many as heads of a coin that falls so with that chance. The ranks are those that a
    mixture martingale for the coin does not exclude (H. Robbins, "Statistical methods related to the law of the iterated
    logarithm", Annals of Mathematical Statistics 41, 1970; for quantiles: S. Howard, A. Ramdas, "Sequential estimation of
    quantiles with applications to A/B testing and best-arm identification", Bernoulli 28(3), 2022). Rank 0 is below all,
    n + 1 above all.
    """
    excluded = -math.log(alpha)

    def log_e(below: int) -> float:
        mixed = math.lgamma(below + 1) + math.lgamma(n - below + 1) - math.lgamma(n + 2)
        return mixed - below * math.log(quantile) - (n - below) * math.log1p(-quantile)

    middle = min(n, max(0, round(n * quantile)))
    if log_e(middle) >= excluded:  # cannot be by the count alone: nothing is known
        return 0, n + 1
    low = first_true(0, middle, lambda below: log_e(below) < excluded)
    high = n - first_true(0, n - middle, lambda above: log_e(n - above) < excluded)
    return low, high + 1


def first_true(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The least of low to high at which something holds that holds from there on, and at `high`."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def quantile_limits(ordered: Sequence[float], quantile: float, alpha: float) -> Interval:
    """A quantile of sorted values; both limits hold at all times, together with a chance of 1 - alpha."""
    n = len(ordered)
    if not n:
        return Interval(math.nan, -math.inf, math.inf)
    low, high = rank_limits(n, quantile, alpha)
    return Interval(
        ordered[min(n - 1, int(n * quantile))],
        ordered[low - 1] if low >= 1 else -math.inf,
        ordered[high - 1] if high <= n else math.inf,
    )


def quantile_difference(
    treatment: Sequence[float], control: Sequence[float], quantile: float, alpha: float
) -> Interval:
    """Treatment less control, both sorted; both limits hold at all times, together with a chance of 1 - alpha."""
    one, other = quantile_limits(treatment, quantile, alpha / 2), quantile_limits(control, quantile, alpha / 2)
    return Interval(one.effect - other.effect, one.low - other.high, one.high - other.low)


@dataclass
class RatioTest:
    """Whether units come to the arms in the shares that they were dealt out in: a sequential test of a multinomial.

    A Dirichlet mixture against the shares (M. Lindon, A. Malek, "Anytime-valid inference for multinomial count data",
    NeurIPS 2022), which is a martingale when the shares are right.
    """

    shares: Mapping[str, float]
    """Arm → chance; together 1."""
    counts: dict[str, int] = field(default_factory=dict)
    concentration: float = 100.0
    """How near to the shares a mismatch is looked for."""
    _log_e: float = 0.0

    def came(self, arm: str) -> None:
        """A unit came to an arm."""
        count, n = self.counts.get(arm, 0), sum(self.counts.values())
        expected = (self.concentration * self.shares[arm] + count) / (self.concentration + n)
        self._log_e += math.log(expected / self.shares[arm])
        self.counts[arm] = count + 1

    @property
    def log_e(self) -> float:
        return self._log_e

    def alarms(self, alpha: float) -> bool:
        return self.log_e >= -math.log(alpha)


def rate_interval(failed: int, n: int, alpha: float) -> Interval:
    """A share of units; holds at all times with a chance of 1 - alpha: the mixture of `rank_limits`, solved for it."""
    if not n:
        return Interval(math.nan, 0.0, 1.0)
    mixed = math.lgamma(failed + 1) + math.lgamma(n - failed + 1) - math.lgamma(n + 2)

    def kept(chance: float) -> bool:
        log_likelihood = (failed * math.log(chance) if failed else 0.0) + (
            (n - failed) * math.log1p(-chance) if failed < n else 0.0
        )
        return mixed - log_likelihood < -math.log(alpha)

    rate = failed / n
    low = 0.0 if not failed else edge(0.0, rate, kept)
    high = 1.0 if failed == n else edge(1.0, rate, kept)
    return Interval(rate, low, high)


def edge(outside: float, inside: float, kept: Callable[[float], bool]) -> float:
    """Where keeping ends between a chance that is not kept, or the end of the scale, and one that is."""
    for _ in range(60):
        middle = (outside + inside) / 2
        if kept(middle):
            inside = middle
        else:
            outside = middle
    return inside
