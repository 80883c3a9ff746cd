"""Processor time as a host tells it."""

import os
from pathlib import Path

import pytest

from services.runtime.processor import Processor, boot_id, place, quota_in, seconds


class Clock:
    """A process and its helpers on a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.taken = {os.getpid(): 50.0}
        self.processor = Processor(lambda: self.taken, lambda: self.now, lambda pid: self.taken[pid])
        self.processor.used()

    def pass_s(self, elapsed_s: float, **cores: float) -> float:
        """Cores taken as told, once a second; `cores`: what each process takes, "p1" or "own"."""
        for _ in range(int(elapsed_s)):
            self.now += 1
            for name, each in cores.items():
                pid = os.getpid() if name == "own" else int(name[1:])
                self.taken[pid] = self.taken.get(pid, 0.0) + each
            used = self.processor.used()
        return used


def test_what_a_process_and_its_helpers_take_is_added_up() -> None:
    clock = Clock()
    clock.taken[7] = 1000.0
    assert clock.pass_s(20, own=0.25, p7=0.5) == pytest.approx(0.75, abs=0.031)


def test_what_a_helper_took_before_it_was_seen_does_not_count() -> None:
    clock = Clock()
    clock.pass_s(5, own=0.5)
    clock.taken[7] = 1000.0
    assert clock.pass_s(1, own=0.5) == pytest.approx(0.5, abs=0.031)


def test_a_helper_that_ends_takes_nothing_back() -> None:
    clock = Clock()
    clock.pass_s(12, own=0.5, p7=1.0)
    del clock.taken[7]
    assert 0.5 < clock.pass_s(5, own=0.5) < 1.5
    assert clock.pass_s(10, own=0.5) == pytest.approx(0.5, abs=0.031)


def test_a_process_number_that_is_used_again_takes_nothing_back() -> None:
    clock = Clock()
    clock.pass_s(5, own=0.5, p7=1.0)
    clock.taken[7] = 0.0
    assert clock.pass_s(1, own=0.5) > 0.5


def test_little_changes_are_not_told() -> None:
    clock = Clock()
    first = clock.pass_s(15, own=0.5)
    assert clock.pass_s(15, own=0.51) == first
    assert clock.pass_s(15, own=0.55) != first


def test_asked_at_once_again_it_says_the_same() -> None:
    clock = Clock()
    used = clock.pass_s(5, own=0.5)
    clock.taken[os.getpid()] += 10
    clock.now += 0.1
    assert clock.processor.used() == used


def test_this_process_takes_time_and_one_that_is_not_there_none() -> None:
    assert seconds(os.getpid()) > 0
    assert seconds(2**31 - 2) == 0


@pytest.mark.parametrize(
    ("told", "cores"), [("max 100000", None), ("150000 100000", 1.5), ("nonsense", None), ("5 0", None), ("", None)]
)
def test_a_quota_is_read_in_cores(tmp_path: Path, told: str, cores: float | None) -> None:
    (tmp_path / "cpu.max").write_text(told)
    assert quota_in(tmp_path / "cpu.max") == cores
    assert quota_in(tmp_path / "none") is None


def test_a_place_has_a_name_and_cores() -> None:
    assert place().machine.startswith(boot_id())
    assert 0 < place().cores <= len(os.sched_getaffinity(0))
