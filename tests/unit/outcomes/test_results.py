"""What is read of an experiment: by session, of those dealt out by hash, with limits that hold. The seeds are fixed."""

import math
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.experiments.flags import Flag
from gateway.experiments.statistics import Interval, Moments
from gateway.outcomes.arms import shares_of
from gateway.outcomes.intervals import mean_interval, rate_difference
from gateway.outcomes.place import place
from gateway.outcomes.reading import sessions_of
from gateway.outcomes.results import Figure, Results, SessionOutcome, results
from gateway.outcomes.store import Store, opened
from gateway.outcomes.telling import told
from talkmesh.admin.v1 import admin_pb2
from talkmesh.commands.results import lines, results_json
from tests.fakes.outcomes import exposure, feedback, turn

HALVES = {"heart": 0.5, "joe": 0.5}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(place("", tmp_path)) as made:
        yield made


def figure(found: Results, variant: str, metric: str, statistic: str = "mean") -> Figure:
    (arm,) = [arm for arm in found.arms if arm.variant == variant]
    (made,) = [each for each in arm.figures if (each.metric, each.statistic) == (metric, statistic)]
    return made


def session(
    variant: str = "heart", unit: str = "u", turns: int = 1, failed: bool = False, **values: float
) -> SessionOutcome:
    return SessionOutcome(variant, unit, turns, failed, values)


# --- what the store sums up -----------------------------------------------------------------------------------------


async def test_a_session_is_one_whatever_it_had(store: Store) -> None:
    await store.write(
        [
            exposure(0),
            turn(0, 1, first_audio_ms=400.0, first_video_ms=500.0, gap_ms=0.0),
            turn(0, 2, first_audio_ms=600.0, outcome="interrupted"),
            turn(0, 3, first_audio_ms=None, outcome="nothing_heard"),
            turn(0, 4, first_audio_ms=9.0, outcome="continued"),
            turn(0, 5, first_audio_ms=None, outcome="abandoned"),
            feedback(0, 1.0, id="a"),
            feedback(0, 0.0, id="b"),
        ]
    )
    (found,) = await sessions_of(store, "voice", "arms")
    assert (found.variant, found.unit, found.turns, found.failed) == ("heart", "user-0", 2, False)
    assert found.values == {
        "first_audio_ms": 500.0,
        "first_video_ms": 500.0,
        "gap_ms": 0.0,
        "turns": 2.0,
        "interrupted": 0.5,
        "feedback": 0.5,
    }


async def test_turns_after_one_that_failed_are_not_of_the_variant(store: Store) -> None:
    await store.write([exposure(0), turn(0, 1, outcome="failed", first_audio_ms=None)])
    await store.write([turn(0, 2, first_audio_ms=100.0, given=()), turn(0, 3, outcome="failed", given=())])
    (found,) = await sessions_of(store, "voice", "arms")
    assert (found.turns, found.failed) == (3, True)
    assert "first_audio_ms" not in found.values
    await store.write([exposure(1), turn(1, 1, given=()), turn(1, 2, outcome="failed", given=())])
    assert [each.failed for each in await sessions_of(store, "voice", "arms")] == [True, False]


async def test_a_variant_that_did_not_begin_has_failed_its_session(store: Store) -> None:
    await store.write(
        [exposure(0, "joe"), turn(0, 0, "joe", outcome="not_begun", first_audio_ms=None), turn(0, 1, given=())]
    )
    await store.write([exposure(1, "joe"), turn(1, 0, "joe", outcome="not_begun", first_audio_ms=None)])
    found = await sessions_of(store, "voice", "arms")
    assert [(each.turns, each.failed) for each in found] == [(1, True), (0, True)]
    rate = figure(results("voice", "heart", HALVES, found, 0.05), "joe", "turn_failed", "rate")
    assert (rate.sessions, rate.value.effect) == (2, 1.0)


async def test_only_what_was_dealt_out_by_hash_among_these_arms_counts(store: Store) -> None:
    await store.write([exposure(0), exposure(1, reason="TARGETING_MATCH"), exposure(2, arms="others")])
    await store.write([exposure(3, flag="face"), exposure(4, stale=True), turn(5)])
    await store.write([turn(0, given=()), turn(3)])
    found = await sessions_of(store, "voice", "arms")
    assert [each.unit for each in found] == ["user-0", "user-4"]
    assert [each.turns for each in found] == [1, 0]


async def test_sessions_come_in_the_order_in_which_they_were_opened(store: Store) -> None:
    await store.write([exposure(number, at_ms=1000 - number) for number in range(20)])
    assert [each.unit for each in await sessions_of(store, "voice", "arms")] == [f"user-{n}" for n in range(19, -1, -1)]


# --- figures --------------------------------------------------------------------------------------------------------


def test_an_experiment_without_sessions_tells_that_nothing_is_known() -> None:
    found = results("voice", "heart", HALVES, [], 0.05)
    assert [(arm.variant, arm.sessions) for arm in found.arms] == [("heart", 0), ("joe", 0)]
    rate = figure(found, "joe", "turn_failed", "rate")
    assert math.isnan(rate.value.effect)
    assert (rate.value.low, rate.value.high) == (0.0, 1.0)
    assert rate.difference and (rate.difference.low, rate.difference.high) == (-1.0, 1.0)
    assert found.ratio.units == {"heart": 0, "joe": 0}
    message = admin_pb2.GetResultsResponse.FromString(told(found).SerializeToString())
    assert results_json(message)["arms"][1]["figures"][0]["value"] is None
    assert any("?" in line for line in lines(message))


