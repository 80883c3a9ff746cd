"""Error rates by simulation, and what the tests see. The seeds are fixed: these cannot fail by chance."""

import math
import random
from bisect import insort
from collections import Counter

import numpy as np
import pytest

from gateway.experiments import statistics
from gateway.experiments.statistics import FailureTest, Moments, RatioTest


def units_until_alarm(
    chance: random.Random, rates: tuple[float, float], alpha: float, most: int, share: float
) -> int | None:
    """Units of both arms until the first alarm; looked at after each."""
    test = FailureTest()
    for number in range(1, most + 1):
        treated = chance.random() < share
        if chance.random() < rates[treated]:
            test.failed(treated, share)
            if treated and test.alarms(alpha):
                return number
    return None


@pytest.mark.parametrize(("alpha", "share"), [(0.05, 0.5), (0.05, 0.1), (0.01, 0.5)])
def test_equal_arms_raise_alarms_no_more_often_than_alpha(alpha: float, share: float) -> None:
    chance = random.Random(1)
    runs = 600
    alarms = sum(units_until_alarm(chance, (0.05, 0.05), alpha, 2_000, share) is not None for _ in range(runs))
    assert alarms <= runs * alpha


def test_an_arm_that_always_fails_is_out_within_twenty_of_its_units() -> None:
    chance = random.Random(2)
    found = sorted(units_until_alarm(chance, (0.01, 1.0), 0.001, 200, 0.5) or 999 for _ in range(500))
    assert found[len(found) // 2] <= 2 * 13
    assert found[int(len(found) * 0.9)] <= 2 * 20


def test_a_few_more_failures_are_seen_in_time() -> None:
    chance = random.Random(3)
    found = sorted(units_until_alarm(chance, (0.01, 0.10), 0.05, 4_000, 0.5) or 9_999 for _ in range(200))
    assert 100 < found[100] < 260  # both arms


def test_failures_of_both_arms_weigh_what_they_say() -> None:
    test = FailureTest()
    for _ in range(13):
        test.failed(True, 0.5)
    # Uniform on (1/2, 1): the integral of 2^k θ^k · 2 is 2^(k+1) (1 - 2^-(k+1)) / (k + 1).
    assert test.log_e == pytest.approx(math.log(2**14 * (1 - 2**-14) / 14), rel=1e-3)
    test.failed(False, 0.5)
    assert test.log_e < math.log(2**14 / 14)
    assert (test.treatment, test.control) == (13, 1)


def test_moments_are_those_of_numpy() -> None:
    values = np.random.default_rng(4).lognormal(size=300)
    moments = Moments()
    for value in values:
        moments.add(float(value))
    assert (moments.mean, moments.variance) == pytest.approx((values.mean(), values.var(ddof=1)))


def mean_alarm(chance: np.random.Generator, slower: float, alpha: float, each: int) -> int | None:
    arms = Moments(), Moments()
    for number in range(each):
        arms[0].add(float(chance.lognormal(6, 0.5)))
        arms[1].add(float(chance.lognormal(6, 0.5)) * slower)
        if number > 20 and statistics.mean_difference(arms[1], arms[0], alpha).low > 0:
            return number
    return None


def test_equal_means_raise_few_alarms_and_others_do() -> None:
    chance = np.random.default_rng(5)
    assert sum(mean_alarm(chance, 1.0, 0.05, 500) is not None for _ in range(200)) <= 10
    found = [mean_alarm(chance, 1.3, 0.05, 500) for _ in range(40)]
    assert sum(each is not None for each in found) >= 38


def test_a_mean_of_nothing_is_not_known() -> None:
    found = statistics.mean_difference(Moments(), Moments(), 0.05)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_quantiles_stay_in_their_limits_at_all_times() -> None:
    chance = random.Random(6)
    truth = math.exp(1.6448536)  # of a standard lognormal at 95 %
    missed = 0
    for _ in range(200):
        seen: list[float] = []
        for _ in range(400):
            insort(seen, chance.lognormvariate(0, 1))
            found = statistics.quantile_limits(seen, 0.95, 0.05)
            if not found.low <= truth <= found.high:
                missed += 1
                break
    assert missed <= 10


def test_limits_of_a_quantile_close_in() -> None:
    few, many = statistics.rank_limits(100, 0.5, 0.05), statistics.rank_limits(10_000, 0.5, 0.05)
    assert few[0] < 50 < few[1]
    assert (many[1] - many[0]) / 10_000 < (few[1] - few[0]) / 100 / 4
    assert statistics.rank_limits(5, 0.99, 0.05)[1] == 6, "nothing bounds the tail of five values from above"


def test_a_slower_tail_is_seen() -> None:
    chance = random.Random(7)
    control = sorted(chance.lognormvariate(6, 0.4) for _ in range(2_000))
    treatment = sorted(1.6 * chance.lognormvariate(6, 0.4) for _ in range(2_000))
    assert statistics.quantile_difference(treatment, control, 0.95, 0.05).low > 0
    assert statistics.quantile_difference(control, control, 0.95, 0.05).low < 0


def test_units_that_go_missing_are_noticed_and_others_are_not() -> None:
    chance = random.Random(8)
    false = 0
    for _ in range(200):
        fair = RatioTest({"a": 0.5, "b": 0.5})
        for _ in range(1_000):
            fair.came("a" if chance.random() < 0.5 else "b")
            if fair.alarms(0.01):
                false += 1
                break
    assert false <= 2
    lossy = RatioTest({"a": 0.5, "b": 0.5})
    while not lossy.alarms(0.01):
        if chance.random() < 0.5:
            lossy.came("a")
        elif chance.random() < 0.7:
            lossy.came("b")
    assert sum(lossy.counts.values()) < 1_500
    assert Counter(lossy.counts).most_common(1)[0][0] == "a"


def test_rates_have_limits() -> None:
    found = statistics.rate_interval(5, 100, 0.05)
    assert 0 < found.low < 0.05 < found.high < 0.2
    assert statistics.rate_interval(0, 50, 0.05).low == 0
    assert statistics.rate_interval(0, 0, 0.05).high == 1
    assert statistics.rate_interval(50, 50, 0.05).high == 1
