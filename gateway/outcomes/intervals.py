"""Limits for one arm, as `gateway.experiments.statistics` has them for the difference of two: they hold at all times."""

import math

from gateway.experiments.statistics import TUNED_FOR, Interval, Moments, rate_interval


def mean_interval(moments: Moments, alpha: float) -> Interval:
    """A mean; both limits hold together with a chance of 1 - alpha. The sequence of `mean_difference`, for one sample."""
    n, mean = moments.n, moments.mean
    if n < 2:
        return Interval(mean if n else math.nan, -math.inf, math.inf)
    side = alpha / 2
    tuned = (-2 * math.log(side) + math.log(-2 * math.log(side) + 1)) / TUNED_FOR
    spread = n * tuned + 1
    half = math.sqrt(moments.variance * 2 * spread / (n * n * tuned) * math.log1p(math.sqrt(spread) / (2 * side)))
    return Interval(mean, mean - half, mean + half)


def rate_difference(treatment: tuple[int, int], control: tuple[int, int], alpha: float) -> Interval:
    """Between two shares, each (how many, of how many): of limits that both hold together with a chance of 1 - alpha."""
    one, other = rate_interval(*treatment, alpha / 2), rate_interval(*control, alpha / 2)
    return Interval(one.effect - other.effect, one.low - other.high, one.high - other.low)
