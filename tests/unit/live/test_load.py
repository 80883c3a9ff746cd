"""Whether one more live session is let in."""

from collections import deque
from statistics import mean

import pytest

from gateway.live.load import LEAST_PICTURES, Load
from gateway.live.machines import REMEMBERED_S, Machine, Machines
from services.runtime.errors import Busy


class Day:
    """A gateway that is told of its machines once a second."""

    def __init__(self, most: float = 0.9) -> None:
        self.load = Load(0.8, most)
        self.now = 0.0
        self._taken: dict[str, deque[float]] = {}

    def pass_s(self, elapsed_s: int, own: int, streams: int | None = None, **used: float) -> None:
        """`own` conversations run here, and the services serve `streams` in all (the same if left out).

        `used`: cores of two that are taken on each machine, which tells a mean of the last.
        """
        self.have(own)
        for _ in range(elapsed_s):
            self.now += 1
            for name, each in used.items():
                self._taken.setdefault(name, deque(maxlen=11)).append(each)
            machines = {name: Machine(2.0, mean(self._taken[name])) for name in used}
            self.load.machines.told(self.now, machines, own if streams is None else streams)

    def have(self, own: int) -> None:
        """So many conversations run here from now on."""
        for number in range(10):
            if number < own:
                self.load.machines.begun(self.now, str(number))
            else:
                self.load.machines.ended(str(number))

    def admit(self) -> None:
        """Raises Busy."""
        self.load.admit()


def test_nothing_is_known_and_everybody_is_let_in() -> None:
    Day().admit()


def test_the_first_is_let_in_however_busy_the_machine_is() -> None:
    day = Day()
    day.pass_s(20, 0, a=2.0)
    day.admit()


def test_one_more_is_let_in_while_as_much_again_fits() -> None:
    day = Day()
    day.pass_s(20, 1, a=0.8)
    day.admit()
    day.pass_s(20, 2, a=1.6)
    with pytest.raises(Busy, match=r"\(2\) take up to 8\d% of a machine"):
        day.admit()


def test_the_fullest_machine_decides() -> None:
    day = Day()
    day.pass_s(20, 1, a=0.1, b=1.5, c=0.2)
    with pytest.raises(Busy, match="75%"):
        day.admit()


def test_conversations_of_other_gateways_take_room_too() -> None:
    day = Day()
    day.pass_s(20, 0, streams=3, a=1.5)
    with pytest.raises(Busy, match=r"\(3\)"):
        day.admit()
    day = Day(most=1.1)
    day.pass_s(20, 0, streams=3, a=1.5)
    day.admit()


def test_who_is_silent_now_will_speak_again() -> None:
    day = Day()
    day.pass_s(20, 1, a=1.5)
    day.pass_s(60, 1, a=0.2)
    with pytest.raises(Busy):
        day.admit()
    day.pass_s(int(REMEMBERED_S), 1, a=0.2)
    day.admit()


def test_what_many_took_is_not_held_against_the_one_who_stays() -> None:
    day = Day()
    day.pass_s(20, 4, a=1.6)
    day.pass_s(5, 1, a=0.4)
    day.admit()


def test_visitors_make_nobody_cheaper() -> None:
    day = Day()
    day.pass_s(12, 1, a=0.1)
    for _ in range(10):
        day.pass_s(3, 1, a=1.3)
        day.pass_s(1, 2, a=1.3)
    day.pass_s(3, 1, a=1.3)
    with pytest.raises(Busy, match=r"\(1\) take up to 5\d%"):
        day.admit()


def test_one_that_has_just_left_leaves_room() -> None:
    """A client comes back to a gateway that let go of its session a moment ago; the services still serve its streams."""
    day = Day()
    day.pass_s(20, 1, a=1.5)
    day.have(0)
    day.admit()


def test_one_that_left_is_not_taken_for_somebody_elses_while_the_services_still_tell_of_it() -> None:
    day = Day()
    day.pass_s(20, 1, a=1.5)
    day.pass_s(2, 0, streams=1, a=1.5)
    day.admit()
    day.have(1)
    day.pass_s(2, 0, streams=1, a=1.5)
    day.admit()
    day.pass_s(12, 0, streams=1, a=1.5)
    with pytest.raises(Busy, match=r"\(1\)"):
        day.admit()


def test_a_visit_shorter_than_a_look_is_not_taken_for_somebody_elses() -> None:
    day = Day()
    day.pass_s(20, 1, a=1.5)
    day.pass_s(12, 0, a=0.1)
    day.have(1)
    day.pass_s(2, 0, streams=1, a=0.1)
    day.admit()


def test_a_newcomer_counts_from_when_it_was_let_in() -> None:
    day = Day()
    day.pass_s(20, 1, a=0.7)
    day.admit()
    day.have(2)
    with pytest.raises(Busy, match=r"\(2\)"):
        day.admit()


def test_a_machine_that_is_gone_is_forgotten() -> None:
    day = Day()
    day.pass_s(20, 1, a=0.2, b=2.0)
    day.pass_s(1, 1, a=0.2)
    day.admit()
    assert Machines().share(3) == 0


def test_a_renderer_has_only_so_much_time() -> None:
    load = Load(0.8, 0.9)
    for _ in range(100):
        load.drawn(256, 0.010)
    load.begun("one", 256, 25)
    load.admit_drawn(256, 25, 1, 0.0)
    load.begun("two", 256, 25)
    load.begun("three", 256, 25)
    with pytest.raises(Busy, match="75% of a renderer"):
        load.admit_drawn(256, 25, 1, 0.0)
    load.admit_drawn(256, 25, 2, 0.0)
    load.ended("three")
    load.admit_drawn(256, 25, 1, 0.0)


def test_nobody_is_let_in_while_pictures_come_late() -> None:
    load = Load(0.8, 0.9)
    load.begun("one", 256, 25)
    for _ in range(LEAST_PICTURES):
        load.missed(1.0)
    with pytest.raises(Busy, match="100% of the pictures"):
        load.admit_drawn(256, 25, 1, 2.0)
    load.admit_drawn(256, 25, 1, 60.0)
