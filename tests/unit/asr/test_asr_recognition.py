"""A stream's policy, on real speech and a decoder that says what it was given."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import faster_whisper
import numpy as np
import pytest

from services.asr.activity import Thresholds
from services.asr.decodes import DecodeQueue
from services.asr.draft import Draft
from services.asr.engine import Audio, Flush, Input, Output, RecognitionConfig, Samples, SpeechActivity, Transcript
from services.asr.hypothesis import Hypothesis
from services.asr.interims import Pace
from services.asr.recognition import Recognition
from services.asr.silero import SpeechProbabilities, open_session
from services.asr.utterance import Utterance

SECOND = 16_000
CONFIG = RecognitionConfig(sample_rate_hz=SECOND, interim_results=True)


class Decoder:
    """Says how many samples it heard. A call waits until `gate` of its number is set."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.gates: dict[int, threading.Event] = {}
        self.done = 0

    def decode(self, audio: Samples, language: str, voice_s: float) -> Hypothesis:
        number = len(self.heard)
        self.heard.append(len(audio))
        if gate := self.gates.get(number):
            assert gate.wait(10)
        self.done += 1
        return Hypothesis(f"decode {number}", language="en")


@pytest.fixture(scope="module")
def session() -> Any:
    return open_session(next((Path(faster_whisper.__file__).parent / "assets").glob("silero_vad*.onnx")))


@pytest.fixture
async def recognise(session: Any) -> AsyncIterator[Callable[..., AsyncGenerator[Output, None]]]:
    queue = DecodeQueue(workers=2)

    def start(
        decoder: Decoder, inputs: AsyncIterator[Input], config: RecognitionConfig = CONFIG
    ) -> AsyncGenerator[Output, None]:
        draft = Draft(queue, decoder.decode, "", Pace() if config.interim_results else None)
        utterance = Utterance(Thresholds(), 60_000)
        return Recognition(config, SpeechProbabilities(session), utterance, draft).outputs(inputs)

    yield start
    await queue.close()


async def feed(audio: Samples, *, start: int = 0) -> AsyncGenerator[Input, None]:
    for at in range(0, len(audio), 320):
        yield Audio(start + at, audio[at : at + 320])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def transcripts(outputs: list[Output]) -> list[Transcript]:
    return [output for output in outputs if isinstance(output, Transcript)]


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * SECOND), np.float32)


async def test_what_was_decoded_in_the_pause_is_the_final(recognise: Any, sentences: list[Any]) -> None:
    decoder = Decoder()

    async def inputs() -> AsyncGenerator[Input, None]:
        async for chunk in feed(np.concatenate([sentences[1].audio, silence(1)])):
            yield chunk
        await until(lambda: decoder.done == len(decoder.heard) > 0)
        before.append(len(decoder.heard))
        yield Flush("turn", 7)

    before: list[int] = []
    outputs = [output async for output in recognise(decoder, inputs(), RecognitionConfig(SECOND))]
    (final,) = transcripts(outputs)
    assert final.text == f"decode {before[0] - 1}"
    assert len(decoder.heard) == before[0]
    assert (final.flush, final.is_final, final.stability) == (Flush("turn", 7), True, 1)


