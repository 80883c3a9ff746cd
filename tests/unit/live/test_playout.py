"""What is heard of a reply, sample by sample, with the clock moved by hand."""

from fractions import Fraction

import numpy as np

from gateway.clock import Clock
from gateway.emotion import Expression
from gateway.live.playout import BREATH_MS, FADE_MS, Playout, State
from gateway.live.script import AUDIBLE, Script
from gateway.turn import ClausePlanned, Span

RATE = 24000
STEP = 480
CLOCK = Clock(RATE, Fraction(25))
BREATH, FADE = CLOCK.samples(BREATH_MS), CLOCK.samples(FADE_MS)


def ramp(samples: int, first: int = 1) -> bytes:
    """Audio of which every sample is known by its value, never 0."""
    return ((np.arange(first, first + samples) % 30000) + 1).astype("<i2").tobytes()


def script(samples: int, onset: int = 0, complete: bool = True) -> Script:
    made = Script(RATE)
    half = (onset + samples) // 2
    sounds = (Span("a", onset, half), Span("b", half, samples))
    words = (Span("one", onset, half), Span("two", half, samples))
    made.plan(ClausePlanned(0, 0, sounds, words, Expression()))
    made.add(0, bytes(2 * onset) + ramp(samples - onset, AUDIBLE if onset else 1))
    made.complete = complete
    return made


def played(playout: Playout, start: int, steps: int) -> bytes:
    return b"".join(playout.release(start + index * STEP, STEP).data for index in range(steps))


def test_a_reply_is_heard_whole_from_its_place_on() -> None:
    playout = Playout(CLOCK)
    playout.load(script(5 * STEP))
    assert playout.can_begin()
    playout.begin(2 * STEP)
    heard = played(playout, 0, 8)
    assert heard == bytes(2 * 2 * STEP) + ramp(5 * STEP) + bytes(2 * STEP)
    assert playout.is_over


def test_the_silence_before_the_first_sound_is_left_out_but_for_a_breath() -> None:
    playout = Playout(CLOCK)
    made = script(20 * STEP, onset=10 * STEP)
    playout.load(made)
    playout.begin(960)
    assert playout.base + 10 * STEP == 960 + BREATH
    assert playout.release(960, STEP).data == made.audio(10 * STEP - BREATH, 11 * STEP - BREATH)


def test_a_voice_that_is_silent_so_far_does_not_begin() -> None:
    playout = Playout(CLOCK)
    made = Script(RATE)
    playout.load(made)
    made.plan(ClausePlanned(0, 0, (Span("a", 0, 8 * STEP),), (), Expression()))
    made.add(0, bytes(2 * 4 * STEP))
    assert not playout.can_begin()
    made.add(4 * STEP, ramp(2 * STEP, AUDIBLE))
    assert playout.can_begin()
    playout.begin(960)
    assert playout.at == 4 * STEP - BREATH


def test_it_waits_for_enough_audio_and_for_the_sounds_to_be_known() -> None:
    playout = Playout(CLOCK)
    made = Script(RATE)
    playout.load(made)
    assert not playout.can_begin()
    made.plan(ClausePlanned(0, 0, (Span("a", 0, 4 * STEP),), (), Expression()))
    made.add(0, ramp(STEP))
    assert not playout.can_begin()
    made.add(STEP, ramp(STEP))
    assert playout.can_begin()


def test_a_pause_goes_on_at_the_sample_where_it_began() -> None:
    playout = Playout(CLOCK)
    made = script(10 * STEP)
    playout.load(made)
    playout.begin(0)
    before = played(playout, 0, 4)
    playout.hold(4 * STEP)
    silence = played(playout, 4 * STEP, 3)
    playout.resume()
    assert playout.state is State.WAITING and playout.can_begin()
    playout.begin(7 * STEP)
    after = played(playout, 7 * STEP, 7)
    assert before == ramp(4 * STEP)
    assert not any(silence[2 * FADE :]) and any(silence[: 2 * FADE]), "it dies away, and then it is silent"
    assert after[2 * FADE :] == made.audio(4 * STEP, 10 * STEP)[2 * FADE :] + bytes(2 * STEP)
    assert playout.is_over


def test_words_are_told_again_in_their_new_places() -> None:
    playout = Playout(CLOCK)
    playout.load(script(10 * STEP))
    playout.begin(0)
    (first,) = playout.news()
    assert [word.text for word in first.words] == ["one", "two"]
    assert playout.news() == []
    played(playout, 0, 7)
    playout.hold(7 * STEP)
    playout.resume()
    playout.begin(20 * STEP)
    (again,) = playout.news()
    assert [(word.text, word.start, word.end) for word in again.words] == [("two", 18 * STEP, 23 * STEP)]
    assert [(sound.text, sound.start, sound.end) for sound in again.phonemes] == [("b", 20 * STEP, 23 * STEP)]


def test_audio_that_comes_too_late_moves_what_follows_and_loses_nothing() -> None:
    playout = Playout(CLOCK)
    made = script(4 * STEP, complete=False)
    playout.load(made)
    playout.begin(0)
    heard = played(playout, 0, 5)
    assert heard == ramp(4 * STEP) + bytes(2 * STEP)
    assert playout.state is State.WAITING and playout.dry == 1
    made.plan(ClausePlanned(0, 4 * STEP, (Span("c", 4 * STEP, 24 * STEP),), (), Expression()))
    made.add(4 * STEP, ramp(2 * STEP, 4 * STEP + 1))
    assert not playout.can_begin(), "it would run dry at once"
    made.add(6 * STEP, ramp(18 * STEP, 6 * STEP + 1))
    assert playout.can_begin()
    playout.begin(9 * STEP)
    assert playout.longest_gap == 5 * STEP, "from where it ran dry to where it goes on"
    rest = played(playout, 9 * STEP, 20)
    assert rest[2 * FADE :] == ramp(24 * STEP)[2 * 4 * STEP + 2 * FADE :]


def test_what_was_heard_is_told_by_whole_words() -> None:
    made = script(10 * STEP)
    assert made.words_before(5 * STEP - 1) == []
    assert made.words_before(5 * STEP) == ["one"]
    assert made.words_before(10 * STEP) == ["one", "two"]


def test_a_reply_that_has_nothing_to_play_cannot_begin() -> None:
    playout = Playout(CLOCK)
    made = Script(RATE)
    made.complete = True
    playout.load(made)
    assert not playout.can_begin() and playout.is_over


def test_sounds_that_are_withdrawn_are_not_news() -> None:
    playout = Playout(CLOCK)
    made = script(10 * STEP, complete=False)
    playout.load(made)
    playout.begin(0)
    assert len(playout.news()) == 1
    made.forget(5 * STEP)
    playout.forget_parts()
    (left,) = playout.news()
    assert [word.text for word in left.words] == ["one"]
