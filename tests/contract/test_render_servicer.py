"""The render service on the wire: its grammar with an engine that only reports, and once with the real one."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import services.render
from services.render.engine import FaceFrame, Head, Input, KeyframeRequest, RenderConfig, VideoFrame
from services.render.servicer import SERVICE
from services.runtime.engine import GENERATION_KEY, SLOT_KEY, Identity, ModelSpec
from services.runtime.errors import LoadFailed
from talkmesh.animation.v1 import animation_pb2
from talkmesh.render.v1 import render_pb2, render_pb2_grpc

IDENTITY = Identity("render", "reporter", "fake", "sha256:0")
NAMES = ("jawOpen", "eyeBlinkLeft", "mouthClose")
Request = render_pb2.RenderRequest
Response = render_pb2.RenderResponse


class Reporter:
    """Answers each face with a picture that says which it was."""

    portraits = ("mei", "leo")
    sizes = (512, 256)
    blendshape_names = NAMES

    def __init__(self) -> None:
        self.config: RenderConfig | None = None
        self.faces: list[FaceFrame] = []
        self.opened = asyncio.Event()
        self.closed = asyncio.Event()

    async def load(self) -> None: ...

    async def prepare(self, config: RenderConfig) -> None: ...

    async def unload(self) -> None: ...

    async def render(self, config: RenderConfig, inputs: AsyncIterator[Input]) -> AsyncGenerator[VideoFrame, None]:
        self.config = config
        self.opened.set()
        keyframe = True
        try:
            async for item in inputs:
                if isinstance(item, KeyframeRequest):
                    keyframe = True
                    continue
                self.faces.append(item)
                data = f"picture {len(self.faces)}".encode()
                yield VideoFrame(item.turn_id, item.generation, item.start_sample, data, keyframe, 12.5)
                keyframe = False
        finally:
            self.closed.set()


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
async def served(engine: Any) -> AsyncIterator["render_pb2_grpc.RenderServiceAsyncStub"]:
    async with listening(engine) as address, grpc.aio.insecure_channel(address) as channel:
        yield render_pb2_grpc.RenderServiceStub(channel)


@pytest.fixture
async def engine() -> Reporter:
    return Reporter()


@pytest.fixture
async def stub(engine: Reporter) -> AsyncIterator["render_pb2_grpc.RenderServiceAsyncStub"]:
    async with served(engine) as stub:
        yield stub


def config(**fields: Any) -> Request:
    return Request(config=render_pb2.RenderConfig(**fields))


def face(start: int = 0, weights: Iterable[float] = (0.5, 0, 1), **fields: Any) -> Request:
    return Request(frame=animation_pb2.FaceFrame(start_sample=start, weights=weights, **fields))


def turned(**fields: float) -> Request:
    return face(head=animation_pb2.HeadPose(**fields))


def keyframe() -> Request:
    return Request(keyframe=render_pb2.KeyframeRequest())


async def answers(stub: Any, requests: Iterable[Request]) -> list[Response]:
    async with asyncio.timeout(30):
        return [response async for response in stub.Render(iter(requests))]


async def refusal(stub: Any, *requests: Request) -> tuple[str, str]:
    """The field that INVALID_ARGUMENT names, and its message."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await answers(stub, requests)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(cast(grpc.Call, error.value))
    assert status is not None
    request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(request) for detail in status.details)
    return request.field_violations[0].field, status.message


async def test_the_first_response_tells_model_portraits_and_sizes(stub: Any) -> None:
    call = stub.Render(iter([config(portrait="leo")]), metadata=((SLOT_KEY, "candidate"), (GENERATION_KEY, "42")))
    (response,) = [response async for response in call]
    started = response.started
    assert (started.model.service, started.model.model, started.model.digest) == ("render", "reporter", "sha256:0")
    assert (started.model.slot, started.model.slot_generation) == ("candidate", 42)
    assert (started.portrait, list(started.portraits)) == ("leo", ["mei", "leo"])
    assert (started.width, started.height, list(started.sizes)) == (512, 512, [256, 512])


async def test_started_comes_before_any_face(stub: Any) -> None:
    call = stub.Render()
    await call.write(config())
    async with asyncio.timeout(5):
        assert (await call.read()).WhichOneof("response") == "started"
    await call.done_writing()


