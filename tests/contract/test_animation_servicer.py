"""AnimationService's grammar, on a real server."""

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import grpc
import pytest

from services.animation.engine import AnimationConfig, Frame, Input
from services.animation.engines.visemes import VisemeEngine
from services.animation.servicer import SERVICE
from services.runtime import channels
from services.runtime.engine import Identity, ModelSpec
from services.runtime.errors import InvalidInput, NotFound
from talkmesh.animation.v1 import animation_pb2, animation_pb2_grpc
from talkmesh.audio.v1 import audio_pb2, speech_pb2

Request = animation_pb2.AnimateRequest
CONFIG = Request(config=animation_pb2.AnimationConfig(sample_rate_hz=24000))


@pytest.fixture
async def stub() -> AsyncIterator["animation_pb2_grpc.AnimationServiceAsyncStub"]:
    engine = SERVICE.engine(ModelSpec(engine="visemes"), None)
    await engine.load()
    await SERVICE.warm_up(engine)
    server = channels.server()
    SERVICE.attach(server, engine, Identity("animation", "visemes", "visemes", ""))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with channels.channel(f"127.0.0.1:{port}") as channel:
        yield animation_pb2_grpc.AnimationServiceStub(channel)
    await server.stop(0)


async def call(
    stub: "animation_pb2_grpc.AnimationServiceAsyncStub", *requests: Request
) -> list[animation_pb2.AnimateResponse]:
    return [response async for response in stub.Animate(iter(requests))]


async def failure(stub: "animation_pb2_grpc.AnimationServiceAsyncStub", *requests: Request) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(stub, *requests)
    return caught.value.code().name, str(caught.value.details())


def speech(*spans: tuple[int, int], end: int = 9600, **fields: object) -> Request:
    phonemes = [speech_pb2.PhonemeSpan(phoneme="ə", start_sample=a, end_sample=b) for a, b in spans]
    said = animation_pb2.Speech(turn_id="t", generation=1, start_sample=0, end_sample=end, phonemes=phonemes)
    # Any field of a Speech, wrong values among them.
    said.MergeFrom(animation_pb2.Speech(**fields))  # type: ignore[arg-type]
    return Request(speech=said)


def advance(until: int) -> Request:
    return Request(advance=animation_pb2.Advance(until_sample=until))


def sound(at: int = 0, turn_id: str = "t", generation: int = 1) -> Request:
    chunk = audio_pb2.AudioChunk(start_sample=at, data=bytes(960))
    return Request(audio=animation_pb2.SpeechAudio(turn_id=turn_id, generation=generation, audio=chunk))


def interrupt(generation: int = 1, at: int = 0) -> Request:
    return Request(interrupt=animation_pb2.Interrupt(generation=generation, at_sample=at))


async def test_first_response_names_model_and_interface(stub: "animation_pb2_grpc.AnimationServiceAsyncStub") -> None:
    started = (await call(stub, CONFIG))[0].started
    assert (started.model.service, started.model.model) == ("animation", "visemes")
    assert len(started.blendshape_names) == 52
    assert (started.fps_numerator, started.fps_denominator) == (25, 1)
    assert "ə" in started.phonemes
    assert "calm" in started.styles


async def test_advance_brings_each_frame_once(stub: "animation_pb2_grpc.AnimationServiceAsyncStub") -> None:
    responses = await call(stub, CONFIG, speech((0, 4800), (4800, 9600)), advance(4000), advance(4000), advance(12000))
    made = [response.frame for response in responses[1:]]
    assert [frame.start_sample for frame in made] == list(range(0, 12000, 960))
    assert [frame.turn_id for frame in made] == ["t"] * 10 + [""] * 3
    assert all(len(frame.weights) == 52 and frame.head.scale > 0.9 for frame in made)


async def test_a_call_goes_on_where_another_has_ended(stub: "animation_pb2_grpc.AnimationServiceAsyncStub") -> None:
    hours = 3 * 3600 * 24000
    goes_on = Request(config=animation_pb2.AnimationConfig(sample_rate_hz=24000, start_sample=hours + 100))
    said = animation_pb2.Speech(turn_id="t", generation=1, start_sample=hours, end_sample=hours + 9600)
    said.phonemes.add(phoneme="ɑ", start_sample=hours, end_sample=hours + 9600)
    responses = await call(stub, goes_on, Request(speech=said), advance(hours + 4800))
    made = [response.frame for response in responses[1:]]
    assert [frame.start_sample for frame in made] == list(range(hours + 960, hours + 4800, 960))
    jaw = list(responses[0].started.blendshape_names).index("jawOpen")
    assert made[-1].weights[jaw] > 0.2
    assert len(await call(stub, goes_on, advance(hours + 100))) == 1


