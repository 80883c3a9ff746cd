"""Hearing that something stirs."""

import numpy as np
import pytest

from gateway.live.room import BEFORE, NOW, Room, decibels


@pytest.mark.parametrize(
    ("before", "now", "stirs"),
    [
        (-70.0, [-70.0] * NOW, False),
        (-70.0, [-70.0, -70.0, -45.0], True),
        (-70.0, [-45.0, -70.0, -70.0], True),
        (-70.0, [-58.0] * NOW, False),
        (-40.0, [-35.0] * NOW, False),
        (-40.0, [-24.0] * NOW, True),
        (-20.0, [-60.0] * NOW, False),
    ],
)
def test_louder_than_it_was(before: float, now: list[float], stirs: bool) -> None:
    room = Room()
    room.heard([before] * BEFORE)
    room.heard(now)
    assert room.stirs is stirs


def test_nothing_is_known_of_a_room_at_first() -> None:
    room = Room()
    room.heard([-70.0] * (BEFORE + NOW - 2) + [-10.0])
    assert not room.stirs


def test_a_moment_later_it_is_the_room() -> None:
    room = Room()
    room.heard([-70.0] * BEFORE + [-30.0] * NOW)
    assert room.stirs
    room.heard([-30.0] * (BEFORE // 2 + 1))
    assert not room.stirs


def test_levels_are_of_full_scale() -> None:
    sine = np.sin(2 * np.pi * 1000 * np.arange(800) / 16_000)
    assert decibels(sine, 320) == pytest.approx([-3.01, -3.01, -3.01], abs=0.1)
    assert decibels(np.zeros(320), 320) == [-100.0]
    assert decibels(np.zeros(0), 320) == []
