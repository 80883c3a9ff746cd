"""Whether a render model is sound: what it draws, and whether its pictures can be decoded and show a face that moves."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.render.engine import FaceFrame, Input, RenderConfig, RenderEngine, VideoFrame, Weights
from services.runtime.errors import LoadFailed
from services.runtime.interface import Interface

LEAST_RATE_HZ, MOST_RATE_HZ = 8_000, 192_000
OPEN_MOUTH = {"jawOpen": 0.7, "mouthLowerDownLeft": 0.4, "mouthLowerDownRight": 0.4}
LEAST_CONTRAST = 4.0
LEAST_MOTION = 0.02
Lumas = Sequence[NDArray[np.float32]]
"""Brightness of pictures, 0 to 255, each of shape [size, size]."""


def interface(engine: RenderEngine) -> Interface:
    """Rates are [least, most]: a clock of every rate between them is taken. The first size and portrait are the defaults."""
    return Interface(
        sample_rates_hz=(LEAST_RATE_HZ, MOST_RATE_HZ),
        blendshape_names=tuple(engine.blendshape_names),
        sizes=tuple(engine.sizes),
        portraits=tuple(engine.portraits),
    )


async def measure(engine: RenderEngine) -> Mapping[str, str | float]:
    """Draw the default portrait at rest and with its mouth open, and decode both pictures.

    size      of the pictures, in pixels
    contrast  standard deviation of the brightness of the face at rest, of 255
    motion    mean absolute difference of brightness between the two pictures, of 255

    Raises LoadFailed when there are not two pictures, the first is no keyframe, they cannot be decoded or have another size,
    or contrast or motion is below LEAST_CONTRAST or LEAST_MOTION.
    """
    size = engine.sizes[0]
    pictures = await drawn(engine, size)
    if len(pictures) != 2 or not pictures[0].keyframe:
        raise LoadFailed(
            f"golden input: two faces became {len(pictures)} pictures, 2 beginning with a keyframe are sound"
        )
    rest, opened = await asyncio.to_thread(decoded, [picture.data for picture in pictures])
    if rest.shape != (size, size):
        raise LoadFailed(f"golden input: size is {rest.shape[1]} x {rest.shape[0]}, {size} x {size} was asked for")
    return {
        "size": size,
        "contrast": at_least("contrast", rest.std(), LEAST_CONTRAST),
        "motion": at_least("motion", np.abs(opened - rest).mean(), LEAST_MOTION),
    }


async def drawn(engine: RenderEngine, size: int) -> Sequence[VideoFrame]:
    names = engine.blendshape_names

    async def faces() -> AsyncGenerator[Input, None]:
        yield FaceFrame("", 0, 0, np.zeros(len(names), np.float32))
        yield FaceFrame("", 0, 1, open_mouth(names))

    config = RenderConfig(engine.portraits[0], size, names)
    async with aclosing(engine.render(config, faces())) as pictures:
        return [picture async for picture in pictures]


def open_mouth(names: Sequence[str]) -> Weights:
    """An open mouth in the engine's own names; a face of other names than ARKit's moves all it has."""
    known = set(OPEN_MOUTH) & set(names)
    return np.array([OPEN_MOUTH.get(name, 0.0) if known else 0.5 for name in names], np.float32)


def decoded(units: Sequence[bytes]) -> Lumas:
    """The pictures of H.264 access units. Raises LoadFailed when they are not one picture each."""
    import av  # needed in the engine process only

    codec: Any = av.CodecContext.create("h264", "r")
    codec.thread_count = 1
    try:
        frames = [frame for unit in units for frame in codec.decode(av.Packet(unit))] + codec.decode(None)
    except av.error.FFmpegError as error:
        raise LoadFailed(f"golden input: the pictures are no H.264 that can be decoded: {error}") from error
    if len(frames) != len(units):
        raise LoadFailed(
            f"golden input: {len(units)} access units were decoded to {len(frames)} pictures, one each is sound"
        )
    return [frame.to_ndarray(format="gray").astype(np.float32) for frame in frames]


def at_least(name: str, value: float, least: float) -> float:
    """`value`, rounded. Raises LoadFailed when it is less than `least` or no number."""
    if not value >= least:
        raise LoadFailed(f"golden input: {name} is {value:.3f}, at least {least:g} is sound")
    return round(float(value), 3)
