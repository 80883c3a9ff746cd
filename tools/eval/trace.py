"""What a reply was meant to look like, written beside its MP4.

One JSON object. All positions are samples of the session's clock:

    sample_rate_hz     int
    fps                [numerator, denominator]
    start_sample       int, optional: where the file begins; the first frame's start if left out
    blendshape_names   [str, …], the order of the weights
    phonemes           [{"phoneme": IPA or "" for silence, "start_sample": int, "end_sample": int}, …], in order
    frames             [{"start_sample": int, "weights": [float, …]}, …], in order
    portrait, size     str, int, optional: what was drawn, and how large
    audio_energy       optional: {"start_sample": int, "hop_samples": int, "rms": [float, …]} of the audio as it was spoken;
                       finds the audio in the file more exactly than the phonemes do
"""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import InvalidInput

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Phoneme:
    """A sound, in seconds from the beginning of the file."""

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class Curve:
    """Values at times in seconds from the beginning of the file."""

    times: Floats
    values: Floats


@dataclass(frozen=True)
class Trace:
    """A trace with its samples turned into seconds of the file."""

    fps: Fraction
    portrait: str
    size: int
    blendshape_names: tuple[str, ...]
    phonemes: tuple[Phoneme, ...]
    times: Floats
    """When each frame starts, shape [frames]."""
    weights: Floats
    """Shape [frames, blendshapes]."""
    energy: Curve | None


def read(path: Path) -> Trace:
    """Raises InvalidInput, naming the field, for a file that is no trace."""
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput("trace", f"{path} cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise InvalidInput("trace", "not an object", "an object with sample_rate_hz, fps, …")
    return parse(raw)


def parse(raw: dict[str, Any]) -> Trace:
    rate = number(raw, "sample_rate_hz")
    names = tuple(str(name) for name in listed(raw, "blendshape_names"))
    starts, weights = frames(listed(raw, "frames"), len(names))
    begin = number(raw, "start_sample") if "start_sample" in raw else float(starts[0])
    return Trace(
        fps=frame_rate(listed(raw, "fps")),
        portrait=str(raw.get("portrait", "")),
        size=int(number(raw, "size")) if "size" in raw else 0,
        blendshape_names=names,
        phonemes=tuple(phonemes(listed(raw, "phonemes"), begin, rate)),
        times=(starts - begin) / rate,
        weights=weights,
        energy=energy(raw["audio_energy"], begin, rate) if raw.get("audio_energy") else None,
    )


def frame_rate(pair: list[Any]) -> Fraction:
    if len(pair) != 2 or not all(isinstance(part, int) and part > 0 for part in pair):
        raise InvalidInput("fps", f"{pair!r}", "[numerator, denominator], both positive")
    return Fraction(pair[0], pair[1])


def frames(raw: list[Any], width: int) -> tuple[Floats, Floats]:
    """Start samples and weights."""
    if not raw:
        raise InvalidInput("frames", "there is none")
    starts = np.array([number(frame, "start_sample", f"frames[{index}].") for index, frame in enumerate(raw)])
    if (np.diff(starts) <= 0).any():
        raise InvalidInput("frames", "they are out of order", "each to start after the one before it")
    for index, frame in enumerate(raw):
        if len(listed(frame, "weights", f"frames[{index}].")) != width:
            raise InvalidInput(f"frames[{index}].weights", f"{len(frame['weights'])} weights", f"{width}, one a name")
    try:
        return starts, np.array([frame["weights"] for frame in raw], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput("frames", f"a weight is no number ({error})") from error


def phonemes(raw: list[Any], begin: float, rate: float) -> list[Phoneme]:
    found: list[Phoneme] = []
    for index, span in enumerate(raw):
        field = f"phonemes[{index}]."
        start, end = number(span, "start_sample", field), number(span, "end_sample", field)
        if not isinstance(name := span.get("phoneme"), str):
            raise InvalidInput(f"{field}phoneme", f"{name!r}", "a string, empty for silence")
        if end < start or (found and start < raw[index - 1]["end_sample"]):
            raise InvalidInput(f"{field}start_sample", "the spans overlap or run backwards")
        found.append(Phoneme(name, (start - begin) / rate, (end - begin) / rate))
    return found


def energy(raw: Any, begin: float, rate: float) -> Curve:
    hop, start = number(raw, "hop_samples", "audio_energy."), number(raw, "start_sample", "audio_energy.")
    values = np.array(listed(raw, "rms", "audio_energy."), dtype=np.float64)
    if hop <= 0 or not len(values):
        raise InvalidInput("audio_energy", "it is empty", "hop_samples above 0 and at least one value")
    # A value describes the hop that begins there: it belongs to the hop's middle.
    return Curve((start - begin + (np.arange(len(values)) + 0.5) * hop) / rate, values)


def number(raw: Any, name: str, where: str = "") -> float:
    value = raw.get(name) if isinstance(raw, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"{where}{name}", f"{value!r}", "a number")
    if name in ("sample_rate_hz", "size") and value <= 0:
        raise InvalidInput(f"{where}{name}", f"{value!r}", "more than 0")
    return float(value)


def listed(raw: Any, name: str, where: str = "") -> list[Any]:
    value = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(value, list):
        raise InvalidInput(f"{where}{name}", "missing" if value is None else f"{value!r}", "a list")
    return value
