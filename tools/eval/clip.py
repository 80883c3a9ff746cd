"""A clip as its viewer gets it: decoded pictures with their times, and decoded sound."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import InvalidInput
from tools.eval.landmarks import Picture

SOUND_RATE_HZ = 16_000


def pictures(path: Path) -> Iterator[tuple[Fraction, Picture]]:
    """Every picture with its time in seconds. Raises InvalidInput for what is no video."""
    try:
        with av.open(str(path), "r") as file:
            if not file.streams.video:
                raise InvalidInput("clip", f"{path} holds no video")
            for frame in file.decode(video=0):
                if frame.pts is not None and frame.time_base is not None:
                    yield frame.pts * frame.time_base, frame.to_ndarray(format="bgr24").astype(np.uint8, copy=False)
    except (av.FFmpegError, OSError) as error:
        raise InvalidInput("clip", f"{path} cannot be decoded: {error}", "a video file") from error


def sound(path: Path) -> tuple[float, NDArray[np.float32]]:
    """When the sound starts, in seconds, and its samples: mono, 16 kHz, -1 to 1. Empty if the file is silent."""
    parts: list[NDArray[np.float32]] = []
    start = 0.0
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SOUND_RATE_HZ)
    with av.open(str(path), "r") as file:
        for frame in file.decode(audio=0) if file.streams.audio else ():
            if not parts and frame.pts is not None and frame.time_base is not None:
                start = float(frame.pts * frame.time_base)
            parts += [out.to_ndarray()[0] for out in resampler.resample(frame)]
    parts += [out.to_ndarray()[0] for out in resampler.resample(None)] if parts else []
    return start, np.concatenate(parts) if parts else np.zeros(0, np.float32)
