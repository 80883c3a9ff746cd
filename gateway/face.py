"""A session's face: what it is told to do comes back as face frames and pictures, in the order of the clock."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from gateway import speech, turn
from gateway.mesh import Mesh, Stream, opened
from gateway.wishes import Wishes
from talkmesh.animation.v1 import animation_pb2
from talkmesh.audio.v1 import audio_pb2
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

    def follow(
        self, command: turn.MoveFace | turn.MoveFaceByAudio | turn.Advance, turn_id: str, generation: int
    ) -> None:
        """Do what a turn says about the face."""
        match command:
            case turn.MoveFace(start, end, phonemes, expression):
                said = animation_pb2.Speech(
                    turn_id=turn_id,
                    generation=generation,
                    start_sample=start,
                    end_sample=end,
                    phonemes=speech.phoneme_protos(phonemes),
                    expression=speech.expression_proto(expression),
                )
                self.order(speech=said)
            case turn.MoveFaceByAudio(start, data, expression):
                heard = animation_pb2.SpeechAudio(
                    turn_id=turn_id,
                    generation=generation,
                    audio=audio_pb2.AudioChunk(start_sample=start, data=data),
                    expression=speech.expression_proto(expression),
                )
                self.order(audio=heard)
            case turn.Advance(until):
                self.advance(until)

    def advance(self, until: int) -> None:
        """Have the frames before a sample made."""
        self.order(advance=animation_pb2.Advance(until_sample=until))

    def cut(self, at: int, generation: int) -> None:
        """Forget the speech of generations before this one from a sample on."""
        self.order(interrupt=animation_pb2.Interrupt(generation=generation, at_sample=at))

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
async def face(mesh: Mesh, wishes: Wishes) -> AsyncIterator[Face]:
    """The face that a call wishes for. Raises ServiceFailed when a service refuses, for example an unknown portrait."""
    rate_hz, fps = wishes.clock.rate_hz, wishes.clock.fps
    async with AsyncExitStack() as stack:
        config = animation_pb2.AnimationConfig(
            sample_rate_hz=rate_hz, fps_numerator=fps.numerator, fps_denominator=fps.denominator, seed=wishes.seed
        )
        animation, started = await stack.enter_async_context(
            opened("animation", mesh.animation.Animate(), animation_pb2.AnimateRequest(config=config))
        )
        render, pictures = None, None
        if wishes.draws:
            drawing = render_pb2.RenderConfig(
                portrait=wishes.config.portrait,
                width=wishes.config.size,
                height=wishes.config.size,
                fps_numerator=fps.numerator,
                fps_denominator=fps.denominator,
                sample_rate_hz=rate_hz,
                blendshape_names=started.blendshape_names,
            )
            render, pictures = await stack.enter_async_context(
                opened("render", mesh.render.Render(), render_pb2.RenderRequest(config=drawing))
            )
        yield Face(animation, started, render, pictures)
