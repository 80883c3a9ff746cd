"""The mouth: shapes that phonemes ask for, blended as neighbours in speech blend.

Coarticulation by dominance functions: each sound has a target shape and a dominance that falls off exponentially on both
sides of it, and the mouth is the mean of all targets by their dominance. M. Cohen and D. Massaro, "Modeling
coarticulation in synthetic visual speech", Models and Techniques in Computer Animation, 1993. Two things it does not
promise are added: lips that must meet do meet in some frame, however short the sound, and teeth reach the lip likewise.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from services.animation.engine import AnimationConfig, Interrupt, PhonemeSpan, Speech
from services.animation.shapes import (
    BILABIALS,
    LABIODENTALS,
    OPENERS,
    PHONEMES,
    STRENGTH,
    VISEMES,
    VOWEL_VISEMES,
    Weights,
)

REACH_S = 0.35
"""Beyond this a sound has no say."""
REST_DOMINANCE = 0.03
FALL_OFF_S = 0.045
STRESS_SCALE = (0.86, 0.95, 1.06)
BESIDE_CLOSED = 0.5
SHOWN_AT = 0.25
"""Where in a frame's time the mouth is taken: early, for its picture is dated by the frame's start."""
GLIDE = 0.42
"""Where in a diphthong the first shape gives way to the second."""


@dataclass(frozen=True)
class Key:
    """A shape held in the core of [start, end], in seconds."""

    start: float
    end: float
    shape: Weights
    strength: float
    fall_off_s: float

    def dominance(self, at: float) -> float:
        margin = 0.25 * (self.end - self.start)
        distance = max(self.start + margin - at, at - self.end + margin, 0.0)
        return self.strength * float(np.exp(-distance / self.fall_off_s))


def keys_of(span: PhonemeSpan, rate_hz: int) -> list[Key]:
    """The shapes of one phoneme: two for a diphthong, rest for silence and for what is not known."""
    start, end = span.start / rate_hz, span.end / rate_hz
    names = PHONEMES.get(span.phoneme, ("rest",))
    # Fast speech reaches less far around each sound, but not less than the lips can move.
    fall_off = float(np.clip(0.6 * (end - start), 0.028, FALL_OFF_S))
    middle = start + GLIDE * (end - start)
    places = [(start, end)] if len(names) == 1 else [(start, middle), (middle, end)]
    return [
        Key(first, last, stressed(name, span.stress), STRENGTH.get(name, 1.0), fall_off)
        for name, (first, last) in zip(names, places, strict=True)
    ]


def stressed(name: str, stress: int) -> Weights:
    """A viseme, larger under stress if it is a vowel."""
    if name not in VOWEL_VISEMES:
        return VISEMES[name]
    scaled: Weights = VISEMES[name] * np.float32(STRESS_SCALE[min(max(stress, 0), 2)])
    return np.minimum(scaled, np.float32(1))


class Lips:
    """The mouth over time, as far as it is known."""

    def __init__(self, config: AnimationConfig) -> None:
        self._config = config
        self._rate_hz = config.sample_rate_hz
        self._frame_s = float(1 / config.fps)
        self._keys: deque[Key] = deque()
        self._shut: dict[int, str] = {}

    def add(self, speech: Speech) -> None:
        """Learn of a clause."""
        for span in speech.phonemes:
            if span.end > span.start:
                self._keys.extend(keys_of(span, self._rate_hz))
                self._note_contact(span)

    def cut(self, interrupt: Interrupt) -> None:
        """Forget what lies behind a sample."""
        at = interrupt.at / self._rate_hz
        self._keys = deque(key for key in self._keys if key.start < at)
        self._shut = {
            frame: kind for frame, kind in self._shut.items() if self._config.frame_start(frame) < interrupt.at
        }
        self._keys.append(Key(at + 0.04, at + 0.6, VISEMES["rest"], 4.0, 0.03))

    def shape(self, frame: int) -> Weights:
        """The mouth in a frame."""
        at = self._config.frame_start(frame) / self._rate_hz + SHOWN_AT * self._frame_s
        self._forget_before(at - REACH_S)
        near = [key for key in self._keys if key.start - REACH_S < at]
        dominance = np.array([key.dominance(at) for key in near] + [REST_DOMINANCE], np.float32)
        targets = np.stack([key.shape for key in near] + [VISEMES["rest"]])
        return self._with_contact(frame, dominance @ targets / dominance.sum())

    def _with_contact(self, frame: int, face: Weights) -> Weights:
        if (kind := self._shut.get(frame)) is not None:
            face = VISEMES[kind] if kind == "PP" else 0.25 * face + 0.75 * VISEMES[kind]
        elif any(self._shut.get(near) == "PP" for near in (frame - 1, frame + 1)):
            face = np.where(OPENERS, face * np.float32(BESIDE_CLOSED), face)
        return face

    def _note_contact(self, span: PhonemeSpan) -> None:
        """Mark the frames in which lips (or lip and teeth) must touch: those in the middle of the sound, at least one."""
        kind = "PP" if span.phoneme in BILABIALS else "FF" if span.phoneme in LABIODENTALS else ""
        if kind:
            for frame in self._frames_in_core(span):
                self._shut[frame] = kind

    def _frames_in_core(self, span: PhonemeSpan) -> Iterable[int]:
        quarter = 0.3 * (span.end - span.start)
        per_frame = self._frame_s * self._rate_hz
        shown = SHOWN_AT * per_frame
        first = int(np.ceil((span.start + quarter - shown) / per_frame))
        last = int(np.floor((span.end - quarter - shown) / per_frame))
        nearest = round(((span.start + span.end) / 2 - shown) / per_frame)
        return range(first, last + 1) if first <= last else (max(0, nearest),)

    def _forget_before(self, at: float) -> None:
        while self._keys and self._keys[0].end < at:
            self._keys.popleft()
        if len(self._shut) > 64:
            oldest = round(at / self._frame_s) - 2
            self._shut = {frame: kind for frame, kind in self._shut.items() if frame >= oldest}
