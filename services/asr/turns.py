"""Listening for the end of a turn: up to two predictions in each pause, beside the decodes."""

import asyncio
import time
from collections.abc import Iterable
from concurrent.futures import Executor

from services.asr.engine import Samples, TurnPrediction
from services.asr.turn_model import LENGTH, Predict
from services.asr.utterance import Utterance
from services.asr.window import LEAD, AudioBuffer

AFTER = (1_536, 3_072)
"""Silences (16 kHz samples: 96 and 192 ms) after which the turn model is asked, and asked again; it was trained on audio
that ends with some. Who believes only what it says twice is wrong less often."""


class TurnListener:
    """Belongs to one stream; the threads are the engine's. Positions are 16 kHz samples of the stream."""

    def __init__(self, predict: Predict, threads: Executor) -> None:
        self._predict = predict
        self._threads = threads
        self._audio = AudioBuffer()
        self._turn_start: int | None = None
        self._asked_in, self._asked = -1, 0
        """The pause that was asked about, by where the voice was last heard before it, and how often."""
        self._asking: asyncio.Future[TurnPrediction] | None = None

    @property
    def running(self) -> Iterable[asyncio.Future[TurnPrediction]]:
        return [self._asking] if self._asking else []

    def append(self, samples: Samples) -> None:
        self._audio.append(samples)
        if self._audio.end - self._audio.start > 2 * LENGTH:
            self._audio.drop_before(self._audio.end - LENGTH)

    def begin_turn(self) -> None:
        """What was said so far is over."""
        self._turn_start, self._asked_in, self._asked = None, -1, 0

    def start_if_due(self, utterance: Utterance) -> None:
        """Ask the model when a pause has become long enough, once for the latest of the silences."""
        detector, speech_start = utterance.detector, utterance.window.speech_start
        if self._turn_start is None and speech_start is not None:
            self._turn_start = max(0, speech_start - LEAD)
        if self._asking or self._turn_start is None or detector.voiced_until <= self._turn_start:
            return
        if detector.voiced_until > self._asked_in:
            self._asked_in, self._asked = detector.voiced_until, 0
        due = sum(detector.silence >= after for after in AFTER)
        if due <= self._asked:
            return
        self._asked = due
        end = self._audio.end
        audio = self._audio.between(max(self._turn_start, end - LENGTH), end)
        self._asking = asyncio.get_running_loop().run_in_executor(self._threads, self._ask, audio, end)

    def take(self) -> TurnPrediction | None:
        """The prediction that was made since the last time."""
        if self._asking is None or not self._asking.done():
            return None
        asking, self._asking = self._asking, None
        return asking.result()

    def _ask(self, audio: Samples, end: int) -> TurnPrediction:
        began = time.perf_counter()
        return TurnPrediction(self._predict(audio), end, (time.perf_counter() - began) * 1000)
