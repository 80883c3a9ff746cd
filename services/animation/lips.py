"""The mouth: shapes that phonemes ask for, blended as neighbours in speech blend.

Coarticulation by dominance functions: each sound has a target shape and a dominance that falls off exponentially on both
sides of it, and the mouth is the mean of all targets by their dominance. M. Cohen and D. Massaro, "Modeling
coarticulation in synthetic visual speech", Models and Techniques in Computer Animation, 1993. Two things it does not
promise are added: lips that must meet do meet in some frame, however short the sound, and teeth reach the lip likewise.

What is learnt late, or forgotten, moves the mouth's path under it. The difference is carried over and dies away, so that
the mouth glides onto its new path. D. Bollo, "Inertialization: high-performance animation transitions", GDC 2018.
"""

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from services.animation.engine import AnimationConfig, PhonemeSpan, Speech
from services.animation.shapes import (
    BILABIALS,
    LABIODENTALS,
    OPENERS,
    PHONEMES,
    PLOSIVES,
    STRENGTH,
    VISEMES,
    VOWEL_VISEMES,
    Weights,
)

REACH_S = 0.35
"""Beyond this a sound has no say."""
REST_DOMINANCE = 0.03
GAP_DOMINANCE = 0.8
GAP_RISE_S = 0.03
ANTICIPATION_S = (0.05, 0.2)
"""Before speech, a resting mouth begins to give way at the second and has given way at the first."""
FALL_OFF_S = 0.04
GLIDE_ON_S = 0.045
EDGE_S = {"rest": 0.1}
STRESS_SCALE = (0.86, 0.95, 1.06)
BESIDE_CLOSED = 0.8
SHOWN_AT = 0.25
"""Where in a frame's time the mouth is taken: early, for its picture is dated by the frame's start."""
HELD = 0.7
"""The part of a bilabial in which the lips are shut; the rest is their release."""
LONGEST_PLOSIVE_S = 0.16
"""Voices that end on a plosive draw it out over the pause behind it, a mouth does not."""
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
    edge_s: float
    """How much of it at either end is way to and from its neighbours, at most."""

    def dominance(self, at: float) -> float:
        margin = min(0.25 * (self.end - self.start), self.edge_s)
        distance = max(self.start + margin - at, at - self.end + margin, 0.0)
        return self.strength * math.exp(-distance / self.fall_off_s)

    def without(self, start: float, end: float) -> Iterable["Key"]:
        """What is left of it outside [start, end)."""
        if self.start < start:
            yield replace(self, end=min(self.end, start))
        if self.end > end:
            yield replace(self, start=max(self.start, end))


def keys_of(span: PhonemeSpan, rate_hz: int) -> list[Key]:
    """The shapes of one phoneme: two for a diphthong, rest for silence and for what is not known."""
    start, end = span.start / rate_hz, span.end / rate_hz
    names = PHONEMES.get(span.phoneme, ("rest",))
    # Fast speech reaches less far around each sound, but not less than the lips can move.
    fall_off = min(max(0.6 * (end - start), 0.028), FALL_OFF_S)
    middle = start + GLIDE * (end - start)
    if span.phoneme in PLOSIVES and end - start > LONGEST_PLOSIVE_S:
        names, middle = (*names, "rest"), start + LONGEST_PLOSIVE_S
    places = [(start, end)] if len(names) == 1 else [(start, middle), (middle, end)]
    return [
        Key(first, last, stressed(name, span.stress), STRENGTH.get(name, 1.0), fall_off, EDGE_S.get(name, 0.045))
        for name, (first, last) in zip(names, places, strict=True)
    ]


@functools.cache
def stressed(name: str, stress: int) -> Weights:
    """A viseme, larger under stress if it is a vowel."""
    if name not in VOWEL_VISEMES:
        return VISEMES[name]
    scaled: Weights = VISEMES[name] * np.float32(STRESS_SCALE[stress])
    return np.minimum(scaled, np.float32(1))


