"""What a face does when it learns of speech late, of speech that is not to be, and of sound alone."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from services.animation.blendshapes import INDEX
from services.animation.engine import AnimationConfig, Expression, Frame, Interrupt, PhonemeSpan, Speech, SpeechAudio
from services.animation.mouth import opening
from services.animation.performance import Performance

RATE = 24000
FRAME = 960


def clause(
    sound: str = "ɑ", start: int = 0, count: int = 10, generation: int = 1, turn: str = "turn", mood: str = "neutral"
) -> Speech:
    """The same stressed sound again and again, each a tenth of a second."""
    spans = tuple(PhonemeSpan(sound, start + i * 2400, start + (i + 1) * 2400, 2) for i in range(count))
    return Speech(turn, generation, start, start + count * 2400, spans, Expression(mood, 1.0))


def tone(start: int, seconds: float, level: float = 0.3, generation: int = 1) -> SpeechAudio:
    samples = level * np.sin(2 * np.pi * 160 * np.arange(round(seconds * RATE)) / RATE)
    return SpeechAudio("turn", generation, start, samples.astype(np.float32))


def performance(fps: int = 25) -> Performance:
    return Performance(AnimationConfig(RATE, Fraction(fps), 1, "natural"))


def openings(frames: list[Frame]) -> list[float]:
    return [opening(frame.weights) for frame in frames]


def lids(frames: list[Frame]) -> NDArray[np.float64]:
    return np.array([frame.weights[INDEX["eyeBlinkLeft"]] for frame in frames])


@pytest.mark.parametrize("early_ms", [-200, -100, -40, 0, 40, 120])
def test_speech_learnt_late_does_not_jerk_the_face(early_ms: int) -> None:
    face = performance()
    before = list(face.frames(RATE))
    face.add(clause(start=RATE + early_ms * RATE // 1000))
    after = list(face.frames(RATE + 20 * FRAME))
    moves = [abs(b - a) for a, b in itertools.pairwise(openings([before[-1], *after]))]
    assert max(moves) < 0.45
    assert max(openings(after[:8])) > 0.4
    pitches = [frame.head.pitch for frame in [before[-1], *after]]
    assert max(abs(b - a) for a, b in itertools.pairwise(pitches)) < 0.9


def test_speech_out_of_reach_leaves_earlier_frames_as_they_were() -> None:
    """The same frames whether the second clause is told at once or while the first is heard."""
    first, second = clause("ɛ", count=8), clause("ɔ", start=4 * RATE)
    at_once, later = performance(), performance()
    at_once.add(first)
    at_once.add(second)
    whole = list(at_once.frames(6 * RATE))
    later.add(first)
    pieces = list(later.frames(RATE))
    later.add(second)
    pieces += list(later.frames(6 * RATE))
    for one, other in zip(whole, pieces, strict=True):
        assert np.abs(one.weights[INDEX["jawOpen"]] - other.weights[INDEX["jawOpen"]]) == 0
        np.testing.assert_array_equal(one.weights, other.weights)
        assert one.head == other.head


def test_mouth_rests_soon_after_speech_without_a_closing_silence() -> None:
    face = performance()
    face.add(clause(count=5))
    made = openings(list(face.frames(RATE)))
    end = 5 * 2400 // FRAME
    assert made[end - 2] > 0.4
    assert max(made[end + 4 :]) < 0.05


def test_last_plosive_is_not_held_over_the_pause() -> None:
    spans = (PhonemeSpan("ɑ", 0, 2400, 2), PhonemeSpan("t", 2400, 2400 + 9600))
    face = performance()
    face.add(Speech("turn", 1, 0, 12000, spans))
    made = openings(list(face.frames(12000)))
    assert max(made[9:]) < 0.03 < made[4]


@pytest.mark.parametrize("fps", [25, 50])
def test_interruption_closes_the_mouth_within_160_ms(fps: int) -> None:
    face = performance(fps)
    face.add(clause(count=20))
    before = list(face.frames(RATE))
    face.cut(Interrupt(2, RATE))
    after = list(face.frames(2 * RATE))
    assert opening(before[-1].weights) > 0.4
    assert max(openings(after)[round(0.16 * fps) :]) < 0.05
    assert all(not frame.turn_id for frame in after)


def test_reply_soon_after_an_interruption_is_spoken_in_full() -> None:
    face = performance()
    face.add(clause(count=20))
    list(face.frames(RATE))
    face.cut(Interrupt(2, RATE))
    face.add(clause(start=RATE + 4800, generation=2, turn="next"))
    made = [frame for frame in face.frames(2 * RATE) if frame.turn_id == "next"]
    assert len(made) == 20
    assert min(openings(made)) > 0.4


def test_interruption_ahead_leaves_what_is_said_until_then() -> None:
    face = performance()
    face.add(clause(count=20))
    face.cut(Interrupt(2, RATE))
    made = list(face.frames(2 * RATE))
    assert [frame.turn_id for frame in made] == ["turn"] * 25 + [""] * 25
    assert min(openings(made)[3:23]) > 0.4


def test_interruption_spares_its_own_and_newer_generations() -> None:
    face = performance()
    face.add(clause(start=FRAME, generation=1, count=4))
    face.add(clause(start=RATE, generation=2, turn="next"))
    face.add(tone(3 * RATE, 0.5, generation=3))
    face.cut(Interrupt(2, 0))
    made = list(face.frames(4 * RATE))
    assert all(not frame.turn_id for frame in made[:25])
    assert [frame.turn_id for frame in made[25:50]] == ["next"] * 25
    assert min(openings(made)[28:48]) > 0.4
    assert openings(made)[80] > 0.2
    face.cut(Interrupt(1, 0))
    face.add(clause(start=5 * RATE, generation=1))
    assert all(not frame.turn_id for frame in face.frames(6 * RATE))


def test_newer_generation_takes_over_where_both_are_heard() -> None:
    face = performance()
    face.add(clause(count=20))
    face.add(clause("u", start=RATE, count=5, generation=2, turn="next"))
    face.add(clause("ɑ", start=RATE + 2400, count=2, generation=1, turn="stale"))
    turns = [frame.turn_id for frame in face.frames(2 * RATE)]
    assert turns == ["turn"] * 25 + ["next"] * 13 + ["turn"] * 12


def test_sound_that_is_past_is_not_heard() -> None:
    face = performance()
    list(face.frames(RATE))
    face.add(tone(RATE - 12000, 0.5))
    assert max(openings(list(face.frames(2 * RATE)))) == 0.0
    face.add(tone(2 * RATE - 12000, 1.0))
    made = openings(list(face.frames(3 * RATE)))
    assert max(made[3:11]) > 0.3
    assert max(made[17:]) < 0.05


def test_louder_is_wider() -> None:
    peaks = []
    for level in (0.0, 0.02, 0.08, 0.3):
        face = performance()
        face.add(tone(0, 0.8, level))
        peaks.append(max(openings(list(face.frames(RATE)))))
    assert peaks[0] == 0.0
    assert peaks == sorted(peaks)
    assert peaks[3] > peaks[1] + 0.2


def test_interrupted_sound_falls_silent() -> None:
    face = performance()
    face.add(tone(0, 2.0))
    list(face.frames(RATE))
    face.cut(Interrupt(2, RATE))
    after = list(face.frames(2 * RATE))
    assert max(openings(after)[5:]) < 0.05
    assert all(not frame.turn_id for frame in after)


@pytest.mark.parametrize("size", [160, 480, 5000])
def test_face_does_not_depend_on_how_sound_is_cut_up(size: int) -> None:
    whole, pieces = performance(), performance()
    sound = tone(4800, 2.0)
    whole.add(sound)
    for first in range(0, len(sound.samples), size):
        pieces.add(SpeechAudio("turn", 1, 4800 + first, sound.samples[first : first + size]))
    for one, other in zip(whole.frames(3 * RATE), pieces.frames(3 * RATE), strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)
        assert (one.head, one.turn_id) == (other.head, other.turn_id)


def test_phonemes_say_more_than_sound() -> None:
    face = performance()
    face.add(clause("m"))
    face.add(tone(0, 1.0))
    assert max(openings(list(face.frames(RATE)))) == 0.0


def test_clause_without_phonemes_is_moved_by_its_sound() -> None:
    face = performance()
    face.add(Speech("turn", 1, 0, RATE, (), Expression("happy", 1.0)))
    for first in range(0, RATE, 2400):
        face.add(tone(first, 0.1))
    made = list(face.frames(2 * RATE))
    assert min(openings(made)[4:24]) > 0.3
    assert made[20].weights[INDEX["mouthSmileLeft"]] > 0.2
    assert [frame.turn_id for frame in made] == ["turn"] * 25 + [""] * 25


def test_blinks_keep_their_distance_while_sound_comes_in_small_pieces() -> None:
    face, made = performance(), []
    for first in range(0, 60 * RATE, FRAME):
        face.add(tone(first, FRAME / RATE, 0.1))
        made += list(face.frames(first + FRAME))
    shut = np.flatnonzero(lids(made) == 1.0) / 25
    assert 9 <= len(shut) <= 31
    assert np.diff(shut).min() >= 1.96


def test_wide_eyes_close_all_the_same() -> None:
    face = performance()
    face.add(clause("ə", count=200, mood="fearful"))
    made = list(face.frames(20 * RATE))
    wide = np.array([frame.weights[INDEX["eyeWideLeft"]] for frame in made])
    assert (lids(made) == 1.0).sum() > 2
    assert wide[lids(made) == 1.0].max() == 0.0
    assert wide.max() > 0.4


@pytest.mark.parametrize("fps", [12, 25, 30, 60])
def test_every_blink_has_a_frame_with_closed_lids(fps: int) -> None:
    made = list(performance(fps).frames(60 * RATE))
    lid = lids(made)
    starts = np.flatnonzero((lid[1:] > 0.05) & (lid[:-1] <= 0.05))
    assert len(starts) >= 9
    for start in starts[:-1]:
        assert lid[start : start + fps // 4 + 3].max() == 1.0


def test_mood_comes_within_400_ms_and_by_small_steps() -> None:
    face = performance()
    face.add(clause("ə", start=0, count=20))
    face.add(clause("ə", start=2 * RATE, count=20, mood="angry"))
    brows = [float(frame.weights[INDEX["browDownLeft"]]) for frame in face.frames(4 * RATE)]
    settled = brows[90]
    assert settled > 0.7
    assert max(brows[:44]) < 0.05
    assert brows[50 + 6] > 0.8 * settled
    assert max(b - a for a, b in itertools.pairwise(brows)) < 0.4 * settled


def test_out_of_order_speech_is_kept_and_let_go() -> None:
    face = performance()
    for index in reversed(range(30)):
        face.add(clause(start=index * RATE, count=5))
    made = list(face.frames(40 * RATE))
    assert sum(frame.turn_id == "turn" for frame in made) == 30 * 13
    assert face._heard == []
    assert face._lips._keys == []
    assert list(face._accents) == []
