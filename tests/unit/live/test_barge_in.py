"""Interruption, nod or cough: told by what is heard while the face speaks."""

import pytest

from gateway.live.barge_in import DOUBT_MS, LEAST_VOICE_MS, BargeIn, Wish

RATE = 16000


def ms(milliseconds: float) -> int:
    return round(RATE * milliseconds / 1000)


def test_silence_wants_nothing() -> None:
    assert BargeIn(RATE).wish(ms(500)) is Wish.NOTHING


def test_the_first_voice_is_worth_a_pause() -> None:
    barge_in = BargeIn(RATE)
    barge_in.voiced(ms(1000))
    assert barge_in.wish(ms(1064)) is Wish.MAYBE


@pytest.mark.parametrize("text", ["stop", "Wait, wait.", "okay but what about Rome?", "No.", "等一下"])
def test_words_take_the_floor(text: str) -> None:
    barge_in = BargeIn(RATE)
    barge_in.voiced(0)
    barge_in.heard(text)
    assert barge_in.wish(ms(300)) is Wish.FLOOR


@pytest.mark.parametrize("text", ["", "Mm-hmm.", "Uh-huh", "yeah", "Okay.", "嗯"])
def test_a_cough_or_a_nod_gives_it_back(text: str) -> None:
    barge_in = BargeIn(RATE)
    barge_in.voiced(0)
    barge_in.heard(text)
    barge_in.paused(ms(200))
    assert barge_in.wish(ms(300)) is Wish.MAYBE
    assert barge_in.wish(ms(200 + DOUBT_MS)) is Wish.NOTHING


def test_a_long_voice_takes_the_floor_without_words() -> None:
    barge_in = BargeIn(RATE)
    barge_in.voiced(0)
    assert barge_in.wish(ms(LEAST_VOICE_MS - 1)) is Wish.MAYBE
    assert barge_in.wish(ms(LEAST_VOICE_MS)) is Wish.FLOOR


def test_a_pause_within_speech_is_no_end() -> None:
    barge_in = BargeIn(RATE)
    barge_in.voiced(0)
    barge_in.paused(ms(200))
    barge_in.voiced(ms(400))
    assert barge_in.wish(ms(600)) is Wish.MAYBE
    assert barge_in.wish(ms(LEAST_VOICE_MS)) is Wish.FLOOR


def test_it_begins_anew_after_a_reset() -> None:
    barge_in = BargeIn(RATE)
    barge_in.voiced(0)
    barge_in.heard("stop")
    barge_in.reset()
    assert barge_in.wish(ms(900)) is Wish.NOTHING