async def test_audio_moves_the_mouth(stub: "animation_pb2_grpc.AnimationServiceAsyncStub") -> None:
    data = struct.pack("<4800h", *([9000, -9000] * 2400))
    audio = animation_pb2.SpeechAudio(turn_id="t", audio=audio_pb2.AudioChunk(start_sample=0, data=data))
    responses = await call(stub, CONFIG, Request(audio=audio), advance(4800))
    names = list(responses[0].started.blendshape_names)
    assert responses[4].frame.weights[names.index("jawOpen")] > 0.2


async def test_interrupt_forgets_the_speech(stub: "animation_pb2_grpc.AnimationServiceAsyncStub") -> None:
    cut = Request(interrupt=animation_pb2.Interrupt(generation=2, at_sample=1920))
    responses = await call(stub, CONFIG, speech((0, 9600)), advance(1920), cut, advance(9600))
    assert [bool(response.frame.turn_id) for response in responses[1:]] == [True] * 2 + [False] * 8


@pytest.mark.parametrize(
    ("requests", "code", "named"),
    [
        ([advance(10)], "INVALID_ARGUMENT", "the first message is advance"),
        ([CONFIG, CONFIG], "INVALID_ARGUMENT", "config: sent twice"),
        (
            [Request(config=animation_pb2.AnimationConfig(sample_rate_hz=24000, start_sample=-1))],
            "INVALID_ARGUMENT",
            "config.start_sample",
        ),
        (
            [Request(config=animation_pb2.AnimationConfig(sample_rate_hz=24000, start_sample=960)), advance(959)],
            "INVALID_ARGUMENT",
            "advance.until_sample",
        ),
        ([CONFIG, Request()], "INVALID_ARGUMENT", "empty"),
        ([Request(config=animation_pb2.AnimationConfig())], "INVALID_ARGUMENT", "config.sample_rate_hz"),
        ([Request(config=animation_pb2.AnimationConfig(sample_rate_hz=24000, style="x"))], "NOT_FOUND", "natural"),
        (
            [Request(config=animation_pb2.AnimationConfig(sample_rate_hz=24000, fps_numerator=500))],
            "INVALID_ARGUMENT",
            "config.fps_numerator",
        ),
        ([CONFIG, advance(5), advance(4)], "INVALID_ARGUMENT", "advance.until_sample"),
        ([CONFIG, advance(24000 * 3600)], "INVALID_ARGUMENT", "600 s"),
        ([CONFIG, speech((0, 100), (50, 200))], "INVALID_ARGUMENT", "speech.phonemes[1].start_sample"),
        ([CONFIG, speech((0, 9999))], "INVALID_ARGUMENT", "speech.phonemes[0].end_sample"),
        ([CONFIG, speech((0, 100), end=24000 * 301)], "INVALID_ARGUMENT", "speech.end_sample"),
        (
            [CONFIG, speech((0, 10), expression=speech_pb2.Expression(emotion=speech_pb2.EMOTION_SAD, intensity=2))],
            "INVALID_ARGUMENT",
            "speech.expression.intensity",
        ),
        (
            [CONFIG, speech((0, 10), expression=speech_pb2.Expression(intensity=float("nan")))],
            "INVALID_ARGUMENT",
            "speech.expression.intensity",
        ),
        ([CONFIG, speech((0, 10), generation=-3)], "INVALID_ARGUMENT", "speech.generation"),
        (
            [CONFIG, Request(audio=animation_pb2.SpeechAudio(audio=audio_pb2.AudioChunk(data=b"odd")))],
            "INVALID_ARGUMENT",
            "audio.audio.data",
        ),
        ([CONFIG, sound(turn_id="")], "INVALID_ARGUMENT", "audio.turn_id"),
        ([CONFIG, sound(generation=-1)], "INVALID_ARGUMENT", "audio.generation"),
        ([CONFIG, sound(at=1 << 60)], "INVALID_ARGUMENT", "audio.audio.start_sample"),
        ([CONFIG, Request(speech=animation_pb2.Speech(end_sample=960))], "INVALID_ARGUMENT", "speech.turn_id"),
        (
            [CONFIG, Request(speech=animation_pb2.Speech(turn_id="t", start_sample=-1))],
            "INVALID_ARGUMENT",
            "speech.start_sample",
        ),
        (
            [CONFIG, Request(speech=animation_pb2.Speech(turn_id="t", start_sample=1 << 60, end_sample=(1 << 60) + 9))],
            "INVALID_ARGUMENT",
            "speech.end_sample",
        ),
        ([CONFIG, speech((0, 100))], "INVALID_ARGUMENT", "speech.phonemes[0].end_sample"),
        ([CONFIG, speech((0, 100), (100, 50))], "INVALID_ARGUMENT", "speech.phonemes[1].end_sample"),
        ([CONFIG, speech((0, 100), (200, 9600))], "INVALID_ARGUMENT", "speech.phonemes[1].start_sample"),
        ([CONFIG, speech(*[(0, 0)] * 6001)], "INVALID_ARGUMENT", "at most 6000"),
        (
            [
                CONFIG,
                speech(end=9600, phonemes=[speech_pb2.PhonemeSpan(phoneme="ə", end_sample=9600, stress=7)]),
            ],
            "INVALID_ARGUMENT",
            "speech.phonemes[0].stress",
        ),
        ([CONFIG, interrupt(at=-1)], "INVALID_ARGUMENT", "interrupt.at_sample"),
        ([CONFIG, interrupt(at=1 << 60)], "INVALID_ARGUMENT", "interrupt.at_sample"),
        ([CONFIG, interrupt(generation=-1)], "INVALID_ARGUMENT", "interrupt.generation"),
    ],
)
async def test_what_is_wrong_is_named(
    stub: "animation_pb2_grpc.AnimationServiceAsyncStub", requests: list[Request], code: str, named: str
) -> None:
    found, details = await failure(stub, *requests)
    assert found == code
    assert named in details
    assert len(await call(stub, CONFIG, advance(960))) == 2


