"""RenderService on the wire: checks what is sent and translates between messages and the engine's words."""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from fractions import Fraction
from typing import Any

import grpc
import numpy as np

from services.render import validation
from services.render.engine import (
    FaceFrame,
    Head,
    Input,
    KeyframeRequest,
    RenderConfig,
    RenderEngine,
    VideoFrame,
    Weights,
)
from services.runtime import priority
from services.runtime.engine import Identity, Service
from services.runtime.errors import InvalidInput, LoadFailed, NotFound
from services.runtime.statuses import told_as_status
from services.runtime.streams import config_and_data
from services.runtime.tracing import StreamTrace
from talkmesh.animation.v1 import animation_pb2
from talkmesh.render.v1 import render_pb2, render_pb2_grpc

DEFAULT_FPS = Fraction(25)
RATES_HZ = range(8000, 192001)
SLACK = 1e-3
LIMITS = {
    "yaw": (-45, 45),
    "pitch": (-45, 45),
    "roll": (-45, 45),
    "x": (-0.5, 0.5),
    "y": (-0.5, 0.5),
    "scale": (0.5, 2),
}
Response = render_pb2.RenderResponse


class RenderServicer(render_pb2_grpc.RenderServiceServicer):
    """Draws the faces of each call with one engine."""

    def __init__(self, engine: RenderEngine, identity: Identity) -> None:
        self._engine = engine
        self._identity = identity

    @told_as_status
    async def Render(
        self, requests: AsyncIterator[render_pb2.RenderRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[Response, None]:
        """Ends when the client half-closes and everything is drawn; cancelling drops what was not sent."""
        first, data = await config_and_data(requests, render_pb2.RenderConfig)
        config = config_of(first.config, self._engine)
        await self._engine.prepare(config)
        yield self._started(config, context)
        trace = StreamTrace(self._identity.serving(context))
        async with (
            aclosing(inputs(data, len(config.blendshape_names))) as faces,
            aclosing(self._engine.render(config, faces)) as pictures,
        ):
            async for picture in pictures:
                trace.first("render.render", picture.turn_id, picture.render_ms)
                yield response(picture)

    def _started(self, config: RenderConfig, context: grpc.aio.ServicerContext[Any, Any]) -> Response:
        return Response(
            started=render_pb2.RenderStarted(
                model=self._identity.serving(context),
                width=config.size,
                height=config.size,
                portrait=config.portrait,
                portraits=self._engine.portraits,
                sizes=sorted(self._engine.sizes),
            )
        )


def config_of(config: render_pb2.RenderConfig, engine: RenderEngine) -> RenderConfig:
    """What a call asks of the engine. Raises NotFound for an unknown portrait, InvalidInput for anything else wrong."""
    portrait = config.portrait or engine.portraits[0]
    if portrait not in engine.portraits:
        raise NotFound("portrait", portrait, engine.portraits)
    if config.sample_rate_hz and config.sample_rate_hz not in RATES_HZ:
        raise InvalidInput("config.sample_rate_hz", f"is {config.sample_rate_hz}", "8000 to 192000")
    if not 0 <= config.crf <= 51:
        raise InvalidInput("config.crf", f"is {config.crf}", "1 to 51, or 0 for the model's default")
    size = size_of(config, engine.sizes)
    return RenderConfig(portrait, size, names_of(config, engine.blendshape_names), fps_of(config), config.crf)


def size_of(config: render_pb2.RenderConfig, sizes: Sequence[int]) -> int:
    width, height = config.width, config.height
    offered = f"{' or '.join(map(str, sorted(sizes)))}, or 0 for {sizes[0]}"
    if width and width not in sizes:
        raise InvalidInput("config.width", f"is {width}", offered)
    if height and height not in sizes:
        raise InvalidInput("config.height", f"is {height}", offered)
    if width and height and width != height:
        raise InvalidInput("config.height", f"{height} is not the width ({width})", "a square picture")
    return width or height or sizes[0]


def fps_of(config: render_pb2.RenderConfig) -> Fraction:
    numerator, denominator = config.fps_numerator, config.fps_denominator
    if numerator == denominator == 0:
        return DEFAULT_FPS
    if denominator <= 0:
        raise InvalidInput("config.fps_denominator", f"is {denominator}", "1 or more")
    if not 1 <= Fraction(numerator, denominator) <= 60:
        raise InvalidInput("config.fps_numerator", f"{numerator}/{denominator} frames a second", "1 to 60 a second")
    return Fraction(numerator, denominator)


def names_of(config: render_pb2.RenderConfig, known: Sequence[str]) -> tuple[str, ...]:
    names = tuple(config.blendshape_names) or tuple(known)
    if unknown := next((name for name in names if name not in known), None):
        raise InvalidInput("config.blendshape_names", f"{unknown!r} is not known", f"names like {', '.join(known[:5])}")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput("config.blendshape_names", f"{twice!r} is there twice", "each name once")
    return names


async def inputs(data: AsyncIterator[render_pb2.RenderRequest], count: int) -> AsyncGenerator[Input, None]:
    """The stream's data in the engine's words."""
    async for request in data:
        if request.WhichOneof("request") == "keyframe":
            yield KeyframeRequest()
        else:
            yield face_of(request.frame, count)


def face_of(frame: animation_pb2.FaceFrame, count: int) -> FaceFrame:
    """Raises InvalidInput naming the field."""
    if frame.start_sample < 0:
        raise InvalidInput("frame.start_sample", f"is {frame.start_sample}", "0 or more")
    head = head_of(frame.head) if frame.HasField("head") else Head()
    return FaceFrame(frame.turn_id, frame.generation, frame.start_sample, weights_of(frame.weights, count), head)


def weights_of(sent: Sequence[float], count: int) -> Weights:
    if len(sent) != count:
        raise InvalidInput("frame.weights", f"has {len(sent)} weights", f"{count}, one for each blendshape name")
    weights = np.fromiter(sent, np.float32, count)
    # A comparison with NaN is false, so this finds those too.
    wrong = np.flatnonzero(~((weights >= -SLACK) & (weights <= 1 + SLACK)))
    if len(wrong):
        raise InvalidInput(f"frame.weights[{wrong[0]}]", f"is {weights[wrong[0]]:g}", "0 to 1")
    return weights.clip(0, 1)


def head_of(pose: animation_pb2.HeadPose) -> Head:
    values = {name: float(getattr(pose, name)) for name in LIMITS}
    values["scale"] = values["scale"] or 1.0
    for name, (low, high) in LIMITS.items():
        if math.isnan(values[name]) or not low <= values[name] <= high:
            raise InvalidInput(f"frame.head.{name}", f"is {values[name]:g}", f"{low} to {high}")
    return Head(**values)


def response(picture: VideoFrame) -> Response:
    return Response(
        frame=render_pb2.VideoFrame(
            turn_id=picture.turn_id,
            generation=picture.generation,
            start_sample=picture.start_sample,
            data=picture.data,
            keyframe=picture.keyframe,
            render_ms=picture.render_ms,
        )
    )


def attach(server: grpc.aio.Server, engine: RenderEngine, identity: Identity) -> None:
    """Add the servicer of `engine` to `server`."""
    render_pb2_grpc.add_RenderServiceServicer_to_server(RenderServicer(engine, identity), server)


async def warm_up(engine: RenderEngine) -> None:
    """Draw a face that uses every blendshape a little. Raises LoadFailed unless each face becomes one picture."""
    names = engine.blendshape_names
    config = RenderConfig(engine.portraits[0], engine.sizes[0], names)

    async def faces() -> AsyncGenerator[Input, None]:
        for index in range(3):
            weights = np.full(len(names), index * 0.1, np.float32)
            yield FaceFrame("", 0, index, weights, Head(yaw=float(index)))

    async with aclosing(engine.render(config, faces())) as pictures:
        drawn = [picture async for picture in pictures]
    if len(drawn) != 3 or not drawn[0].keyframe or not all(picture.data for picture in drawn):
        raise LoadFailed(f"three faces became {len(drawn)} pictures")


SERVICE = Service(
    name="render",
    grpc_name=render_pb2.DESCRIPTOR.services_by_name["RenderService"].full_name,
    engines={"warp": "services.render.engines.warp:WarpEngine"},
    attach=attach,
    warm_up=warm_up,
    interface=validation.interface,
    measure=validation.measure,
    nice=priority.PICTURES_NICE,
)
