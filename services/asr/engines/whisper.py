"""Whisper by CTranslate2, on streams: any folder in faster-whisper's layout."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from services.asr.activity import Thresholds
from services.asr.decodes import DecodeQueue
from services.asr.draft import Draft
from services.asr.engine import Input, Output, RecognitionConfig
from services.asr.interims import Pace
from services.asr.recognition import Recognition
from services.asr.resampling import RATE_HZ
from services.asr.silero import SpeechProbabilities, open_session
from services.asr.turn_model import Predict, open_turn_model
from services.asr.turns import TurnListener
from services.asr.utterance import Utterance
from services.runtime import priority, sources
from services.runtime.errors import InvalidInput, LoadFailed, NotFound
from services.runtime.options import of_engine

if TYPE_CHECKING:
    from services.asr.engines.whisper_decoder import WhisperDecoder

log = logging.getLogger(__name__)
NEEDED_FILES = ("model.bin", "config.json", "tokenizer.json")
MAX_CHUNK_MS = 1_000
END_AFTER_PAUSE_MS = 1_200


class Options(BaseModel):
    """What a catalog entry may say. Durations are milliseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hub_id: str = Field(default="", description="model hub id to fetch when there is no source, OWNER/NAME")
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    compute_type: str = "int8"
    workers: int = Field(default=2, ge=1, le=64, description="decodes at a time; one is kept free for finals")
    threads: int = Field(default=1, ge=1, le=64, description="threads a decode")
    beam_size: int = Field(default=1, ge=1, le=10)
    least_frames: int = Field(default=1_200, ge=600, le=3_000, description="least encoded audio, in frames of 10 ms")
    max_utterance_ms: int = Field(default=60_000, ge=1_000, le=600_000)
    interim_every_ms: int = Field(default=400, ge=100, le=10_000)
    interim_rest: float = Field(default=2.0, ge=0, le=100, description="pause after an interim, times its decode time")
    activity_end_ms: int = Field(default=300, ge=32, le=5_000, description="silence that ends speech activity")
    turn_model: str = Field(default="", description="source of a Smart Turn v3 ONNX file; none if it is not there")


class WhisperEngine:
    """Many streams at a time; the model is shared, everything else belongs to its stream."""

    def __init__(self, source: Path | None, options: Mapping[str, Any]) -> None:
        self._options = of_engine(Options, options)
        if (source is None) == (not self._options.hub_id):
            raise InvalidInput("source", "a folder and hub_id" if source else "nothing to load", "a folder or hub_id")
        self._model = str(source or self._options.hub_id)
        self._folder = source
        self._queue: DecodeQueue | None = None
        self._decoder: WhisperDecoder | None = None
        self._silero: Any = None
        self._predict_turn: Predict | None = None
        self._turn_threads: ThreadPoolExecutor | None = None
        self._languages: tuple[str, ...] = ()

    @property
    def languages(self) -> Sequence[str]:
        return self._languages

    @property
    def max_utterance_ms(self) -> int:
        return self._options.max_utterance_ms

    @property
    def max_chunk_ms(self) -> int:
        return MAX_CHUNK_MS

    @property
    def predicts_turns(self) -> bool:
        return self._predict_turn is not None

    async def load(self) -> None:
        """Raises LoadFailed when the folder is not a model, or the hub cannot be reached."""
        await asyncio.to_thread(self._load)
        self._queue = DecodeQueue(self._options.workers)

    async def unload(self) -> None:
        if self._queue:
            await self._queue.close()
        if self._turn_threads:
            await asyncio.to_thread(self._turn_threads.shutdown, cancel_futures=True)
        self._queue = self._decoder = self._silero = self._predict_turn = self._turn_threads = None

    async def recognize(self, config: RecognitionConfig, inputs: AsyncIterator[Input]) -> AsyncGenerator[Output, None]:
        """See RecognitionEngine."""
        if self._decoder is None or self._queue is None:
            raise LoadFailed("the engine is not loaded")
        thresholds = Thresholds(
            min_speech=config.onset_ms * RATE_HZ // 1000 or Thresholds.min_speech,
            pause=config.pause_ms * RATE_HZ // 1000,
            end_silence=self._end_silence(config) * RATE_HZ // 1000,
        )
        pace = Pace(self._options.interim_every_ms * RATE_HZ // 1000, self._options.interim_rest)
        draft = Draft(self._queue, self._decoder.decode, config.language, pace if config.interim_results else None)
        utterance = Utterance(thresholds, self._options.max_utterance_ms, config.cut_long_utterances)
        listener = None
        if config.predict_turns and self._predict_turn and self._turn_threads:
            listener = TurnListener(self._predict_turn, self._turn_threads)
        recognition = Recognition(config, SpeechProbabilities(self._silero), utterance, draft, listener)
        async with aclosing(recognition.outputs(inputs)) as outputs:
            async for output in outputs:
                yield output

    def _end_silence(self, config: RecognitionConfig) -> int:
        """The end of speech is told no later than the end of the utterance that it causes.

        Who is told of pauses waits for no end: it comes late, because going on after it takes longer to tell.
        """
        longest = max(self._options.activity_end_ms, END_AFTER_PAUSE_MS if config.pause_ms else 0)
        return min(longest, config.end_silence_ms or longest)

    def _load(self) -> None:
        from faster_whisper.transcribe import WhisperModel
        from faster_whisper.utils import get_assets_path

        from services.asr.engines.whisper_decoder import Limits, WhisperDecoder

        if self._folder and (missing := [name for name in NEEDED_FILES if not (self._folder / name).is_file()]):
            raise LoadFailed(f"{self._folder.name} is no CTranslate2 Whisper folder: {', '.join(missing)} missing")
        options = self._options
        try:
            model = WhisperModel(
                self._model,
                device=options.device,
                compute_type=options.compute_type,
                cpu_threads=options.threads,
                num_workers=options.workers,
            )
        except Exception as error:
            raise LoadFailed(f"Whisper model {self._model}: {error}") from error
        self._languages = tuple(model.supported_languages)
        self._silero = open_session(next(Path(get_assets_path()).glob("silero_vad*.onnx")))
        self._decoder = WhisperDecoder(model, Limits(options.least_frames, options.beam_size))
        self._decoder.decode(np.zeros(RATE_HZ, np.float32), "en", 0.0)
        if path := turn_model(options.turn_model):
            self._predict_turn = open_turn_model(path)
            self._predict_turn(np.zeros(RATE_HZ, np.float32))
            self._turn_threads = ThreadPoolExecutor(1, "asr-turn", initializer=priority.step_back)


def turn_model(source: str) -> Path | None:
    """The file; None if it is not installed. Raises InvalidInput for a source of no known form."""
    try:
        return sources.resolve(source)
    except (NotFound, LoadFailed) as error:
        log.warning("no turn predictions: %s", error)
        return None