async def test_two_faces_at_once_do_not_mix(stub: "animation_pb2_grpc.AnimationServiceAsyncStub") -> None:
    talking, idle = stub.Animate(), stub.Animate()
    for stream, messages in ((talking, [CONFIG, speech((0, 9600))]), (idle, [CONFIG])):
        for message in messages:
            await stream.write(message)
        await stream.write(advance(960))
    for stream, turn in ((idle, ""), (talking, "t")):
        await stream.done_writing()
        responses = [response async for response in stream]
        assert responses[1].frame.turn_id == turn


class Watched(VisemeEngine):
    """Tells when its stream has been given up."""

    def __init__(self) -> None:
        super().__init__(None, {})
        self.left = asyncio.Event()

    async def animate(self, config: AnimationConfig, inputs: AsyncIterator[Input]) -> AsyncGenerator[Frame, None]:
        try:
            async with aclosing(super().animate(config, inputs)) as made:
                async for frame in made:
                    yield frame
        finally:
            self.left.set()


async def test_cancelling_stops_the_face_at_once() -> None:
    engine, server = Watched(), channels.server()
    SERVICE.attach(server, engine, Identity("animation", "visemes", "visemes", ""))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with channels.channel(f"127.0.0.1:{port}") as channel:
        stream = animation_pb2_grpc.AnimationServiceStub(channel).Animate()
        for message in (CONFIG, advance(24000 * 600)):
            await stream.write(message)
        for kind in ("started", "frame", "frame"):
            response = await stream.read()
            assert isinstance(response, animation_pb2.AnimateResponse)
            assert response.WhichOneof("response") == kind
        stream.cancel()
        await asyncio.wait_for(engine.left.wait(), 5)
    await server.stop(0)


async def test_long_clause_is_taken_in_beside_the_loop(stub: "animation_pb2_grpc.AnimationServiceAsyncStub") -> None:
    spans = [(i * 480, (i + 1) * 480) for i in range(2000)]
    responses = await call(stub, CONFIG, speech(*spans, end=960000), advance(1920))
    assert [response.frame.turn_id for response in responses[1:]] == ["t", "t"]


def test_options_are_checked_by_name() -> None:
    with pytest.raises(InvalidInput, match=r"options\.speed"):
        VisemeEngine(None, {"speed": 3})
    with pytest.raises(NotFound, match="wild"):
        VisemeEngine(None, {"style": "wild"})
