"""One face over time: everything that is known of its speech, and its frames one by one."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from services.animation.blendshapes import INDEX
from services.animation.engine import (
    AnimationConfig,
    Expression,
    Frame,
    Head,
    Interrupt,
    PhonemeSpan,
    Speech,
    SpeechAudio,
)
from services.animation.life import STYLES, Eyes, Sway
from services.animation.lips import Lips
from services.animation.loudness import Loudness
from services.animation.mouth import opening
from services.animation.shapes import CORNERS, MOODS, MOUTH, OPENERS, ROUNDERS, Weights

MOOD_RISE_S, MOOD_FALL_S = 0.25, 0.6
MOOD_AHEAD_S, MOOD_HOLD_S = 0.2, 0.7
ACCENT_S = 0.11
ACCENT_SHARE = 0.45
FOLLOW_S = 0.05
"""How far head and brows lag behind an accent, so that one that is learnt late does not jerk them."""


@dataclass(frozen=True)
class Heard:
    """A stretch of the clock in which somebody is heard."""

    turn_id: str
    generation: int
    start: int
    end: int
    expression: Expression
    phonemes: bool
    """Whether the mouth is moved by phonemes, and not by what is heard."""

    def goes_on_as(self, other: "Heard") -> bool:
        """Whether `other` is the next piece of the same audio."""
        return (
            not self.phonemes and replace(self, start=other.start, end=other.end) == other and self.end == other.start
        )

    def meets(self, other: "Heard") -> bool:
        return self.start < other.end and other.start < self.end

    def without(self, start: int, end: int) -> Iterator["Heard"]:
        """What is left of it outside [start, end)."""
        if self.start < start:
            yield replace(self, end=min(self.end, start))
        if self.end > end:
            yield replace(self, start=max(self.start, end))


class Performance:
    """The state of one face. Its frames depend on seed, config and what was known when each was made; on nothing else."""

    def __init__(self, config: AnimationConfig) -> None:
        self._config = config
        self._frame_s = float(1 / config.fps)
        style = STYLES[config.style]
        eyes, head, accents = np.random.default_rng(config.seed).spawn(3)
        self._style = style
        self._eyes = Eyes(eyes, self._frame_s, style)
        self._sway = Sway(head, self._frame_s, style)
        self._accent_rng = accents
        self._lips = Lips(config)
        self._loudness = Loudness(config)
        self._heard: list[Heard] = []
        self._accents: list[float] = []
        self._accent_now = 0.0
        self._mood = np.zeros_like(MOODS["neutral"])
        self._in: Heard | None = None
        self._generation = 0
        self._next = config.frame_from(config.start)

    @property
    def position(self) -> int:
        """Where the next frame starts."""
        return self._config.frame_start(self._next)

    def add(self, speech: Speech | SpeechAudio) -> None:
        """Learn of speech, in place of what was known of its time.

        Dropped is speech of a generation that was interrupted, or that gave way to a newer one which is heard at that
        time, and audio where phonemes are known, which say more.
        """
        said = heard_of(speech)
        beside = [heard for heard in self._heard if heard.meets(said)]
        newest = max([self._generation, *(heard.generation for heard in beside)])
        if said.generation < newest or (isinstance(speech, SpeechAudio) and any(heard.phonemes for heard in beside)):
            return
        if said.phonemes or any(heard.generation < said.generation for heard in beside):
            self._forget(said.start, said.end)
        if isinstance(speech, Speech):
            self._lips.add(speech)
            self._accents = sorted(self._accents + self._accents_in(speech.phonemes))
        else:
            self._loudness.add(speech)
        self._hear(said)

    def cut(self, interrupt: Interrupt) -> None:
        """Forget older speech from a sample on."""
        self._generation = max(self._generation, interrupt.generation)
        older = [heard for heard in self._heard if heard.generation < interrupt.generation and heard.end > interrupt.at]
        for heard in older:
            self._forget(max(heard.start, interrupt.at), heard.end)

    def _forget(self, start: int, end: int) -> None:
        """Unlearn what lies in [start, end)."""
        self._lips.forget(start, end)
        self._loudness.forget(start, end)
        first, last = start / self._config.sample_rate_hz, end / self._config.sample_rate_hz
        self._accents = [accent for accent in self._accents if not first <= accent < last]
        self._heard = [part for heard in self._heard for part in heard.without(start, end)]

    def _hear(self, said: Heard) -> None:
        """Note a stretch, or what no clause without phonemes has announced of it."""
        parts = [said]
        for heard in self._heard:
            parts = [left for part in parts for left in part.without(heard.start, heard.end)]
        for part in parts:
            before = next((heard for heard in self._heard if heard.goes_on_as(part)), None)
            if before:
                self._heard.remove(before)
            self._heard.append(replace(part, start=before.start) if before else part)
        self._heard.sort(key=lambda heard: heard.start)

    def frames(self, until: int) -> Iterator[Frame]:
        """The frames that start before a sample and were not made yet."""
        while (start := self.position) < until:
            began = time.perf_counter()
            heard = self._heard_at(start)
            face, head = self._face(self._next, start / self._config.sample_rate_hz, heard)
            turn_id, generation = (heard.turn_id, heard.generation) if heard else ("", self._generation)
            self._next += 1
            yield Frame(turn_id, generation, start, face, head, 1000 * (time.perf_counter() - began))

    def _face(self, frame: int, at: float, heard: Heard | None) -> tuple[Weights, Head]:
        lips = np.maximum(self._lips.shape(frame), self._loudness.shape(frame))
        self._feel(at)
        accent = self._follow(at)
        face = with_mood(lips, self._mood)
        brows = np.float32(0.16 * accent * self._style.accents)
        for name, share in (("browInnerUp", 0.7), ("browOuterUpLeft", 1.0), ("browOuterUpRight", 1.0)):
            face[INDEX[name]] += share * brows
        turned = heard_from(heard) != heard_from(self._in)
        self._in = heard
        self._eyes.move(face, turned)
        head = self._sway.pose(at, heard is not None, accent)
        return np.clip(face, 0, 1), head

    def _heard_at(self, sample: int) -> Heard | None:
        hold = MOOD_HOLD_S * self._config.sample_rate_hz
        if self._heard and self._heard[0].end + hold <= sample:
            self._heard = [heard for heard in self._heard if heard.end + hold > sample]
        return next((heard for heard in self._heard if heard.start <= sample < heard.end), None)

    def _feel(self, at: float) -> None:
        """Move the mood a step towards that of the clause heard now, soon, or just before."""
        wanted, rate_hz = Expression(), self._config.sample_rate_hz
        for heard in self._heard:
            if heard.start / rate_hz - MOOD_AHEAD_S <= at < heard.end / rate_hz + MOOD_HOLD_S:
                wanted = heard.expression
        target = MOODS[wanted.mood] * np.float32(wanted.intensity * self._style.mood)
        span_s = MOOD_RISE_S if wanted.intensity else MOOD_FALL_S
        self._mood = self._mood + (target - self._mood) * np.float32(1 - np.exp(-2 * self._frame_s / span_s))

    def _accents_in(self, phonemes: tuple[PhonemeSpan, ...]) -> list[float]:
        """The times of some of the stressed sounds: those that the speaker underlines with head and brows."""
        stressed = [(span.start + span.end) / 2 for span in phonemes if span.stress == 2]
        return [middle / self._config.sample_rate_hz for middle in stressed if self._accent_rng.random() < ACCENT_SHARE]

    def _follow(self, at: float) -> float:
        """How much an accent shows, 0 to 1."""
        gone = sum(1 for _ in takewhile(lambda accent: accent < at - 4 * ACCENT_S, self._accents))
        del self._accents[:gone]
        ahead = at + FOLLOW_S
        near = takewhile(lambda accent: accent < ahead + 4 * ACCENT_S, self._accents)
        wanted = max((math.exp(-(((ahead - accent) / ACCENT_S) ** 2) / 2) for accent in near), default=0.0)
        self._accent_now += (wanted - self._accent_now) * (1 - math.exp(-self._frame_s / FOLLOW_S))
        return self._accent_now


def heard_of(speech: Speech | SpeechAudio) -> Heard:
    end = speech.end if isinstance(speech, Speech) else speech.start + len(speech.samples)
    phonemes = isinstance(speech, Speech) and bool(speech.phonemes)
    return Heard(speech.turn_id, speech.generation, speech.start, end, speech.expression, phonemes)


def heard_from(heard: Heard | None) -> int | None:
    """Where what is heard began: differs from clause to clause."""
    return heard.start if heard else None


def with_mood(lips: Weights, mood: Weights) -> Weights:
    """Lips and mood in one face. Round and closed lips leave little to the corners, and no mood parts lips that touch."""
    roundness = float(min(1.0, lips[ROUNDERS].sum()))
    parted = min(1.0, 8 * opening(lips))
    yielding = np.where(CORNERS, 1 - 0.65 * roundness, np.where(OPENERS, parted, 1.0)).astype(np.float32)
    added = np.where(MOUTH, mood * yielding, mood)
    return (lips + added).astype(np.float32)
