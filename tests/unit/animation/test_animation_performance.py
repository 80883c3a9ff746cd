"""Faces from speech: what must hold for every frame, whatever is said."""

import itertools
import math
import tracemalloc
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from services.animation.blendshapes import BLENDSHAPES, INDEX
from services.animation.engine import AnimationConfig, Expression, Frame, Interrupt, PhonemeSpan, Speech, SpeechAudio
from services.animation.life import STYLES
from services.animation.mouth import opening
from services.animation.performance import Performance
from services.animation.shapes import MOODS, PHONEMES, VISEMES
from services.tts import phonemes as tts

RATE = 24000
FRAME = 960
SOUNDS = [phoneme for phoneme in PHONEMES if phoneme not in ("p", "b", "m")]


def config(seed: int = 1, style: str = "natural", fps: Fraction = Fraction(25), rate: int = RATE) -> AnimationConfig:
    return AnimationConfig(rate, fps, seed, style)


def clause(
    sounds: list[str], length: int = 2000, start: int = 0, mood: Expression | None = None, generation: int = 1
) -> Speech:
    """A clause of sounds of equal length; every fourth is stressed."""
    spans = tuple(
        PhonemeSpan(sound, start + i * length, start + (i + 1) * length, 2 if i % 4 == 1 else 0)
        for i, sound in enumerate(sounds)
    )
    return Speech("turn", generation, start, start + len(sounds) * length, spans, mood or Expression())


def random_clause(seed: int, shortest: int = 700, longest: int = 3600) -> Speech:
    """Speech-like noise with many bilabials; the shortest sound is 29 ms, less than a frame."""
    rng = np.random.default_rng(seed)
    at, spans = 0, []
    for i in range(60):
        sound = str(rng.choice(["p", "b", "m"])) if i % 3 == 0 else str(rng.choice(SOUNDS))
        length = int(rng.integers(shortest, longest))
        spans.append(PhonemeSpan(sound, at, at + length, int(rng.integers(0, 3))))
        at += length
    return Speech("turn", 1, 0, at, tuple(spans), Expression("happy", 0.7))


def frames(*speech: Speech | SpeechAudio, until: int, cfg: AnimationConfig | None = None) -> list[Frame]:
    performance = Performance(cfg or config())
    for each in speech:
        performance.add(each)
    return list(performance.frames(until))


def unit(face: Frame, name: str) -> float:
    return float(face.weights[INDEX[name]])


def mean(made: list[Frame], name: str, first: int, last: int) -> float:
    return float(np.mean([unit(frame, name) for frame in made[first:last]]))


@pytest.mark.parametrize(("start", "fps"), [(0, 25), (1, 25), (9600, 25), (9601, 25), (100_000, 30), (99_999, 30)])
def test_frames_from_a_later_start_lie_where_they_always_do(start: int, fps: int) -> None:
    whole = frames(random_clause(4), until=150_000, cfg=config(fps=Fraction(fps)))
    late = frames(random_clause(4), until=150_000, cfg=replace(config(fps=Fraction(fps)), start=start))
    assert [frame.start for frame in late] == [frame.start for frame in whole if frame.start >= start]


@pytest.mark.parametrize("start", [960, 9600, 50_000])
def test_mouth_from_a_later_start_is_the_same(start: int) -> None:
    said = replace(random_clause(4), expression=Expression())
    late = frames(said, until=90_000, cfg=replace(config(), start=start))
    whole = frames(said, until=90_000)[-len(late) :]
    for name in ("jawOpen", "mouthClose", "mouthFunnel", "mouthPressLeft"):
        assert [unit(frame, name) for frame in late] == [unit(frame, name) for frame in whole]


def test_sound_hours_from_the_beginning_takes_no_room() -> None:
    hours = 10 * 3600 * RATE
    noise = np.tile(np.array([0.5, -0.5], np.float32), FRAME * 5)
    tracemalloc.start()
    made = frames(SpeechAudio("turn", 1, hours, noise), until=hours + 10 * FRAME, cfg=replace(config(), start=hours))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(made) == 10
    assert unit(made[5], "jawOpen") > 0.2
    assert most < 20_000_000


