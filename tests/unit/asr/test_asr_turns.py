"""Turn predictions and long utterances on real speech, with a decoder and a turn model that say what they were given."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import faster_whisper
import numpy as np
import pytest

from services.asr.activity import Thresholds
from services.asr.decodes import DecodeQueue
from services.asr.draft import Draft
from services.asr.engine import (
    Activity,
    Audio,
    Flush,
    Input,
    Output,
    RecognitionConfig,
    Samples,
    SpeechActivity,
    Transcript,
    TurnPrediction,
)
from services.asr.hypothesis import Hypothesis
from services.asr.recognition import Recognition
from services.asr.silero import SpeechProbabilities, open_session
from services.asr.turn_model import LENGTH, scaled
from services.asr.turns import AFTER, TurnListener
from services.asr.utterance import Utterance
from services.asr.window import LEAD

SECOND = 16_000


class TurnModel:
    """Says 0.75 and remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[Samples] = []
        self.gate = threading.Event()
        self.gate.set()

    def predict(self, audio: Samples) -> float:
        assert self.gate.wait(10)
        self.heard.append(audio)
        return 0.75


@pytest.fixture
def model() -> TurnModel:
    return TurnModel()


@pytest.fixture(scope="module")
def vad() -> Any:
    return open_session(next((Path(faster_whisper.__file__).parent / "assets").glob("silero_vad*.onnx")))


@pytest.fixture
async def queue() -> AsyncIterator[DecodeQueue]:
    queue = DecodeQueue(workers=2)
    yield queue
    await queue.close()


def decode(audio: Samples, language: str, voice_s: float) -> Hypothesis:
    return Hypothesis(f"{len(audio)}", language="en")


async def told(
    inputs: AsyncIterator[Input], vad: Any, queue: DecodeQueue, model: TurnModel, *, max_ms: int = 60_000
) -> list[Output]:
    config = RecognitionConfig(SECOND, pause_ms=64, cut_long_utterances=True, predict_turns=True)
    utterance = Utterance(Thresholds(pause=1_024, end_silence=19_200), max_ms, cut_long=True)
    with ThreadPoolExecutor(1) as threads:
        listener = TurnListener(model.predict, threads)
        draft = Draft(queue, decode, "", None)
        recognition = Recognition(config, SpeechProbabilities(vad), utterance, draft, listener)
        return [output async for output in recognition.outputs(inputs)]


async def feed(audio: Samples, start: int = 0) -> AsyncGenerator[Input, None]:
    for at in range(0, len(audio), 320):
        yield Audio(start + at, audio[at : at + 320])
        await asyncio.sleep(0)


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * SECOND), np.float32)


async def test_each_pause_is_judged_twice_if_it_is_long(
    vad: Any, queue: DecodeQueue, model: TurnModel, sentences: list[Any]
) -> None:
    audio = np.concatenate([sentences[1].audio, silence(1), sentences[4].audio, silence(2)])

    async def inputs() -> AsyncGenerator[Input, None]:
        async for chunk in feed(audio):
            yield chunk
        async with asyncio.timeout(10):
            while len(model.heard) < 4:
                await asyncio.sleep(0.01)

    outputs = await told(inputs(), vad, queue, model)
    predictions = [output for output in outputs if isinstance(output, TurnPrediction)]
    pauses = {
        output.sample
        for output in outputs
        if isinstance(output, SpeechActivity) and output.kind is Activity.SPEECH_PAUSED
    }
    asked = [max(pause for pause in pauses if pause + AFTER[0] <= prediction.sample) for prediction in predictions]
    assert len(predictions) == len(model.heard) >= 4
    assert {asked.count(pause) for pause in asked} <= {1, 2}
    assert asked.count(max(pauses)) == 2
    assert all(prediction.complete == 0.75 for prediction in predictions)


async def test_the_turn_model_hears_the_turn_up_to_now(
    vad: Any, queue: DecodeQueue, model: TurnModel, sentences: list[Any]
) -> None:
    audio = np.concatenate([silence(3), sentences[1].audio, silence(1)])
    outputs = await told(feed(audio, start=777), vad, queue, model)
    (started, *_) = [output for output in outputs if isinstance(output, SpeechActivity)]
    *_, last = [output for output in outputs if isinstance(output, TurnPrediction)]
    heard = model.heard[-1]
    end = last.sample - 777
    np.testing.assert_array_equal(heard, audio[end - len(heard) : end])
    assert len(heard) == end - (started.sample - 777) + LEAD


async def test_after_a_flush_the_turn_model_hears_only_what_is_new(
    vad: Any, queue: DecodeQueue, model: TurnModel, sentences: list[Any]
) -> None:
    first = np.concatenate([sentences[1].audio, silence(1)])
    second = np.concatenate([sentences[4].audio, silence(1)])

    async def inputs() -> AsyncGenerator[Input, None]:
        async for chunk in feed(first):
            yield chunk
        yield Flush()
        async for chunk in feed(second, start=len(first)):
            yield chunk

    await told(inputs(), vad, queue, model)
    assert len(model.heard[-1]) <= len(second)


async def test_a_slow_turn_model_holds_up_nothing(
    vad: Any, queue: DecodeQueue, model: TurnModel, sentences: list[Any]
) -> None:
    model.gate.clear()

    async def inputs() -> AsyncGenerator[Input, None]:
        async for chunk in feed(np.concatenate([sentences[1].audio, silence(1)])):
            yield chunk
        yield Flush("turn")
        asyncio.get_running_loop().call_later(0.1, model.gate.set)
        await asyncio.sleep(0.3)

    outputs = await told(inputs(), vad, queue, model)
    kinds = [type(output) for output in outputs]
    assert kinds.index(Transcript) < kinds.index(TurnPrediction)


async def test_a_monologue_is_cut_into_utterances_that_tile_it(
    vad: Any, queue: DecodeQueue, model: TurnModel, sentences: list[Any]
) -> None:
    audio = np.concatenate([sentence.audio for sentence in sentences] * 4)
    outputs = await told(feed(audio), vad, queue, model, max_ms=20_000)
    finals = [output for output in outputs if isinstance(output, Transcript)]
    assert len(finals) >= 4
    assert all(final.text and final.flush is None for final in finals)
    edges = [(final.start_sample, final.end_sample) for final in finals]
    assert edges[0][0] == 0 and edges[-1][1] == len(audio)
    assert all(before[1] == after[0] for before, after in pairwise(edges))
    assert all(end - start <= 22 * SECOND for start, end in edges)


def test_what_the_turn_model_sees_has_one_loudness() -> None:
    noise = np.random.default_rng(3).normal(0, 0.01, 3 * LENGTH).astype(np.float32)
    for audio in (noise, 30 * noise, noise[:SECOND]):
        seen = scaled(audio)
        assert seen.shape == (LENGTH,)
        assert abs(seen.mean()) < 1e-3
        assert seen.std() == pytest.approx(1, abs=0.01)
    assert np.ptp(scaled(noise[:SECOND])[:-SECOND]) == 0
