"""A session's face: what it is told to do comes back as face frames and pictures, in the order of the clock."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from fractions import Fraction
from typing import Any

from gateway.mesh import Mesh, Stream, opened
from talkmesh.animation.v1 import animation_pb2
from talkmesh.render.v1 import render_pb2

FrameSink = Callable[[animation_pb2.FaceFrame], Awaitable[None]]
PictureSink = Callable[[render_pb2.VideoFrame], Awaitable[None]]


class Face:
    """Streams to animation and, if pictures are wanted, to render, for one call.

    Orders are queued and sent by a task of their own: whoever gives them may at that moment be what the frames wait for.
    """

    def __init__(
        self,
        animation: Stream[animation_pb2.AnimateRequest, animation_pb2.AnimateResponse],
        started: animation_pb2.AnimationStarted,
        render: Stream[render_pb2.RenderRequest, render_pb2.RenderResponse] | None,
        pictures: render_pb2.RenderStarted | None,
    ) -> None:
        self._animation = animation
        self.started = started
        self._render = render
        self.pictures = pictures
        self._orders: asyncio.Queue[animation_pb2.AnimateRequest] = asyncio.Queue()

    def order(self, **request: Any) -> None:
        """Queue an AnimateRequest, given as its one field."""
        self._orders.put_nowait(animation_pb2.AnimateRequest(**request))

    async def run(self, on_frame: FrameSink, on_picture: PictureSink) -> None:
        """Move frames and pictures until cancelled. Raises ServiceFailed."""
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(self._send_orders())
            pumps.create_task(self._frames(on_frame))
            if self._render:
                pumps.create_task(self._pictures(self._render, on_picture))

    async def _send_orders(self) -> None:
        while True:
            await self._animation.send(await self._orders.get())

    async def _frames(self, on_frame: FrameSink) -> None:
        async for response in self._animation:
            await on_frame(response.frame)
            if self._render:
                await self._render.send(render_pb2.RenderRequest(frame=response.frame))

    async def _pictures(self, render: Stream[Any, render_pb2.RenderResponse], on_picture: PictureSink) -> None:
        async for response in render:
            await on_picture(response.frame)


@asynccontextmanager
async def face(
    mesh: Mesh, rate_hz: int, fps: Fraction, seed: int, portrait: str, size: int, draws: bool
) -> AsyncIterator[Face]:
    """A face on the given clock. Raises ServiceFailed when a service refuses, for example an unknown portrait."""
    async with AsyncExitStack() as stack:
        config = animation_pb2.AnimationConfig(
            sample_rate_hz=rate_hz, fps_numerator=fps.numerator, fps_denominator=fps.denominator, seed=seed
        )
        animation, started = await stack.enter_async_context(
            opened("animation", mesh.animation.Animate(), animation_pb2.AnimateRequest(config=config))
        )
        render, pictures = None, None
        if draws:
            drawing = render_pb2.RenderConfig(
                portrait=portrait,
                width=size,
                height=size,
                fps_numerator=fps.numerator,
                fps_denominator=fps.denominator,
                sample_rate_hz=rate_hz,
                blendshape_names=started.blendshape_names,
            )
            render, pictures = await stack.enter_async_context(
                opened("render", mesh.render.Render(), render_pb2.RenderRequest(config=drawing))
            )
        yield Face(animation, started, render, pictures)