async def test_a_final_waits_for_the_decode_that_has_heard_everything(recognise: Any, sentences: list[Any]) -> None:
    decoder = Decoder()
    slow = decoder.gates[0] = threading.Event()

    async def inputs() -> AsyncGenerator[Input, None]:
        async for chunk in feed(np.concatenate([sentences[1].audio[: SECOND * 3 // 4], silence(0.3)])):
            yield chunk
        await until(lambda: len(decoder.heard) == 1)
        asyncio.get_running_loop().call_later(0.05, slow.set)
        yield Flush()

    outputs = [output async for output in recognise(decoder, inputs(), RecognitionConfig(SECOND))]
    assert transcripts(outputs)[-1].text == "decode 0"
    assert len(decoder.heard) == 1


async def test_a_final_does_not_wait_for_an_interim_that_missed_the_end(recognise: Any, sentences: list[Any]) -> None:
    decoder = Decoder()
    slow = decoder.gates[0] = threading.Event()
    audio = sentences[1].audio

    async def inputs() -> AsyncGenerator[Input, None]:
        async for chunk in feed(audio[: 2 * SECOND]):
            yield chunk
        await until(lambda: len(decoder.heard) >= 1)
        async for chunk in feed(audio[2 * SECOND :], start=2 * SECOND):
            yield chunk
        yield Flush()

    try:
        outputs = [output async for output in recognise(decoder, inputs())]
        assert transcripts(outputs)[-1].text == f"decode {len(decoder.heard) - 1}"
        assert decoder.heard[-1] == max(decoder.heard) > decoder.heard[0]
        assert decoder.done == len(decoder.heard) - 1, "the interim still runs"
    finally:
        slow.set()


async def test_a_pause_does_not_wait_for_an_interim_that_missed_it(recognise: Any, sentences: list[Any]) -> None:
    decoder = Decoder()
    slow = decoder.gates[0] = threading.Event()
    audio = sentences[1].audio[: SECOND * 3 // 4]

    async def inputs() -> AsyncGenerator[Input, None]:
        async for chunk in feed(audio):
            yield chunk
        await until(lambda: len(decoder.heard) == 1)
        async for chunk in feed(silence(0.3), start=len(audio)):
            yield chunk
        await until(lambda: decoder.done == 1)
        before.append(len(decoder.heard))
        yield Flush()

    before: list[int] = []
    try:
        outputs = [output async for output in recognise(decoder, inputs())]
        assert [each.text for each in transcripts(outputs)] == ["decode 1", "decode 1"]
        assert before == [len(decoder.heard)] == [2], "the pause was decoded once, beside the interim that still runs"
    finally:
        slow.set()


async def test_one_interim_at_a_time_while_somebody_speaks(recognise: Any, sentences: list[Any]) -> None:
    decoder = Decoder()
    slow = decoder.gates[0] = threading.Event()

    async def inputs() -> AsyncGenerator[Input, None]:
        async for chunk in feed(sentences[1].audio[: SECOND * 3 // 4]):
            yield chunk
        counted.append(len(decoder.heard))
        slow.set()
        yield Flush()

    counted: list[int] = []
    [output async for output in recognise(decoder, inputs())]
    assert counted == [1]


async def test_nothing_is_decoded_when_nobody_speaks(recognise: Any) -> None:
    decoder = Decoder()

    async def inputs() -> AsyncGenerator[Input, None]:
        async for chunk in feed(silence(2)):
            yield chunk
        yield Flush("empty")
        yield Flush("emptier")

    first, second = [output async for output in recognise(decoder, inputs())]
    assert (first.text, first.start_sample, first.end_sample, first.utterance) == ("", 0, 2 * SECOND, 0)
    assert (second.text, second.start_sample, second.end_sample, second.utterance) == ("", 2 * SECOND, 2 * SECOND, 1)
    assert decoder.heard == []


async def test_silence_ends_utterances_inside_one_long_chunk(recognise: Any, sentences: list[Any]) -> None:
    decoder = Decoder()
    audio = np.concatenate([sentences[1].audio, silence(1), sentences[4].audio, silence(1)])

    async def inputs() -> AsyncGenerator[Input, None]:
        yield Audio(500, audio)

    config = RecognitionConfig(SECOND, end_silence_ms=500)
    outputs = [output async for output in recognise(decoder, inputs(), config)]
    first, second, rest = transcripts(outputs)
    assert first.text and second.text and not rest.text
    assert first.start_sample == 500
    assert first.end_sample == second.start_sample
    assert rest.end_sample == 500 + len(audio)
    assert len([output for output in outputs if isinstance(output, SpeechActivity)]) == 4


async def test_the_end_of_the_input_flushes_what_is_left(recognise: Any, sentences: list[Any]) -> None:
    outputs = [output async for output in recognise(Decoder(), feed(sentences[1].audio))]
    final = transcripts(outputs)[-1]
    assert final.is_final and final.text and final.flush is None
    assert [output async for output in recognise(Decoder(), feed(silence(0)))] == []


async def test_an_error_of_the_input_ends_the_stream(recognise: Any, sentences: list[Any]) -> None:
    async def inputs() -> AsyncGenerator[Input, None]:
        async for chunk in feed(sentences[1].audio):
            yield chunk
        raise ValueError("bad chunk")

    with pytest.raises(ValueError, match="bad chunk"):
        [output async for output in recognise(Decoder(), inputs())]


async def test_leaving_early_closes_the_input(recognise: Any, sentences: list[Any]) -> None:
    closed = asyncio.Event()

    async def inputs() -> AsyncGenerator[Input, None]:
        try:
            async for chunk in feed(sentences[1].audio):
                yield chunk
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with aclosing(recognise(Decoder(), inputs())) as outputs:
        async for _ in outputs:
            break
    async with asyncio.timeout(1):
        await closed.wait()


async def test_a_decoder_that_fails_ends_the_stream(recognise: Any, sentences: list[Any]) -> None:
    class Broken(Decoder):
        def decode(self, audio: Samples, language: str, voice_s: float) -> Hypothesis:
            raise RuntimeError("out of memory")

    async def inputs() -> AsyncGenerator[Input, None]:
        async for chunk in feed(sentences[1].audio):
            yield chunk
        await asyncio.Event().wait()

    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="out of memory"):
            [output async for output in recognise(Broken(), inputs())]
