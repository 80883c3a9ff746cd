"""What a render engine takes and gives: faces in, encoded pictures out. Nothing of gRPC, nothing of a particular model."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]
"""One weight from 0 to 1 a blendshape, in the order of RenderConfig.blendshape_names."""


@dataclass(frozen=True)
class Head:
    """Angles in degrees: yaw turns to the subject's left, pitch looks up, roll tilts to the subject's left.

    Shifts are fractions of the picture's width, x to the right of the picture, y down. Scale 1 is as in the portrait.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class RenderConfig:
    """What one stream shall look like. Every field is one that the engine has offered."""

    portrait: str
    size: int
    """Width and height of the square picture, in pixels."""
    blendshape_names: Sequence[str]
    fps: Fraction = Fraction(25)
    crf: int = 0
    """H.264 constant rate factor, 1 (best) to 51; 0 is the engine's default."""


@dataclass(frozen=True)
class FaceFrame:
    """What the face does at one moment."""

    turn_id: str
    generation: int
    start_sample: int
    weights: Weights
    head: Head = Head()


@dataclass(frozen=True)
class KeyframeRequest:
    """The next picture is a keyframe."""


Input = FaceFrame | KeyframeRequest


@dataclass(frozen=True)
class VideoFrame:
    """One H.264 access unit in Annex B format; keyframes carry their parameter sets."""

    turn_id: str
    generation: int
    start_sample: int
    data: bytes
    keyframe: bool
    render_ms: float
    """Time that drawing and encoding took."""


class RenderEngine(Protocol):
    """An engine of this service; see `services.runtime.engine.Engine` for how it is made."""

    @property
    def portraits(self) -> Sequence[str]:
        """Names that a config may ask for, the default first. Known once the engine is loaded."""

    @property
    def sizes(self) -> Sequence[int]:
        """Square sizes that a config may ask for, in pixels, the default first."""

    @property
    def blendshape_names(self) -> Sequence[str]:
        """Every name that a config may use. Known once the engine is loaded."""

    async def load(self) -> None: ...

    async def unload(self) -> None: ...

    async def prepare(self, config: RenderConfig) -> None:
        """Make what a stream with this config needs, so that its first picture comes as fast as the others. Raises NotFound
        for an unknown portrait and LoadFailed for a broken one."""

    def render(self, config: RenderConfig, inputs: AsyncIterator[Input]) -> AsyncGenerator[VideoFrame, None]:
        """One picture for each face, in their order; none is drawn before it is asked for."""
