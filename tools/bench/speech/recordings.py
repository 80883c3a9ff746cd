"""The recordings that are used, and where a pause could be put into them. The table is `recordings.json`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np

from tools.bench.speech.levels import RATE_HZ, Samples

TABLE = Path(__file__).with_name("recordings.json")
WIDE = ("prompts", "reader", "cmu-1", "cmu-2", "harvard-3")
"""Speakers recorded at 16 kHz, as a browser's microphone hears. The others' recordings have the band of a telephone, in
which the detector misses parts of the voice."""
Part = Literal["tuning", "report"]
Place = Literal["inside", "comma", "sentence"]
"""Inside a clause, behind a comma, behind a sentence."""


@dataclass(frozen=True)
class Gap:
    """Between two words: a place for a pause, or one where the speaker pauses."""

    at: int
    """Sample of the recording's clip, the quietest between the words."""
    place: Place
    after: str
    """The word before."""
    natural: bool
    """The speaker pauses here (150 ms or more)."""


@dataclass(frozen=True)
class Recording:
    """A clip of a package's file in which somebody says `text` and has finished then."""

    name: str
    package: str
    path: str
    start: int
    end: int
    """Samples of the file at 16 kHz; -1 is its end."""
    speaker: str
    part: Part
    text: str
    gaps: tuple[Gap, ...]

    def samples(self, folder: Path) -> Samples:
        """At 16 kHz."""
        audio = decoded(folder / self.package / self.path)
        return audio[self.start : None if self.end < 0 else self.end]


def recordings() -> list[Recording]:
    """All of them, in the table's order."""
    return [recording(entry) for entry in json.loads(TABLE.read_text())]


def recording(entry: dict[str, Any]) -> Recording:
    return Recording(**{**entry, "gaps": tuple(Gap(*gap) for gap in entry["gaps"])})


def decoded(path: Path) -> Samples:
    """An audio file as mono samples at 16 kHz. A .raw file holds 16-bit samples, at 8 kHz those of codec2, else 16 kHz."""
    return np.concatenate(list(blocks(path)))


def blocks(path: Path) -> Iterator[Samples]:
    raw = path.suffix == ".raw"
    resampler = av.AudioResampler("flt", "mono", RATE_HZ)
    rate_hz = RATE_HZ // 2 if "codec2" in path.parts else RATE_HZ
    options = {"sample_rate": str(rate_hz), "ch_layout": "mono"} if raw else {}
    with av.open(str(path), format="s16le" if raw else None, options=options) as file:
        for frame in file.decode(audio=0):
            for block in resampler.resample(frame):
                yield block.to_ndarray().ravel().astype(np.float32)
        for block in resampler.resample(None):
            yield block.to_ndarray().ravel().astype(np.float32)
