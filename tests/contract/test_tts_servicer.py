"""TtsService on the wire: its grammar with an engine that is known to the sample, and one happy path with a real voice."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, cast

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services.runtime import channels, sources
from services.runtime.engine import GENERATION_KEY, SLOT_KEY, Identity
from services.runtime.errors import InvalidInput, LoadFailed
from services.runtime.settings import CATALOG_FOLDER, read_catalog
from services.tts.engine import (
    Audio,
    Clause,
    ClauseEnd,
    Emotion,
    PhonemeSpan,
    Speech,
    Spoken,
    SynthesisConfig,
    TtsEngine,
    WordSpan,
)
from services.tts.phonemes import PHONEMES
from services.tts.servicer import SERVICE
from talkmesh.audio.v1 import speech_pb2
from talkmesh.tts.v1 import tts_pb2, tts_pb2_grpc

Responses = list[tts_pb2.SynthesizeResponse]


class MetronomeEngine:
    """Says each word of a clause as 100 ms of `a`. "crash" breaks it, "nothing" is silent, "parts" comes in two."""

    sample_rate_hz = 16000
    voices: Sequence[str] = ("tick", "tock")
    languages: Sequence[str] = ("en", "en-US")
    phonemes: Sequence[str] = ("a",)
    max_clause_chars = 100

    def __init__(self) -> None:
        self.configs: list[SynthesisConfig] = []
        self.clauses: list[Clause] = []
        self.given = 0
        self.closed = asyncio.Event()

    async def load(self) -> None: ...

    async def unload(self) -> None: ...

    async def synthesize(self, config: SynthesisConfig, clauses: AsyncIterator[Clause]) -> AsyncGenerator[Spoken, None]:
        self.configs.append(config)
        try:
            async for clause in clauses:
                self.clauses.append(clause)
                for words in clause.text.split("|"):
                    async for part in self._part(clause, words.split()):
                        yield part
                yield ClauseEnd(clause)
        finally:
            self.closed.set()

    async def _part(self, clause: Clause, words: list[str]) -> AsyncGenerator[Spoken, None]:
        if words == ["crash"]:
            raise ZeroDivisionError
        if words == ["foreign"]:
            raise InvalidInput("clause.text", "holds Martian text", "English")
        words = [] if words == ["nothing"] else words
        spans = [(word, 1600 * index, 1600 * index + 1600) for index, word in enumerate(words)]
        yield Speech(
            clause,
            1600 * len(words),
            [PhonemeSpan("a", start, end, 2) for _, start, end in spans],
            [WordSpan(word, start, end) for word, start, end in spans],
        )
        for _ in words:
            self.given += 1
            yield Audio(np.full(1600, 0.5, np.float32))
            await asyncio.sleep(0)


@asynccontextmanager
async def serving(engine: TtsEngine) -> AsyncIterator[Any]:
    """A stub for a server with `engine`."""
    server = channels.server()
    SERVICE.attach(server, engine, Identity("tts", "metronome", "fake", "sha256:00"))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with channels.channel(f"127.0.0.1:{port}") as channel:
        yield tts_pb2_grpc.TtsServiceStub(channel)
    await server.stop(0)


@pytest.fixture
def engine() -> MetronomeEngine:
    return MetronomeEngine()


@pytest.fixture
async def stub(engine: MetronomeEngine) -> AsyncIterator[Any]:
    async with serving(engine) as stub:
        yield stub


def config(**fields: Any) -> tts_pb2.SynthesizeRequest:
    return tts_pb2.SynthesizeRequest(config=tts_pb2.SynthesisConfig(**fields))


def clause(index: int, text: str, **expression: Any) -> tts_pb2.SynthesizeRequest:
    mood = speech_pb2.Expression(**expression) if expression else None
    return tts_pb2.SynthesizeRequest(clause=tts_pb2.Clause(index=index, text=text, expression=mood))


async def call(stub: Any, *requests: tts_pb2.SynthesizeRequest) -> Responses:
    return [response async for response in stub.Synthesize(iter(requests))]


def kinds(responses: Responses) -> list[str]:
    """The kinds of the responses, repeated ones once."""
    names = [str(response.WhichOneof("response")) for response in responses]
    return [name for name, before in zip(names, ["", *names], strict=False) if name != before]


async def refused(stub: Any, *requests: tts_pb2.SynthesizeRequest) -> tuple[grpc.StatusCode, str, str]:
    """(code, field or resource named in the details, message) of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(stub, *requests)
    status = rpc_status.from_call(cast(grpc.Call, caught.value))
    named = ""
    for detail in status.details if status else ():
        bad, resource = error_details_pb2.BadRequest(), error_details_pb2.ResourceInfo()
        if detail.Unpack(bad):
            named = bad.field_violations[0].field
        elif detail.Unpack(resource):
            named = resource.resource_type
    return caught.value.code(), named, caught.value.details() or ""


