"""The bench of experiments simulates what decides, and not something like it."""

import asyncio
import json

import numpy as np
import pytest

from gateway.experiments.statistics import FailureTest
from tools.bench import experiments


def test_the_table_of_evidence_is_that_of_the_test() -> None:
    table = experiments.log_e(30, 0.5)
    test = FailureTest()
    for number in range(30):
        test.failed(number % 3 > 0, 0.5)
    assert table[30, test.treatment] == pytest.approx(test.log_e)


def test_a_small_run_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"decisions": 200, "users": 2_000, "runs": 200, "failures": 60, "puts": 3, "gateways": 2}
    words = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    experiments.main([*words, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["moved_users"] == 0
    assert found["assign_us"]["p50"] > 0
    assert found["put_to_gateways_ms"]["p50"] > 0
    assert found["aa_false_rollbacks"]["hold"] <= 0.08
    assert found["dead_variant_turns"]["p50"] <= 13
    assert [row["rate"] for row in found["detection"]] == list(experiments.DETECTED)


def test_arms_that_depend_on_one_another_are_found() -> None:
    one = np.arange(1_000) % 2 == 0
    assert experiments.chi2(one, one) > experiments.CHI2_ONCE_IN_1000
    assert experiments.chi2(one, np.arange(1_000) % 4 < 2) == pytest.approx(0)


def test_puts_are_seen_by_every_gateway() -> None:
    assert asyncio.run(experiments.put_to_gateways_ms(2, 2))["p99"] > 0