def test_an_arm_of_which_a_time_is_not_known_differs_by_nothing_known() -> None:
    found = results(
        "voice", "heart", HALVES, [session("joe", str(n), first_audio_ms=400.0 + n) for n in range(50)], 0.05
    )
    for statistic in ("mean", "p50", "p95"):
        made = figure(found, "joe", "first_audio_ms", statistic)
        assert made.difference and math.isnan(made.difference.effect) and made.difference.high == math.inf
    assert [each.metric for each in found.arms[0].figures] == ["turn_failed"]


def test_what_is_worse_is_seen_to_be() -> None:
    chance = random.Random(1)
    sessions = []
    for number in range(4000):
        variant = chance.choice(["heart", "joe"])
        slower = 100 if variant == "joe" else 0
        sessions.append(
            session(
                variant,
                str(number),
                failed=chance.random() < (0.08 if variant == "joe" else 0.01),
                first_audio_ms=chance.gauss(500 + slower, 80),
                turns=1,
                interrupted=chance.random() < 0.2,
            )
        )
    found = results("voice", "heart", HALVES, sessions, 0.05)
    for metric, statistic, effect in (
        ("turn_failed", "rate", 0.07),
        ("first_audio_ms", "mean", 100),
        ("first_audio_ms", "p50", 100),
        ("first_audio_ms", "p95", 100),
    ):
        difference = figure(found, "joe", metric, statistic).difference
        assert difference and 0 < difference.low < effect < difference.high, (metric, statistic)
    same = figure(found, "joe", "interrupted").difference
    assert same and same.low < 0 < same.high
    assert not found.ratio.mismatch


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_limits_are_wrong_no_more_often_than_alpha(alpha: float) -> None:
    """Of 300 experiments with equal arms, looked at 20 times each: how many ever show a difference."""
    chance = random.Random(2)
    wrong = {"difference of rates": 0, "mean": 0}
    for _ in range(300):
        failures = {"heart": [0, 0], "joe": [0, 0]}
        moments, ever = Moments(), dict.fromkeys(wrong, False)
        for number in range(1, 801):
            moments.add(chance.expovariate(1 / 400))
            failed = failures[chance.choice(["heart", "joe"])]
            failed[0] += chance.random() < 0.05
            failed[1] += 1
            if number % 40 == 0:
                (f1, n1), (f2, n2) = failures.values()
                ever["difference of rates"] |= outside(rate_difference((f1, n1), (f2, n2), alpha), 0)
                # It is one of the central limit theorem.
                ever["mean"] |= number > 100 and outside(mean_interval(moments, alpha), 400)
        for name, so in ever.items():
            wrong[name] += so
    assert max(wrong.values()) <= 300 * alpha, wrong


def outside(interval: Interval, truth: float) -> bool:
    return not interval.low <= truth <= interval.high


def test_a_lost_arm_is_a_mismatch_and_a_user_counts_once() -> None:
    chance = random.Random(3)
    fair = [session(chance.choice(["heart", "joe"]), str(n)) for n in range(3000)]
    assert not results("voice", "heart", HALVES, fair, 0.05).ratio.mismatch
    lost = [each for each in fair if each.variant == "heart" or chance.random() < 0.8]
    found = results("voice", "heart", HALVES, lost, 0.05).ratio
    assert found.mismatch and found.units["joe"] < found.units["heart"]
    # One user who talks all day is no evidence of anything.
    busy = [*fair, *[session("joe", "4711")] * 2000]
    assert not results("voice", "heart", HALVES, busy, 0.05).ratio.mismatch


def test_shares_are_those_of_the_arms() -> None:
    flag = {"owner": "me", "variants": {"a": {}, "b": {}, "c": {}}, "control": "a"}
    assert shares_of(Flag.model_validate(flag | {"arms": {"a": [[0, 100]], "b": [[100, 400]]}})) == {
        "a": 0.25,
        "b": 0.75,
    }
    assert sum(shares_of(Flag.model_validate(flag)).values()) == pytest.approx(1)
    found = results("x", "a", {"a": 0.25, "b": 0.75}, [session("b"), session("a"), session("gone")], 0.05)
    assert [(arm.variant, arm.sessions) for arm in found.arms] == [("a", 1), ("b", 1)]


def test_values_that_are_all_the_same_do_not_make_certain() -> None:
    sessions = [
        session(variant, f"{variant}{n}", interrupted=0.0, turns=1, feedback=1.0)
        for n in range(50)
        for variant in HALVES
    ]
    found = results("voice", "heart", HALVES, sessions, 0.05)
    for metric, low, high in (("interrupted", 0.0, 1.0), ("feedback", -1.0, 1.0)):
        made = figure(found, "joe", metric)
        assert (made.value.low, made.value.high) == (low, high)
        assert made.difference and (made.difference.low, made.difference.high) == (low - high, high - low)
    one = [session("heart", str(n), feedback=(-1.0, 1.0)[n % 7 > 0]) for n in range(40)]
    made = figure(results("voice", "heart", HALVES, one, 0.05), "heart", "feedback")
    assert -1 < made.value.low < made.value.effect < made.value.high == 1.0