async def test_the_first_response_says_who_speaks_and_what_it_can(stub: Any) -> None:
    metadata = ((SLOT_KEY, "stable"), (GENERATION_KEY, "7"))
    (response,) = [r async for r in stub.Synthesize(iter([config(turn_id="t1", generation=4)]), metadata=metadata)]
    assert (response.turn_id, response.generation) == ("t1", 4)
    started = response.started
    assert (started.model.model, started.model.slot, started.model.slot_generation) == ("metronome", "stable", 7)
    assert started.sample_rate_hz == 16000
    assert (list(started.voices), list(started.languages)) == (["tick", "tock"], ["en", "en-US"])
    assert (list(started.phonemes), started.max_clause_chars) == (["a"], 100)


async def test_the_first_response_comes_before_any_clause(stub: Any) -> None:
    calling = stub.Synthesize()
    await calling.write(config())
    assert (await calling.read()).WhichOneof("response") == "started"
    calling.cancel()


@pytest.mark.parametrize("rate_hz", [0, 8000, 16000, 22050, 44100, 48000])
async def test_clauses_follow_each_other_on_one_clock(stub: Any, rate_hz: int) -> None:
    responses = await call(
        stub, config(turn_id="t", generation=2, sample_rate_hz=rate_hz), clause(0, "one two three"), clause(1, "four")
    )
    rate_hz = rate_hz or 16000
    assert kinds(responses) == ["started", "speech", "audio", "done", "speech", "audio", "done"]
    assert {(response.turn_id, response.generation) for response in responses} == {("t", 2)}
    at, ends = 0, []
    for response in responses[1:]:
        match response.WhichOneof("response"):
            case "speech":
                spans = response.speech.phonemes
                assert response.speech.start_sample == spans[0].start_sample == at
                assert all(a.end_sample == b.start_sample for a, b in pairwise(spans))
                ends.append(spans[-1].end_sample)
            case "audio":
                assert response.audio.start_sample == at
                assert 0 < len(response.audio.data) <= 2 * rate_hz * 40 // 1000
                at += len(response.audio.data) // 2
            case "done":
                assert response.done.end_sample == at == ends[-1]
    assert at == rate_hz * 4 // 10
    assert [(r.done.clause_index, r.done.start_sample) for r in responses if r.HasField("done")] == [
        (0, 0),
        (1, rate_hz * 3 // 10),
    ]


async def test_speech_tells_phonemes_words_and_expression(stub: Any) -> None:
    responses = await call(stub, config(), clause(3, "Hi you", emotion=speech_pb2.EMOTION_HAPPY, intensity=0.5))
    speech = responses[1].speech
    assert speech.clause_index == 3
    assert [(p.phoneme, p.start_sample, p.end_sample, p.stress) for p in speech.phonemes] == [
        ("a", 0, 1600, 2),
        ("a", 1600, 3200, 2),
    ]
    assert [(w.word, w.start_sample, w.end_sample) for w in speech.words] == [("Hi", 0, 1600), ("you", 1600, 3200)]
    assert (speech.expression.emotion, speech.expression.intensity) == (speech_pb2.EMOTION_HAPPY, 0.5)
    assert speech.engine_ms > 0


async def test_a_long_clause_has_one_speech_for_each_part_and_one_done(stub: Any) -> None:
    responses = await call(stub, config(), clause(0, "one two|three"))
    assert kinds(responses) == ["started", "speech", "audio", "speech", "audio", "done"]
    assert [r.speech.start_sample for r in responses if r.HasField("speech")] == [0, 3200]
    assert (responses[-1].done.start_sample, responses[-1].done.end_sample) == (0, 4800)


async def test_a_clause_with_nothing_to_say_is_no_error(stub: Any) -> None:
    responses = await call(stub, config(), clause(0, "nothing"), clause(1, "one"))
    assert kinds(responses) == ["started", "speech", "done", "speech", "audio", "done"]
    assert (responses[2].done.start_sample, responses[2].done.end_sample) == (0, 0)
    assert not responses[1].speech.phonemes


async def test_the_engine_gets_what_was_asked_for(stub: Any, engine: MetronomeEngine) -> None:
    await call(stub, config(), clause(0, "a"))
    await call(
        stub,
        config(voice="tock", language="EN-us", speaking_rate=1.5),
        clause(0, "a", emotion=speech_pb2.EMOTION_SAD, intensity=1),
        clause(1, "b", emotion=speech_pb2.EMOTION_UNSPECIFIED, intensity=1),
    )
    assert engine.configs == [SynthesisConfig(), SynthesisConfig("tock", "EN-us", 1.5)]
    assert [c.expression.emotion for c in engine.clauses] == [Emotion.NEUTRAL, Emotion.SAD, Emotion.NEUTRAL]


@pytest.mark.parametrize(
    ("request_", "code", "named", "told"),
    [
        (config(voice="bell"), grpc.StatusCode.NOT_FOUND, "voice", "known: tick, tock"),
        (config(language="zh"), grpc.StatusCode.INVALID_ARGUMENT, "config.language", "expected en, en-US"),
        (config(sample_rate_hz=7999), grpc.StatusCode.INVALID_ARGUMENT, "config.sample_rate_hz", "8000 to 48000"),
        (config(sample_rate_hz=48001), grpc.StatusCode.INVALID_ARGUMENT, "config.sample_rate_hz", "8000 to 48000"),
        (config(sample_rate_hz=-1), grpc.StatusCode.INVALID_ARGUMENT, "config.sample_rate_hz", "8000 to 48000"),
        (config(speaking_rate=0.4), grpc.StatusCode.INVALID_ARGUMENT, "config.speaking_rate", "0.5 to 2"),
        (config(speaking_rate=2.1), grpc.StatusCode.INVALID_ARGUMENT, "config.speaking_rate", "0.5 to 2"),
        (config(speaking_rate=float("nan")), grpc.StatusCode.INVALID_ARGUMENT, "config.speaking_rate", "0.5 to 2"),
        (config(generation=-1), grpc.StatusCode.INVALID_ARGUMENT, "config.generation", "0 or more"),
        (clause(0, "a"), grpc.StatusCode.INVALID_ARGUMENT, "request", "expected config"),
        (tts_pb2.SynthesizeRequest(), grpc.StatusCode.INVALID_ARGUMENT, "request", "expected config"),
    ],
)
async def test_a_bad_beginning(
    stub: Any, request_: tts_pb2.SynthesizeRequest, code: grpc.StatusCode, named: str, told: str
) -> None:
    found = await refused(stub, request_)
    assert found[:2] == (code, named)
    assert told in found[2]


@pytest.mark.parametrize(
    ("request_", "named", "told"),
    [
        (clause(0, ""), "clause.text", "is empty"),
        (clause(0, " \n"), "clause.text", "is empty"),
        (clause(0, "a" * 101), "clause.text", "at most 100"),
        (clause(0, "foreign"), "clause.text", "Martian"),
        (clause(-1, "a"), "clause.index", "0 or more"),
        (clause(0, "a", emotion=99, intensity=1), "clause.expression.emotion", "EMOTION_HAPPY"),
        (clause(0, "a", emotion=2, intensity=1.1), "clause.expression.intensity", "0 to 1"),
        (clause(0, "a", emotion=2, intensity=float("nan")), "clause.expression.intensity", "0 to 1"),
        (config(), "config", "sent twice"),
        (tts_pb2.SynthesizeRequest(), "request", "empty"),
    ],
)
async def test_a_bad_clause(stub: Any, request_: tts_pb2.SynthesizeRequest, named: str, told: str) -> None:
    found = await refused(stub, config(), request_)
    assert found[:2] == (grpc.StatusCode.INVALID_ARGUMENT, named)
    assert told in found[2]


async def test_clauses_come_in_their_order(stub: Any) -> None:
    found = await refused(stub, config(), clause(1, "a"), clause(1, "b"))
    assert found[1:] == ("clause.index", "clause.index: is 1; expected more than 1")


async def test_what_was_said_before_a_bad_clause_is_not_lost(stub: Any) -> None:
    responses: Responses = []
    with pytest.raises(grpc.aio.AioRpcError):
        async for response in stub.Synthesize(iter([config(), clause(0, "one"), clause(1, "")])):
            responses.append(response)
    assert kinds(responses) == ["started", "speech", "audio", "done"]


async def test_a_defect_is_told_without_its_insides(stub: Any) -> None:
    code, _, told = await refused(stub, config(), clause(0, "crash"))
    assert code == grpc.StatusCode.INTERNAL
    assert told == "TtsServicer.Synthesize: ZeroDivisionError"


async def test_a_call_without_a_config(stub: Any) -> None:
    assert (await refused(stub))[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "request")


async def test_cancelling_stops_synthesis(stub: Any, engine: MetronomeEngine) -> None:
    engine.max_clause_chars = 1_000_000
    calling = stub.Synthesize(iter([config(), clause(0, "word " * 100_000)]))
    async for response in calling:
        if response.HasField("audio"):
            break
    calling.cancel()
    await asyncio.wait_for(engine.closed.wait(), 5)
    given = engine.given
    await asyncio.sleep(0.1)
    assert engine.given == given < 100_000


async def test_a_reader_that_does_not_read_holds_synthesis_back(stub: Any, engine: MetronomeEngine) -> None:
    calling = stub.Synthesize()
    await calling.write(config())
    for index in range(200):
        await calling.write(clause(index, "one two three four five six seven eight nine ten"))
    await asyncio.sleep(0.5)
    held = engine.given
    await asyncio.sleep(0.3)
    assert engine.given == held < 2000 / 4
    calling.cancel()


async def test_calls_at_the_same_time_have_their_own_clocks(stub: Any) -> None:
    texts = ["one", "one two three", "one two"]
    calls = await asyncio.gather(*(call(stub, config(turn_id=text), clause(0, text)) for text in texts))
    for text, responses in zip(texts, calls, strict=True):
        assert {response.turn_id for response in responses} == {text}
        assert responses[-1].done.end_sample == 1600 * len(text.split())


async def test_warm_up_needs_a_voice() -> None:
    class Mute(MetronomeEngine):
        async def _part(self, clause: Clause, words: list[str]) -> AsyncGenerator[Spoken, None]:
            yield Speech(clause, 0)

    await SERVICE.warm_up(MetronomeEngine())
    with pytest.raises(LoadFailed, match="0 samples"):
        await SERVICE.warm_up(Mute())


async def test_a_real_voice_from_the_catalog() -> None:
    spec = read_catalog(CATALOG_FOLDER / "tts.json")["heart"]
    engine: TtsEngine = SERVICE.engine(spec, sources.resolve(spec.source))
    await engine.load()
    await SERVICE.warm_up(engine)
    async with serving(engine) as stub:
        responses = await call(
            stub, config(sample_rate_hz=16000), clause(0, "Hello, who are you?"), clause(1, "😀"), clause(2, "Bye!")
        )
        assert (await refused(stub, config(), clause(0, "你好")))[1] == "clause.text"
    await engine.unload()
    assert kinds(responses) == ["started", "speech", "audio", "done", "speech", "done", "speech", "audio", "done"]
    audio = b"".join(response.audio.data for response in responses)
    speeches = [response.speech for response in responses if response.HasField("speech")]
    assert [word.word for word in speeches[0].words] == ["Hello", "who", "are", "you"]
    assert {phoneme.phoneme for phoneme in speeches[0].phonemes} <= {*PHONEMES, ""}
    assert len(audio) // 2 == responses[-1].done.end_sample == speeches[2].phonemes[-1].end_sample
    assert 1 < len(audio) / 2 / 16000 < 4
    assert np.abs(np.frombuffer(audio, "<i2")).max() > 3000
