"""What an animation engine is: what it is told, the frames it gives, and its verb. Positions are samples of one clock."""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.animation.shapes import Weights


@dataclass(frozen=True)
class AnimationConfig:
    """How one face is to be moved."""

    sample_rate_hz: int
    fps: Fraction = Fraction(25)
    seed: int = 0
    style: str = ""
    start: int = 0
    """The first frame that is made is the first of the clock's that starts here or after it."""

    def frame_start(self, frame: int) -> int:
        """The sample at which a frame starts: floor(frame · rate / fps)."""
        return int(frame * self.sample_rate_hz / self.fps)

    def frame_from(self, sample: int) -> int:
        """The first frame that starts at a sample or after it."""
        return math.ceil(sample * self.fps / self.sample_rate_hz)


@dataclass(frozen=True)
class Expression:
    """A mood of `shapes.MOODS`, and how much of it, 0 to 1."""

    mood: str = "neutral"
    intensity: float = 0.0


@dataclass(frozen=True)
class PhonemeSpan:
    """A phoneme (IPA; empty for silence) and where it is heard."""

    phoneme: str
    start: int
    end: int
    stress: int = 0


@dataclass(frozen=True)
class Speech:
    """A clause that will be heard from `start` to `end`."""

    turn_id: str
    generation: int
    start: int
    end: int
    phonemes: tuple[PhonemeSpan, ...]
    expression: Expression = field(default_factory=Expression)


@dataclass(frozen=True)
class SpeechAudio:
    """Audio that will be heard, float32 mono of shape [n], of which no phonemes are known."""

    turn_id: str
    generation: int
    start: int
    samples: NDArray[np.float32]
    expression: Expression = field(default_factory=Expression)


@dataclass(frozen=True)
class Advance:
    """Make every frame that starts before `until`."""

    until: int


@dataclass(frozen=True)
class Interrupt:
    """Forget speech of generations before this one from `at` on."""

    generation: int
    at: int


Input = Speech | SpeechAudio | Advance | Interrupt


@dataclass(frozen=True)
class Head:
    """Rotation in degrees, shift in picture widths, scale; see talkmesh.animation.v1.HeadPose."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Frame:
    """One face. `turn_id` is empty while it idles."""

    turn_id: str
    generation: int
    start: int
    weights: Weights
    head: Head
    engine_ms: float


class AnimationEngine(Protocol):
    """Code that moves a face."""

    @property
    def blendshape_names(self) -> Sequence[str]: ...

    @property
    def phonemes(self) -> Sequence[str]:
        """Phonemes that it knows; others move the mouth as silence would."""

    @property
    def styles(self) -> Sequence[str]: ...

    @property
    def default_style(self) -> str: ...

    async def load(self) -> None: ...

    async def unload(self) -> None: ...

    def animate(self, config: AnimationConfig, inputs: AsyncIterator[Input]) -> AsyncGenerator[Frame, None]:
        """Frames in the order of the clock, each exactly once, as Advance asks for them."""
