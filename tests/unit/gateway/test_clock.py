"""Frames among samples."""

from fractions import Fraction

import pytest

from gateway.clock import Clock

CLOCKS = [Clock(24000, Fraction(25)), Clock(22050, Fraction(30)), Clock(48000, Fraction(30000, 1001))]


@pytest.mark.parametrize("clock", CLOCKS, ids=str)
def test_frames_before_counts_the_starts(clock: Clock) -> None:
    starts = [clock.frame_start(frame) for frame in range(200)]
    for sample in [0, 1, 100, 959, 960, 961, 5000, 48000, starts[77], starts[77] + 1, starts[77] - 1]:
        assert clock.frames_before(sample) == sum(start < sample for start in starts)


@pytest.mark.parametrize("clock", CLOCKS, ids=str)
def test_aligned_is_the_next_start(clock: Clock) -> None:
    starts = [clock.frame_start(frame) for frame in range(200)]
    for sample in (0, 1, 961, 5000, starts[42]):
        assert clock.aligned(sample) == min(start for start in starts if start >= sample)


def test_durations_in_samples() -> None:
    assert Clock(24000, Fraction(25)).samples(40) == 960