async def test_an_empty_config_takes_every_default(stub: Any, engine: Reporter) -> None:
    await answers(stub, [config()])
    await engine.opened.wait()
    assert engine.config == RenderConfig("mei", 512, NAMES, Fraction(25), 0)


async def test_the_engine_gets_the_config_in_its_own_words(stub: Any, engine: Reporter) -> None:
    fields = {"width": 256, "height": 256, "fps_numerator": 30000, "fps_denominator": 1001, "crf": 30}
    names = ["mouthClose", "jawOpen"]
    await answers(stub, [config(portrait="leo", sample_rate_hz=24000, blendshape_names=names, **fields)])
    assert engine.config == RenderConfig("leo", 256, tuple(names), Fraction(30000, 1001), 30)


async def test_each_face_is_answered_in_order_with_its_own_ids(stub: Any, engine: Reporter) -> None:
    requests = [config(), face(0), face(1920, turn_id="a", generation=7), keyframe(), face(3840, turn_id="b")]
    _, *pictures = [response.frame for response in await answers(stub, requests)]
    assert [picture.start_sample for picture in pictures] == [0, 1920, 3840]
    assert [(picture.turn_id, picture.generation) for picture in pictures] == [("", 0), ("a", 7), ("b", 0)]
    assert [picture.data for picture in pictures] == [b"picture 1", b"picture 2", b"picture 3"]
    assert [picture.keyframe for picture in pictures] == [True, False, True]
    assert {picture.render_ms for picture in pictures} == {12.5}


async def test_a_face_reaches_the_engine_whole(stub: Any, engine: Reporter) -> None:
    pose = animation_pb2.HeadPose(yaw=3, pitch=-2, roll=1, x=0.25, y=-0.125, scale=1.5)
    await answers(stub, [config(), face(960, (0.25, 0, 1.0005), head=pose), face(961)])
    first, second = engine.faces
    np.testing.assert_array_equal(first.weights, np.array([0.25, 0, 1], np.float32))
    assert first.head == Head(3, -2, 1, 0.25, -0.125, 1.5)
    assert second.head == Head()


async def test_a_pose_without_a_scale_has_the_portraits(stub: Any, engine: Reporter) -> None:
    await answers(stub, [config(), turned(yaw=3)])
    assert engine.faces[0].head == Head(yaw=3)


@pytest.mark.parametrize(
    ("fields", "named", "told"),
    [
        ({"width": 300}, "config.width", "256 or 512, or 0 for 512"),
        ({"width": -512}, "config.width", "256 or 512"),
        ({"height": 1024}, "config.height", "256 or 512"),
        ({"width": 512, "height": 256}, "config.height", "a square picture"),
        ({"fps_numerator": 25}, "config.fps_denominator", "1 or more"),
        ({"fps_numerator": 25, "fps_denominator": -1}, "config.fps_denominator", "1 or more"),
        ({"fps_numerator": 61, "fps_denominator": 1}, "config.fps_numerator", "1 to 60"),
        ({"fps_numerator": -25, "fps_denominator": 1}, "config.fps_numerator", "1 to 60"),
        ({"fps_denominator": 1}, "config.fps_numerator", "1 to 60"),
        ({"sample_rate_hz": 4000}, "config.sample_rate_hz", "8000 to 192000"),
        ({"crf": 52}, "config.crf", "1 to 51"),
        ({"crf": -1}, "config.crf", "1 to 51"),
        ({"blendshape_names": ["jawOpen", "jawDrop"]}, "config.blendshape_names", "'jawDrop' is not known"),
        ({"blendshape_names": ["jawOpen", "jawOpen"]}, "config.blendshape_names", "'jawOpen' is there twice"),
    ],
)
async def test_a_bad_config_field_is_named(stub: Any, fields: dict[str, Any], named: str, told: str) -> None:
    field, message = await refusal(stub, config(**fields))
    assert field == named
    assert told in message


