"""The hash recipe: it must give the same for ever."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from gateway.experiments.buckets import BUCKETS, bucket

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "buckets.csv"


def test_golden_vectors() -> None:
    with GOLDEN.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) >= 10_000
    wrong = [row for row in rows if bucket("tm1", row[0], row[1], row[2]) != int(row[3])]
    assert not wrong
    assert any(not row[2].isascii() for row in rows)


def test_one_by_hand() -> None:
    # sha256 over b"tm1\x1fsalt\x1fuser\x1falice" begins with 975d77193341a77d (by sha256sum).
    assert bucket("tm1", "salt", "user", "alice") == 0x975D77193341A77D * BUCKETS >> 64


def test_letters_that_look_the_same_are_the_same() -> None:
    assert bucket("tm1", "salt", "user", "Zo\u00eb") == bucket("tm1", "salt", "user", "Zoe\u0308")


def test_nothing_runs_together() -> None:
    assert bucket("tm1", "a", "b", "c") != bucket("tm1", "ab", "", "c") != bucket("tm1", "a", "", "bc")


def test_buckets_are_even() -> None:
    count = 200_000
    found = Counter(bucket("tm1", "salt", "user", str(number)) * 100 // BUCKETS for number in range(count))
    expected = count / 100
    squares = sum((found[index] - expected) ** 2 / expected for index in range(100))
    assert squares < 148.2  # 99 degrees of freedom: less than once in 1,000


def test_a_version_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="tm9"):
        bucket("tm9", "salt", "user", "alice")  # type: ignore[arg-type]  # that is the test
