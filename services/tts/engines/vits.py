"""Piper voices (https://github.com/rhasspy/piper): VITS in ONNX, with its config beside it.

The graph is cut in two before its decoder. The first half (text encoder, duration predictor, flow) runs once a sentence
and says how long each symbol lasts; the decoder then runs piece by piece, so that audio starts long before all of it is
computed. A piece sees as many frames of its neighbours as the decoder's convolutions reach: the pieces are the same, to
float rounding, as one run over everything.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import Field

from services.runtime.errors import InvalidInput, LoadFailed
from services.runtime.options import of_engine
from services.tts import graphs
from services.tts.engine import Samples
from services.tts.english import EnglishEngine, EnglishOptions, Rendering
from services.tts.espeak import spelled
from services.tts.piper import Inference, graph_file, voice_config
from services.tts.pronunciation import Sound
from services.tts.prosody import Prosody
from services.tts.resampling import Resampler, scaled

CONTEXTS = (12, 18, 27, 40, 60)
"""Frames that a decoder may need on each side; a "medium" voice needs 10."""
SAME = 1e-4
"""Largest difference, of a full scale of 1, at which two renderings are the same."""
FIRST_PIECE, LONGEST_PIECE = 20, 80
"""Frames, of 12 ms: short at first so that audio starts soon, then longer, because each piece pays for its context."""
ROUNDED_UP = 0.26
"""Measured with "joe" over length scales from 0.5 to 2, where it fits within 3 %."""
SHORTEST_SCALE = 0.2


class VitsOptions(EnglishOptions):
    noise_scale: float | None = Field(
        default=None, ge=0, le=2, description="variation of the sound; unset: the voice's"
    )
    noise_w: float | None = Field(default=None, ge=0, le=2, description="variation of the rhythm; unset: the voice's")
    length_scale: float | None = Field(default=None, ge=0.25, le=4, description="slowness; unset: the voice's")


class VitsEngine(EnglishEngine):
    """The source is a voice's `.onnx` file, or a folder with just one; its config is the same name with `.json` added."""

    def __init__(self, source: Path | None, options: Mapping[str, Any]) -> None:
        if source is None:
            raise InvalidInput("source", "is missing", "the .onnx file of a Piper voice, its .onnx.json beside it")
        self._options: VitsOptions = of_engine(VitsOptions, options)
        super().__init__(self._options)
        self._source = graph_file(source)

    @property
    def sample_rate_hz(self) -> int:
        return self._config.audio.sample_rate

    def _open(self) -> None:
        self._config = voice_config(self._source.with_name(f"{self._source.name}.json"))
        model = graphs.read(self._source)
        durations, seam = graphs.only(model, "Ceil").output[0], decoder_input(model)
        inputs = [i.name for i in model.graph.input]
        if inputs != ["input", "input_lengths", "scales"]:
            raise LoadFailed(f"{self._source.name}: inputs are {inputs}, not those of a Piper voice with one speaker")
        outputs = [output.name for output in model.graph.output]
        extractor = onnx.utils.Extractor(model)
        threads = self._options.threads
        self._encoder = graphs.session(extractor.extract_model(inputs, [seam, durations]), threads)
        self._decoder = graphs.session(extractor.extract_model([seam], outputs), threads)
        self._seam = seam
        self._hop, self._context = self._reach()

    def _render(self, sounds: Sequence[Sound], prosody: Prosody) -> Rendering:
        ids, counts = self._ids(sounds)
        # What is raised by playing it faster has to be spoken slower first.
        latent, frames = self._encode(ids, self._scales(prosody.pace / prosody.pitch_ratio))
        ends = placed(frames * self._hop, counts)
        spoken_at = round(self.sample_rate_hz * prosody.pitch_ratio)
        pieces = resampled(self._decoded(latent), spoken_at, self.sample_rate_hz, ends[-1])
        return Rendering([scaled(end, spoken_at, self.sample_rate_hz) for end in ends], pieces)

    def _scales(self, pace: float) -> list[float]:
        """The voice's own settings, or what the options say, and the pace."""
        voice = self._config.inference
        own, chosen = (
            voice.model_dump(),
            self._options.model_dump(include=set(Inference.model_fields), exclude_none=True),
        )
        settings = Inference.model_validate({**own, **chosen})
        return [settings.noise_scale, settings.length_scale * length_scale(pace), settings.noise_w]

    def _encode(self, ids: Sequence[int], scales: Sequence[float]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The latent [1, channels, frames] of some symbols and the frames of each."""
        feed = {
            "input": np.asarray([ids], np.int64),
            "input_lengths": np.asarray([len(ids)], np.int64),
            "scales": np.asarray(scales, np.float32),
        }
        latent, frames = self._encoder.run(None, feed)
        return latent, frames.reshape(-1)

    def _ids(self, sounds: Sequence[Sound]) -> tuple[list[int], list[int]]:
        """The ids of a sentence, padded as the voice was trained, and how many symbols each sound has."""
        table = self._config.phoneme_id_map
        ids, counts = [*table["^"]], []
        for letters in spelled(sounds):
            symbols = [symbol for symbol in letters if symbol in table]
            counts.append(len(symbols))
            for symbol in symbols:
                ids += [*table["_"], *table[symbol]]
        return [*ids, *table["_"], *table["$"]], counts

    def _decode(self, latent: NDArray[np.float32]) -> Samples:
        (audio,) = self._decoder.run(None, {self._seam: latent})
        return np.asarray(audio.reshape(-1), np.float32)

    def _decoded(self, latent: NDArray[np.float32]) -> Iterator[Samples]:
        """The audio of a latent [1, channels, frames], piece by piece."""
        total, at, length = latent.shape[2], 0, FIRST_PIECE
        while at < total:
            end = total if total - at - length < FIRST_PIECE else at + length
            first, last = max(0, at - self._context), min(total, end + self._context)
            yield self._decode(latent[:, :, first:last])[(at - first) * self._hop : (end - first) * self._hop]
            at, length = end, min(length * 2, LONGEST_PIECE)

    def _reach(self) -> tuple[int, int]:
        """Samples of a frame, and how many frames the decoder looks to either side. Raises LoadFailed if too many."""
        symbols = list(itertools.islice(itertools.cycle(self._config.phoneme_id_map.values()), 150))
        latent, _ = self._encode([id_ for ids in symbols for id_ in ids], [0.0, 1.0, 0.0])
        middle = latent.shape[2] // 2
        whole = self._decode(latent)
        hop = len(whole) // latent.shape[2]
        for context in CONTEXTS:
            left = self._decode(latent[:, :, : middle + context])[: middle * hop]
            right = self._decode(latent[:, :, middle - context :])[context * hop :]
            if np.abs(np.concatenate([left, right]) - whole).max() < SAME:
                return hop, context
        raise LoadFailed(f"{self._source.name}: its decoder needs more than {CONTEXTS[-1]} frames of context")


def decoder_input(model: onnx.ModelProto) -> str:
    """The tensor that enters the decoder: the input of the convolution before the first upsampling."""
    producers = {output: node for node in model.graph.node for output in node.output}
    upsampling = next((node for node in model.graph.node if node.op_type == "ConvTranspose"), None)
    node = upsampling
    while node is not None and node.op_type != "Conv":
        node = producers.get(node.input[0])
    if node is None:
        raise LoadFailed("the graph has no convolution before a ConvTranspose: not a VITS decoder")
    return str(node.input[0])


def length_scale(pace: float) -> float:
    """The length scale that makes speech `pace` times as fast.

    The graph rounds the frames of every symbol up, and this part of the time does not scale: speech at length scale s lasts
    ROUNDED_UP + (1 - ROUNDED_UP) s of what it does at 1.
    """
    return max((1 / pace - ROUNDED_UP) / (1 - ROUNDED_UP), SHORTEST_SCALE)


def placed(lengths: NDArray[np.float32], counts: Sequence[int]) -> list[int]:
    """Ends in samples, as `layout.lay_out` wants them, from the lengths of `^ _ a _ b … _ $`.

    A padding symbol's time goes half to the symbol before and half to the one after it: measured, this is where
    the spans of vowels and sibilants agree best with the energy of low and high frequencies, with no lag left.
    """
    lengths = lengths.astype(np.float64)
    symbols = lengths[0::2].copy()
    symbols[:-1] += lengths[1::2] / 2
    symbols[1:] += lengths[1::2] / 2
    ends = np.rint(np.cumsum(symbols)).astype(np.int64)
    groups = np.cumsum([1, *counts, 1]) - 1
    return [int(end) for end in ends[groups]]


def resampled(pieces: Iterator[Samples], rate_in_hz: int, rate_out_hz: int, samples_in: int) -> Iterator[Samples]:
    resampler = Resampler(rate_in_hz, rate_out_hz, samples_in)
    for piece in pieces:
        yield resampler.push(piece)
    yield resampler.finish()