async def test_an_unknown_portrait_is_not_found(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await answers(stub, [config(portrait="zoe")])
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    status = rpc_status.from_call(cast(grpc.Call, error.value))
    assert status is not None
    resource = error_details_pb2.ResourceInfo()
    assert any(detail.Unpack(resource) for detail in status.details)
    assert (resource.resource_type, resource.resource_name) == ("portrait", "zoe")
    assert "mei, leo" in status.message


@pytest.mark.parametrize(
    ("request_", "named", "told"),
    [
        (face(weights=(0, 0)), "frame.weights", "has 2 weights; expected 3"),
        (face(weights=()), "frame.weights", "has 0 weights"),
        (face(weights=(0, float("nan"), 0)), "frame.weights[1]", "is nan; expected 0 to 1"),
        (face(weights=(0, 0, float("inf"))), "frame.weights[2]", "is inf"),
        (face(weights=(-0.1, 0, 0)), "frame.weights[0]", "is -0.1"),
        (face(weights=(0, 1.1, 0)), "frame.weights[1]", "is 1.1"),
        (face(-1), "frame.start_sample", "is -1"),
        (turned(yaw=float("nan")), "frame.head.yaw", "is nan"),
        (turned(roll=90), "frame.head.roll", "-45 to 45"),
        (turned(x=float("-inf")), "frame.head.x", "is -inf"),
        (turned(scale=-1), "frame.head.scale", "0.5 to 2"),
    ],
)
async def test_a_bad_face_is_named(stub: Any, engine: Reporter, request_: Request, named: str, told: str) -> None:
    field, message = await refusal(stub, config(), face(), request_)
    assert field == named
    assert told in message
    assert len(engine.faces) == 1
    assert engine.closed.is_set()


@pytest.mark.parametrize(
    ("requests", "named"),
    [
        ([], "request"),
        ([face()], "request"),
        ([keyframe()], "request"),
        ([Request()], "request"),
        ([config(), config()], "config"),
        ([config(), Request()], "request"),
    ],
)
async def test_config_first_then_data(stub: Any, requests: list[Request], named: str) -> None:
    assert (await refusal(stub, *requests))[0] == named


async def test_cancelling_closes_the_engines_stream(stub: Any, engine: Reporter) -> None:
    call = stub.Render()
    await call.write(config())
    await call.write(face())
    async with asyncio.timeout(5):
        await engine.opened.wait()
    call.cancel()
    async with asyncio.timeout(1):
        await engine.closed.wait()


async def test_a_client_that_vanishes_closes_the_engines_stream(engine: Reporter) -> None:
    async with listening(engine) as address:
        async with grpc.aio.insecure_channel(address) as channel:
            call = render_pb2_grpc.RenderServiceStub(channel).Render()
            await call.write(config())
            async with asyncio.timeout(5):
                await engine.opened.wait()
        async with asyncio.timeout(1):
            await engine.closed.wait()


async def test_warm_up_refuses_an_engine_that_draws_nothing() -> None:
    class Blind(Reporter):
        async def render(self, config: RenderConfig, inputs: AsyncIterator[Input]) -> AsyncGenerator[VideoFrame, None]:
            async for item in inputs:
                if isinstance(item, FaceFrame) and item.start_sample:
                    yield VideoFrame("", 0, 0, b"", False, 0.0)

    with pytest.raises(LoadFailed, match="2 pictures"):
        await SERVICE.warm_up(Blind())


async def test_the_packaged_portraits_become_video() -> None:
    packs = Path(next(iter(services.render.__path__))) / "portraits"
    spec = ModelSpec(engine="warp", options={"portrait": "mei", "sizes": [256]})
    engine = SERVICE.engine(spec, packs)
    await engine.load()
    try:
        await SERVICE.warm_up(engine)
        faces = [face(at * 1920, (0.02 * at, 0)) for at in range(20)]
        names = ["jawOpen", "eyeBlinkLeft"]
        async with served(engine) as stub:
            started, *rest = await answers(
                stub, [config(portrait="leo", blendshape_names=names), *faces[:12], keyframe(), *faces[12:]]
            )
    finally:
        await engine.unload()
    assert (started.started.width, list(started.started.portraits)) == (256, ["mei", "leo"])
    pictures = [response.frame for response in rest]
    assert [at for at, picture in enumerate(pictures) if picture.keyframe] == [0, 12]
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for picture in pictures for frame in decoder.decode(av.Packet(picture.data))]
    frames += decoder.decode(None)
    assert {(frame.width, frame.height) for frame in frames} == {(256, 256)}
    first, last = (frames[at].to_ndarray(format="bgr24").astype(int) for at in (0, -1))
    assert len(frames) == 20
    assert np.abs(first - last).mean() > 0.2
