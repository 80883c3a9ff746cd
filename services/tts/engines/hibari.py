"""hibari: 8 MB ONNX voices distilled from Kokoro (https://github.com/MMWilliams/hibari), about 100 times real time."""

import itertools
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hibari import dsp
from numpy.typing import NDArray
from pydantic import Field

from services.runtime.errors import InvalidInput, LoadFailed
from services.runtime.options import of_engine
from services.tts import graphs
from services.tts.engine import Samples
from services.tts.english import EnglishEngine, EnglishOptions, Rendering
from services.tts.pronunciation import Sound
from services.tts.prosody import Prosody

FRAME = 600
"""Samples of a unit of duration: 25 ms."""
LAG_S = 0.05
"""What the model says starts this much later than it is heard, at pace 1. Found by correlating the spans of vowels and
sibilants with the energy of low and high frequencies: highest at 50 ms, twice what it is at 0. Kokoro, its teacher, has
the same habit: its own pipeline takes time off the front as well."""
AUDIBLE_DB = -38
"""Below the loudest, where the last sound has died away."""


class HibariOptions(EnglishOptions):
    voice: str = Field(default="heart", min_length=1)


class HibariEngine(EnglishEngine):
    """The source is a voice's `.onnx` file; letters and their ids come with the package."""

    sample_rate_hz = dsp.SR

    def __init__(self, source: Path | None, options: Mapping[str, Any]) -> None:
        if source is None:
            raise InvalidInput("source", "is missing", "the .onnx file of a hibari voice")
        super().__init__(of_engine(HibariOptions, options))
        self._source = source

    def _open(self) -> None:
        model = graphs.read(self._source)
        if "f0" not in {output.name for output in model.graph.output}:
            raise LoadFailed(f"{self._source.name}: not a hibari voice, it has no output 'f0'")
        lengths = graphs.only(model, "Round").input[0]
        timing = onnx.utils.Extractor(model).extract_model(["ids", "speed"], [lengths])
        self._frames = graphs.only(model, "Clip").output[0]
        graphs.feed(model, self._frames)
        # The decoder reads the pitch curve too, so it is moved inside the graph and not on the way to the synthesiser.
        graphs.scale(model, "f0", "pitch")
        self._timing = graphs.session(timing, self._options.threads)
        self._speech = graphs.session(model, self._options.threads)
        self._ids: dict[str, int] = json.loads((files("hibari") / "assets" / "vocab.json").read_text("utf-8"))

    def _render(self, sounds: Sequence[Sound], prosody: Prosody) -> Rendering:
        letters = [[self._ids[letter] for letter in sound.letters if letter in self._ids] for sound in sounds]
        text = {"ids": np.asarray([[0, *itertools.chain(*letters), 0]], np.int64), "speed": np.ones(1, np.float32)}
        (lengths,) = self._timing.run(None, text)
        frames = whole(lengths.reshape(-1) / prosody.pace)
        pitch = np.asarray([prosody.pitch_ratio], np.float32)
        outputs = self._speech.run(None, {**text, self._frames: frames, "pitch": pitch})
        audio = dsp.synth(*(output[0] for output in outputs), np.random.default_rng())
        ends = np.cumsum(frames.astype(np.int64)) * FRAME
        groups = np.cumsum([1, *map(len, letters), 1]) - 1
        lag = round(LAG_S * dsp.SR / prosody.pace)
        return Rendering(settled(ends[groups].tolist(), sounds, audio, lag), iter([audio]))


def whole(lengths: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lengths as whole frames, at least one each, what rounding takes or adds carried on to the next.

    The model's own speed input rounds each symbol by itself. Most last one or two frames, so that a pace of 1.2 changes
    next to nothing and 1.4 halves half of them.
    """
    frames, carried = np.empty_like(lengths), 0.0
    for index, length in enumerate(lengths.tolist()):
        frames[index] = max(1, round(length + carried))
        carried = float(np.clip(length + carried - frames[index], -2, 2))
    return frames


def settled(ends: Sequence[int], sounds: Sequence[Sound], audio: Samples, lag: int) -> list[int]:
    """`ends` where they are heard: earlier by the lag, the first and the last sound up to where the audio is silent."""
    moved = [max(0, end - lag) for end in ends[:-1]] + [ends[-1]]
    onset, offset = audible(audio)
    moved[0] = min(moved[0], onset)
    last = max(index for index, sound in enumerate(sounds) if sound.phoneme)
    moved[last + 1] = max(offset, moved[last])
    return [int(end) for end in np.maximum.accumulate(moved)]


def audible(audio: Samples) -> tuple[int, int]:
    """The first and the last sample, to 5 ms, within AUDIBLE_DB of the loudest 5 ms."""
    step = dsp.SR // 200
    power = np.square(audio[: len(audio) // step * step]).reshape(-1, step).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (AUDIBLE_DB / 10))
    return int(loud[0]) * step, (int(loud[-1]) + 1) * step