def test_names_are_arkits_52() -> None:
    assert len(BLENDSHAPES) == len(set(BLENDSHAPES)) == 52
    assert {"jawOpen", "tongueOut", "eyeBlinkLeft", "mouthPressRight", "cheekPuff"} < set(BLENDSHAPES)


def test_every_phoneme_of_the_voices_has_a_shape() -> None:
    assert set(tts.PHONEMES) <= set(PHONEMES)
    assert {name for names in PHONEMES.values() for name in names} <= set(VISEMES)


def shown(span: PhonemeSpan, made: list[Frame]) -> set[int]:
    """The frames that start inside a sound; where there is none, the nearest."""
    away = [max(span.start - frame.start, frame.start - span.end + 1, 0) for frame in made]
    return {k for k, distance in enumerate(away) if distance == min(away)}


PACES = [(600, 1000), (1000, 2400), (2000, 3600)]


@pytest.mark.parametrize("fps", [15, 25, 30, 60])
@pytest.mark.parametrize(("shortest", "longest"), PACES)
def test_lips_close_on_every_bilabial(fps: int, shortest: int, longest: int) -> None:
    for seed in range(6):
        speech = random_clause(seed, shortest, longest)
        made = frames(speech, until=speech.end + RATE // fps, cfg=config(fps=Fraction(fps)))
        for span in speech.phonemes:
            if span.phoneme in ("p", "b", "m"):
                closed = [made[k] for k in shown(span, made) if opening(made[k].weights) == 0.0]
                assert closed, (seed, span)
                assert min(unit(frame, "jawOpen") + unit(frame, "mouthFunnel") for frame in closed) == 0.0


@pytest.mark.parametrize("fps", [15, 25, 30, 60])
@pytest.mark.parametrize(("shortest", "longest"), PACES)
def test_teeth_reach_the_lip_on_every_f_that_has_a_frame_of_its_own(fps: int, shortest: int, longest: int) -> None:
    tried = 0
    for seed in range(6):
        speech = random_clause(seed, shortest, longest)
        made = frames(speech, until=speech.end + RATE // fps, cfg=config(fps=Fraction(fps)))
        taken = {k for span in speech.phonemes if span.phoneme in ("p", "b", "m") for k in shown(span, made)}
        for span in speech.phonemes:
            if span.phoneme in ("f", "v") and not shown(span, made) & taken:
                tried += 1
                met = [made[k] for k in shown(span, made) if unit(made[k], "mouthRollLower") > 0.3]
                assert any(unit(frame, "jawOpen") < 0.1 and opening(frame.weights) < 0.1 for frame in met), (seed, span)
    assert tried > 3


def test_open_vowels_open_and_round_vowels_round() -> None:
    opened = frames(clause(["", "ɑ", "ɑ", ""], 4000), until=16000)[8]
    spread = frames(clause(["", "i", "i", ""], 4000), until=16000)[8]
    rounded = frames(clause(["", "u", "u", ""], 4000), until=16000)[8]
    assert opening(opened.weights) > 0.4
    assert opening(rounded.weights) < 0.2
    assert unit(rounded, "mouthPucker") > 0.4
    assert unit(spread, "mouthPucker") < 0.1
    assert unit(spread, "mouthStretchLeft") > 0.15


def test_diphthongs_move_from_one_shape_to_the_other() -> None:
    made = frames(clause(["", "aʊ", ""], 6000), until=18000)
    assert unit(made[7], "mouthPucker") < 0.2
    assert unit(made[11], "mouthPucker") > 0.3
    assert opening(made[7].weights) > opening(made[11].weights)


def test_mouth_opens_before_the_sound() -> None:
    speech = clause(["", "ɑ", ""], 12000)
    made = frames(speech, until=36000)
    openings = [opening(frame.weights) for frame in made]
    assert openings[7] < 0.02
    assert openings[10] > 0.02
    assert openings[12] > 0.2


@pytest.mark.parametrize("step", [1, 7, 960, 5000])
def test_frames_do_not_depend_on_how_they_are_asked_for(step: int) -> None:
    speech = clause(["h", "ə", "l", "oʊ", "m", "æ", "n"], mood=Expression("sad", 1.0))
    whole = frames(speech, until=40 * FRAME)
    performance = Performance(config())
    performance.add(speech)
    pieces = [
        frame for until in range(0, 40 * FRAME + step, step) for frame in performance.frames(min(until, 40 * FRAME))
    ]
    assert [frame.start for frame in pieces] == [frame.start for frame in whole]
    for one, other in zip(pieces, whole, strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)
        assert one.head == other.head


def test_same_seed_same_face_other_seed_other_face() -> None:
    speech = clause(["h", "ə", "l", "oʊ"])
    one, same = frames(speech, until=48000), frames(speech, until=48000)
    other = frames(speech, until=48000, cfg=config(seed=2))
    assert all(np.array_equal(a.weights, b.weights) and a.head == b.head for a, b in zip(one, same, strict=True))
    assert any(a.head != b.head for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("rate", "fps"), [(24000, Fraction(30)), (22050, Fraction(25)), (48000, Fraction(30000, 1001))]
)
def test_frames_start_where_the_clock_says(rate: int, fps: Fraction) -> None:
    made = frames(until=2 * rate, cfg=config(fps=fps, rate=rate))
    assert [frame.start for frame in made] == [math.floor(k * rate / fps) for k in range(len(made))]
    assert made[-1].start < 2 * rate <= math.floor(len(made) * rate / fps)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_jumps(seed: int) -> None:
    """Lids may shut in two frames and lips must shut in one; all else moves by less."""
    speech = random_clause(seed, 1500, 3600)
    made = frames(speech, until=speech.end + 48000)
    faces = np.stack([frame.weights for frame in made])
    moved = np.abs(np.diff(faces, axis=0)).max(axis=0)
    for name, most in zip(BLENDSHAPES, moved, strict=True):
        if name.startswith("eyeBlink"):
            assert most <= 0.75, name
        elif name.startswith(("mouth", "jaw", "tongue")):
            assert most <= 0.5, name
        else:
            assert most <= 0.25, name
    turned = np.array([(f.head.yaw, f.head.pitch, f.head.roll) for f in made])
    assert np.abs(np.diff(turned, axis=0)).max() < 0.8
    assert faces.min() >= 0
    assert faces.max() <= 1


@pytest.mark.parametrize(
    ("mood", "rises"),
    [
        ("happy", "mouthSmileLeft"),
        ("sad", "browInnerUp"),
        ("angry", "browDownLeft"),
        ("surprised", "browOuterUpLeft"),
        ("fearful", "eyeWideLeft"),
        ("disgusted", "noseSneerLeft"),
    ],
)
def test_moods_show_and_pass(mood: str, rises: str) -> None:
    speech = clause(["ə", "n"] * 10)
    plain = frames(speech, until=5 * RATE)
    full = frames(clause(["ə", "n"] * 10, mood=Expression(mood, 1.0)), until=5 * RATE)
    half = frames(clause(["ə", "n"] * 10, mood=Expression(mood, 0.5)), until=5 * RATE)
    levels = [mean(made, rises, 12, 40) for made in (plain, half, full)]
    assert levels[0] + 0.1 < levels[1] < levels[2]
    assert mean(full, rises, 105, 125) == pytest.approx(mean(plain, rises, 105, 125), abs=0.08)
    assert set(MOODS) == {"neutral", "happy", "sad", "angry", "surprised", "fearful", "disgusted"}


def test_moods_keep_lips_closed() -> None:
    for mood in MOODS:
        speech = clause(["ɑ", "m", "ɑ", "m", "ɑ"], 3000, mood=Expression(mood, 1.0))
        made = frames(speech, until=15000)
        assert opening(made[round((4500 - FRAME / 4) / FRAME)].weights) < 0.03, mood


def test_face_blinks_now_and_then() -> None:
    made = frames(until=60 * RATE)
    lids = np.array([unit(frame, "eyeBlinkLeft") for frame in made])
    shut = np.flatnonzero(lids == 1.0)
    gaps = np.diff(shut[np.insert(np.diff(shut) > 1, 0, True)]) / 25
    assert 9 <= len(gaps) + 1 <= 31
    assert gaps.min() >= 1.96
    assert gaps.max() <= 6.1
    assert 0.01 < np.mean(lids > 0.3) < 0.12


def test_idle_face_lives_but_keeps_its_mouth_shut() -> None:
    made = frames(until=20 * RATE)
    assert all(frame.turn_id == "" for frame in made)
    assert max(opening(frame.weights) for frame in made) < 0.02
    assert np.std([frame.head.yaw for frame in made]) > 0.1
    assert np.std([unit(frame, "eyeLookOutLeft") for frame in made]) > 0.005
    assert np.ptp([frame.head.scale for frame in made]) > 0.001


def test_head_moves_more_while_speaking() -> None:
    sounds = ["ə", "n", "ə", "l"] * 60
    talking = frames(clause(sounds), until=20 * RATE)
    idle = frames(until=20 * RATE)
    assert np.std([f.head.yaw for f in talking]) > 1.3 * np.std([f.head.yaw for f in idle])


def test_styles_differ_in_liveliness() -> None:
    ranges = {style: np.ptp([f.head.yaw for f in frames(until=20 * RATE, cfg=config(style=style))]) for style in STYLES}
    assert ranges["calm"] < ranges["natural"] < ranges["lively"]


def test_frames_name_the_turn_that_is_heard() -> None:
    made = frames(clause(["ə"] * 4, 4800, start=9600), until=48000)
    assert [frame.turn_id for frame in made] == [""] * 10 + ["turn"] * 20 + [""] * 20


def test_interruption_closes_the_mouth_soon_and_smoothly() -> None:
    speech = clause(["ɑ"] * 20, 2400)
    performance = Performance(config())
    performance.add(speech)
    before = list(performance.frames(12 * FRAME))
    performance.cut(Interrupt(2, 12 * FRAME))
    after = list(performance.frames(30 * FRAME))
    assert opening(before[-1].weights) > 0.4
    assert opening(after[4].weights) < 0.06
    assert all(frame.turn_id == "" for frame in after)
    openings = [opening(frame.weights) for frame in [before[-1], *after]]
    assert max(abs(a - b) for a, b in itertools.pairwise(openings)) < 0.3


def test_interrupted_generation_is_not_heard_again() -> None:
    performance = Performance(config())
    performance.cut(Interrupt(5, 0))
    performance.add(clause(["ɑ"] * 10, generation=4))
    assert all(frame.turn_id == "" for frame in performance.frames(10 * FRAME))
    performance.add(clause(["ɑ"] * 10, start=10 * FRAME, generation=5))
    assert any(frame.turn_id for frame in performance.frames(20 * FRAME))


def test_audio_alone_moves_the_mouth_with_its_loudness() -> None:
    t = np.arange(RATE) / RATE
    loud = np.where((t > 0.3) & (t < 0.6), 0.3, 0.0) * np.sin(2 * np.pi * 160 * t)
    made = frames(SpeechAudio("turn", 1, 0, loud.astype(np.float32)), until=RATE)
    openings = np.array([opening(frame.weights) for frame in made])
    assert openings[10:14].min() > 0.25
    assert openings[:6].max() < 0.02
    assert openings[20:].max() < 0.05
    assert made[3].turn_id == "turn"


def test_hours_of_speech_keep_nothing() -> None:
    performance = Performance(config())
    for index in range(400):
        start = index * 24000
        performance.add(clause(["m", "ɑ", "p", "i"], 4000, start=start))
        performance.add(SpeechAudio("turn", 1, start, np.zeros(16000, np.float32)))
        for _ in performance.frames(start + 24000):
            pass
    kept = performance._lips
    assert len(kept._keys) < 20
    assert len(kept._shut) <= 80
    assert len(performance._heard) < 8
    assert len(performance._loudness._samples) < 24000


def test_frames_are_made_in_well_under_a_millisecond_of_arithmetic() -> None:
    """Not a stopwatch: a face looks at the sounds near it, however long the clause is."""
    performance = Performance(config())
    performance.add(clause(["ə"] * 5000, 1000))
    list(performance.frames(RATE))
    near = [key for key in performance._lips._keys if key.start - 0.35 < 1.0]
    assert len(near) < 60
