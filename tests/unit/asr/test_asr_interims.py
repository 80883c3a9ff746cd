from dataclasses import replace

import pytest

from services.asr.hypothesis import agreement, joined
from services.asr.interims import SETTLED, Pace, Situation, covers, due

SPEAKING = Situation(
    heard_until=20_000, speech_end=20_000, covered_until=12_000, silence=0, since_decode_s=10, decode_s=0.1
)
PACE = Pace(every=4_800, rest=2)


def test_an_interim_wants_enough_new_audio() -> None:
    assert due(SPEAKING, PACE)
    assert not due(replace(SPEAKING, covered_until=20_000 - 4_799), PACE)


def test_an_interim_rests_in_proportion_to_its_cost() -> None:
    assert not due(replace(SPEAKING, decode_s=0.5, since_decode_s=0.99), PACE)
    assert due(replace(SPEAKING, decode_s=0.5, since_decode_s=1.0), PACE)


def test_without_interims_nothing_is_decoded_while_somebody_speaks() -> None:
    assert not due(SPEAKING, None)


@pytest.mark.parametrize("pace", [PACE, None])
def test_a_pause_is_decoded_at_once_and_only_once(pace: Pace | None) -> None:
    pause = replace(
        SPEAKING, heard_until=20_000 + SETTLED, silence=SETTLED, covered_until=19_999, decode_s=9, since_decode_s=0
    )
    assert due(pause, pace)
    assert not due(replace(pause, covered_until=20_000 + SETTLED, heard_until=60_000, silence=40_000), pace)


def test_a_hypothesis_covers_the_speech_once_it_has_heard_a_pause_after_it_or_everything() -> None:
    assert covers(20_000 + SETTLED, speech_end=20_000, heard_until=90_000)
    assert not covers(20_000 + SETTLED - 1, speech_end=20_000, heard_until=90_000)
    assert covers(20_100, speech_end=20_000, heard_until=20_100)


@pytest.mark.parametrize(
    ("text", "previous", "share"),
    [
        ("I want to", "", 0),
        ("I want to go", "I want two", 0.5),
        ("I want to go home.", "i want, to GO home", 1),
        ("Go home", "I go home", 0),
        ("I want", "I want to go home", 1),
        ("", "I want", 0),
        ("I – want", "I want", 1),
    ],
)
def test_stability_is_the_share_of_words_that_stayed(text: str, previous: str, share: float) -> None:
    assert agreement(text, previous) == share


def test_windows_are_joined_without_those_that_said_nothing() -> None:
    assert joined(["One.", "", "Two."]) == "One. Two."
