"""What a living face does by itself: blinks, glances, breath, and a head that is never quite still."""

import math
from dataclasses import dataclass

import numpy as np

from services.animation.blendshapes import INDEX
from services.animation.engine import Head
from services.animation.shapes import Weights

BLINK_GAP_S = (2.0, 6.0)
CLOSE_S, OPEN_S = 0.08, 0.12
BLINK_AT_CLAUSE = 0.35
GLANCE_GAP_S = (0.3, 2.0)
AT_CAMERA = 0.72
SACCADE_S = 0.038
BREATH_S = 4.3
SWAY_HZ = ((0.11, 0.23, 0.41), (0.13, 0.29, 0.47), (0.09, 0.19, 0.37))


@dataclass(frozen=True)
class Style:
    """Amplitudes: of the head and of brows while speaking and idling, of moods, of glances."""

    head: float = 1.0
    accents: float = 1.0
    mood: float = 1.0
    glances: float = 1.0


STYLES = {
    "natural": Style(),
    "calm": Style(head=0.55, accents=0.5, mood=0.75, glances=0.6),
    "lively": Style(head=1.5, accents=1.5, mood=1.15, glances=1.3),
}


class Eyes:
    """Blinks and glances, by a random generator of their own, frame after frame."""

    def __init__(self, rng: np.random.Generator, frame_s: float, style: Style) -> None:
        self._rng = rng
        self._frame_s = frame_s
        self._style = style
        self._now = 0.0
        self._next_blink = float(rng.uniform(0.8, 3.0))
        self._blink_at = -10.0
        self._closing_s = math.ceil(CLOSE_S / frame_s - 1e-6) * frame_s
        self._next_glance = 0.0
        self._target = np.zeros(2)
        self._gaze = np.zeros(2)

    def move(self, face: Weights, turned: bool) -> None:
        """Add this frame's blink and gaze to `face`; `turned` says that a clause begins or ends here."""
        self._now += self._frame_s
        rested = self._now - self._blink_at > BLINK_GAP_S[0]
        if self._now >= self._next_blink or (turned and rested and self._rng.random() < BLINK_AT_CLAUSE):
            self._blink_at = self._now + self._closing_s
            self._next_blink = self._now + float(self._rng.uniform(*BLINK_GAP_S))
        lids = blink(self._now - self._blink_at, self._frame_s)
        for side in ("Left", "Right"):
            face[INDEX[f"eyeBlink{side}"]] = max(face[INDEX[f"eyeBlink{side}"]], lids)
            # Lids held wide by a mood would not meet.
            face[INDEX[f"eyeWide{side}"]] *= 1 - lids
        self._glance(face)

    def _glance(self, face: Weights) -> None:
        if self._now >= self._next_glance:
            self._next_glance = self._now + float(self._rng.uniform(*GLANCE_GAP_S))
            away = self._rng.random() > AT_CAMERA
            reach = np.array((0.22, 0.12) if away else (0.04, 0.03)) * self._style.glances
            self._target = self._rng.uniform(-1, 1, 2) * reach
        self._gaze += (self._target - self._gaze) * (1 - math.exp(-self._frame_s / SACCADE_S))
        right, up = self._gaze
        # Positive is to the subject's left: the left eye turns out, the right eye in.
        look(face, "eyeLookOutLeft", "eyeLookInLeft", right)
        look(face, "eyeLookInRight", "eyeLookOutRight", right)
        for side in ("Left", "Right"):
            look(face, f"eyeLookUp{side}", f"eyeLookDown{side}", up)


def look(face: Weights, positive: str, negative: str, amount: float) -> None:
    """Turn an eye by the one unit or by its opposite."""
    face[INDEX[positive if amount > 0 else negative]] += abs(amount)


def blink(since_shut_s: float, frame_s: float) -> float:
    """How far the lids are closed, `since_shut_s` after (or before, if negative) the frame in which they are shut."""
    if abs(since_shut_s) < frame_s / 2:
        return 1.0
    if since_shut_s < 0:
        return max(0.0, 1 + since_shut_s / CLOSE_S)
    return float(max(0.0, 1 - since_shut_s / OPEN_S) ** 1.5)


class Sway:
    """The head: slow waves of several periods, larger while speaking, with nods on stressed sounds, and breath."""

    def __init__(self, rng: np.random.Generator, frame_s: float, style: Style) -> None:
        self._phases = rng.uniform(0, 2 * np.pi, (3, 3))
        self._breath = float(rng.uniform(0, 2 * np.pi))
        self._frame_s = frame_s
        self._style = style
        self._level = 0.0

    def pose(self, at: float, speaking: bool, nod: float) -> Head:
        """The head at `at` seconds; `nod` (0 to 1) is how much an accent bows it."""
        self._level += (float(speaking) - self._level) * min(1.0, 2.5 * self._frame_s)
        amount = (0.5 + 0.5 * self._level) * self._style.head
        waves = np.sin(2 * np.pi * np.array(SWAY_HZ) * at + self._phases) @ np.array((0.5, 0.32, 0.18))
        breath = float(np.sin(2 * np.pi * at / BREATH_S + self._breath))
        return Head(
            yaw=float(2.6 * amount * waves[0]),
            pitch=float(1.5 * amount * waves[1] - 1.6 * nod * self._style.accents),
            roll=float(1.3 * amount * waves[2]),
            x=float(0.004 * amount * waves[0]),
            y=float(0.0016 * breath + 0.003 * amount * waves[1]),
            scale=1.0 + 0.0015 * breath,
        )