class Lips:
    """The mouth over time, as far as it is known."""

    def __init__(self, config: AnimationConfig) -> None:
        self._config = config
        self._rate_hz = config.sample_rate_hz
        self._frame_s = float(1 / config.fps)
        self._keys: list[Key] = []
        self._shut: dict[int, str] = {}
        self._last: float | None = None
        self._carried = np.zeros_like(VISEMES["rest"])
        self._fading = np.float32(math.exp(-self._frame_s / GLIDE_ON_S))

    def add(self, speech: Speech) -> None:
        """Learn of a clause, in place of what was known of its time."""
        before = self._path_now()
        self._drop(speech.start, speech.end)
        keys = [key for span in speech.phonemes if span.end > span.start for key in keys_of(span, self._rate_hz)]
        self._keys = sorted(self._keys + keys, key=lambda key: key.start)
        for span in speech.phonemes:
            self._note_contact(span)
        self._carry(before)

    def forget(self, start: int, end: int) -> None:
        """Unlearn what lies in [start, end), in samples."""
        before = self._path_now()
        self._drop(start, end)
        self._carry(before)

    def shape(self, frame: int) -> Weights:
        """The mouth in a frame. Frames are asked for in order."""
        at = self._config.frame_start(frame) / self._rate_hz + SHOWN_AT * self._frame_s
        self._forget_before(at - REACH_S, frame)
        self._last = at
        self._carried = self._carried * self._fading
        return self._with_contact(frame, np.maximum(self._path(at) + self._carried, np.float32(0)))

    def _path(self, at: float) -> Weights:
        """Where the mouth would be had everything been known from the start."""
        near = list(takewhile(lambda key: key.start - REACH_S < at, self._keys))
        dominance = np.array([key.dominance(at) for key in near] + [self._rest(at)], np.float32)
        targets = np.stack([key.shape for key in near] + [VISEMES["rest"]])
        path: Weights = dominance @ targets / dominance.sum()
        return path

    def _rest(self, at: float) -> float:
        """Dominance of rest: strong where nothing is said, yielding before speech that is known to come."""
        began = list(takewhile(lambda key: key.start <= at, self._keys))
        silent_s = at - max((key.end for key in began), default=-1.0)
        if silent_s <= 0:
            return REST_DOMINANCE
        ahead_s = self._keys[len(began)].start - at if len(began) < len(self._keys) else REACH_S
        first, last = ANTICIPATION_S
        yielding = min(max((ahead_s - first) / (last - first), 0.0), 1.0)
        return REST_DOMINANCE + GAP_DOMINANCE * yielding * (1 - math.exp(-silent_s / GAP_RISE_S))

    def _path_now(self) -> Weights | None:
        return None if self._last is None else self._path(self._last)

    def _carry(self, before: Weights | None) -> None:
        """Keep the mouth where it was when the path moves under it."""
        if before is None or self._last is None:
            return
        moved = before - self._path(self._last)
        # Below this it is arithmetic, not movement: speech out of reach leaves the frames before it exactly as they were.
        if np.abs(moved).max() > 1e-5:
            self._carried = self._carried + moved

    def _drop(self, start: int, end: int) -> None:
        first, last = start / self._rate_hz, end / self._rate_hz
        self._keys = [
            part
            for key in self._keys
            for part in ((key,) if key.end <= first or key.start >= last else key.without(first, last))
        ]
        self._shut = {
            frame: kind for frame, kind in self._shut.items() if not start <= self._config.frame_start(frame) < end
        }

    def _with_contact(self, frame: int, face: Weights) -> Weights:
        match self._shut.get(frame):
            case "PP":
                return VISEMES["PP"]
            case "FF":
                return np.where(OPENERS, VISEMES["FF"], 0.25 * face + 0.75 * VISEMES["FF"])
        if any(self._shut.get(near) == "PP" for near in (frame - 1, frame + 1)):
            return np.where(OPENERS, face * np.float32(BESIDE_CLOSED), face)
        return face

    def _note_contact(self, span: PhonemeSpan) -> None:
        """Mark the frames in which lips (or lip and teeth) must touch: those of the sound's hold, at least the nearest.

        Where both want the one frame there is, the lips have it.
        """
        kind = "PP" if span.phoneme in BILABIALS else "FF" if span.phoneme in LABIODENTALS else ""
        if kind:
            for frame in self._frames_held(span):
                if kind == "PP" or self._shut.get(frame) != "PP":
                    self._shut[frame] = kind

    def _frames_held(self, span: PhonemeSpan) -> Iterable[int]:
        config = self._config
        first = config.frame_from(span.start)
        after = config.frame_from(span.start + round(HELD * (span.end - span.start)))
        if first < after:
            return range(first, after)
        late = config.frame_start(first) - span.end + 1
        early = span.start - config.frame_start(first - 1)
        return (first if first == 0 or late < early else first - 1,)

    def _forget_before(self, at: float, frame: int) -> None:
        while self._keys and self._keys[0].end < at:
            del self._keys[0]
        if len(self._shut) > 64 and min(self._shut) < frame - 1:
            self._shut = {near: kind for near, kind in self._shut.items() if near >= frame - 1}
