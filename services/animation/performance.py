"""One face over time: everything that is known of its speech, and its frames one by one."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Heard:
    """A stretch of the clock in which somebody is heard."""

    turn_id: str
    generation: int
    start: int
    end: int
    expression: Expression


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
        self._heard: deque[Heard] = deque()
        self._accents: deque[float] = deque()
        self._mood = np.zeros_like(MOODS["neutral"])
        self._in: Heard | None = None
        self._generation = 0
        self._next = 0

    @property
    def position(self) -> int:
        """Where the next frame starts."""
        return self._config.frame_start(self._next)

    def add(self, speech: Speech | SpeechAudio) -> None:
        """Learn of speech; that of a generation which was interrupted is dropped."""
        if speech.generation < self._generation:
            return
        if isinstance(speech, Speech):
            self._lips.add(speech)
            self._accents.extend(self._accents_in(speech.phonemes))
            end = speech.end
        else:
            self._loudness.add(speech)
            end = speech.start + len(speech.samples)
        self._heard.append(Heard(speech.turn_id, speech.generation, speech.start, end, speech.expression))

    def cut(self, interrupt: Interrupt) -> None:
        """Forget older speech from a sample on."""
        self._generation = max(self._generation, interrupt.generation)
        self._lips.cut(interrupt)
        self._loudness.cut(interrupt.at)
        at = interrupt.at / self._config.sample_rate_hz
        self._accents = deque(accent for accent in self._accents if accent < at)
        self._heard = deque(
            Heard(h.turn_id, h.generation, h.start, min(h.end, interrupt.at), h.expression)
            for h in self._heard
            if h.start < interrupt.at
        )

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
        accent = self._accent(at)
        face = with_mood(lips, self._mood)
        brows = np.float32(0.16 * accent * self._style.accents)
        for name, share in (("browInnerUp", 0.7), ("browOuterUpLeft", 1.0), ("browOuterUpRight", 1.0)):
            face[INDEX[name]] += share * brows
        began = heard is not None and heard is not self._in
        self._in = heard
        self._eyes.move(face, began)
        head = self._sway.pose(at, heard is not None, accent)
        return np.clip(face, 0, 1), head

    def _heard_at(self, sample: int) -> Heard | None:
        hold = MOOD_HOLD_S * self._config.sample_rate_hz
        while self._heard and self._heard[0].end + hold <= sample:
            self._heard.popleft()
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

    def _accent(self, at: float) -> float:
        while self._accents and self._accents[0] < at - 4 * ACCENT_S:
            self._accents.popleft()
        near = [
            np.exp(-(((at - accent) / ACCENT_S) ** 2) / 2) for accent in self._accents if accent < at + 4 * ACCENT_S
        ]
        return float(max(near, default=0.0))


def with_mood(lips: Weights, mood: Weights) -> Weights:
    """Lips and mood in one face. Round and closed lips leave little to the corners, and no mood parts lips that touch."""
    roundness = float(min(1.0, lips[ROUNDERS].sum()))
    parted = min(1.0, 8 * opening(lips))
    yielding = np.where(CORNERS, 1 - 0.65 * roundness, np.where(OPENERS, parted, 1.0)).astype(np.float32)
    added = np.where(MOUTH, mood * yielding, mood)
    return (lips + added).astype(np.float32)
