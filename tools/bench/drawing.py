"""How long a picture takes to draw and encode, with the machine to itself."""

from collections.abc import AsyncIterator, Sequence

import grpc

from talkmesh import FaceFrame, Started
from talkmesh.animation.v1 import animation_pb2
from talkmesh.render.v1 import render_pb2, render_pb2_grpc

WARM_UP_PICTURES = 10


async def drawing_ms(address: str, started: Started, frames: Sequence[FaceFrame], size: int) -> list[float]:
    """Time of each picture when the faces of real answers are sent to the render service at `address`, one after another."""

    async def requests() -> AsyncIterator[render_pb2.RenderRequest]:
        yield render_pb2.RenderRequest(
            config=render_pb2.RenderConfig(
                width=size,
                height=size,
                fps_numerator=started.fps.numerator,
                fps_denominator=started.fps.denominator,
                sample_rate_hz=started.sample_rate_hz,
                blendshape_names=started.blendshape_names,
            )
        )
        for number, frame in enumerate(frames):
            yaw, pitch, roll, x, y, scale = frame.head
            yield render_pb2.RenderRequest(
                frame=animation_pb2.FaceFrame(
                    start_sample=number * 960,
                    weights=frame.weights,
                    head=animation_pb2.HeadPose(yaw=yaw, pitch=pitch, roll=roll, x=x, y=y, scale=scale),
                )
            )

    async with grpc.aio.insecure_channel(address) as channel:
        stub: render_pb2_grpc.RenderServiceAsyncStub = render_pb2_grpc.RenderServiceStub(channel)
        taken = [
            response.frame.render_ms
            async for response in stub.Render(requests())
            if response.WhichOneof("response") == "frame"
        ]
    return taken[WARM_UP_PICTURES:]
