"""A session's pictures: one for each face frame, in order, through as many render models as it takes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gateway.continuing import Backlog, Continued, Services, continued
from gateway.mesh import Stream, opened
from gateway.wishes import Wishes
from talkmesh.animation.v1 import animation_pb2
from talkmesh.render.v1 import render_pb2

PictureSink = Callable[[render_pb2.VideoFrame], Awaitable[None]]


class Pictures:
    """Frames to a render model, kept until their pictures have come. Made by `pictures`."""

    stream: Continued[render_pb2.RenderRequest, render_pb2.RenderResponse]

    def __init__(self, mesh: Services, wishes: Wishes, names: Sequence[str]) -> None:
        self.backlog: Backlog[render_pb2.RenderRequest] = Backlog()
        self.started = render_pb2.RenderStarted()
        """What the first model said: the size and the portrait stay as they are for the whole call."""
        self._mesh = mesh
        self._config = render_pb2.RenderConfig(
            portrait=wishes.config.portrait,
            width=wishes.config.size,
            height=wishes.config.size,
            fps_numerator=wishes.clock.fps.numerator,
            fps_denominator=wishes.clock.fps.denominator,
            sample_rate_hz=wishes.clock.rate_hz,
            blendshape_names=names,
        )

    def draw(self, frame: animation_pb2.FaceFrame) -> None:
        """Queue a frame."""
        self.backlog.add(render_pb2.RenderRequest(frame=frame))

    def want_keyframe(self) -> None:
        """The next picture is one that can be decoded without those before it."""
        if not self._keyframe_waits:
            self.backlog.add(render_pb2.RenderRequest(keyframe=render_pb2.KeyframeRequest()))

    @property
    def under_way(self) -> int:
        """Frames whose pictures have not come."""
        return sum(sent.HasField("frame") for sent in self.backlog.kept)

    @property
    def _keyframe_waits(self) -> bool:
        """Whether the next frame's picture will be one anyway."""
        return bool(self.backlog.kept) and self.backlog.kept[-1].HasField("keyframe")

    async def run(self, on_picture: PictureSink) -> None:
        """Take pictures until cancelled. Raises ServiceFailed, alone or in a group."""

        async def take(response: render_pb2.RenderResponse) -> None:
            # Requests for keyframes have no answer of their own.
            frames = (index for index, sent in enumerate(self.backlog.kept, 1) if sent.HasField("frame"))
            self.backlog.answered(next(frames, 0))
            await on_picture(response.frame)

        await self.stream.run(take)

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[tuple[Stream[Any, Any], Any]]:
        """A stream that has the session's portrait ready."""
        request = render_pb2.RenderRequest(config=self._config)
        async with opened("render", self._mesh.render.Render(), request) as (stream, started):
            yield stream, started

    def begin(self, started: render_pb2.RenderStarted) -> None:
        """Have the stream draw what has no picture yet; a later one begins with a keyframe."""
        waiting = [sent for sent in self.backlog.kept if sent.HasField("frame")]
        keyframe = render_pb2.RenderRequest(keyframe=render_pb2.KeyframeRequest())
        self.backlog.begin_again([keyframe, *waiting] if self.started.width else waiting)
        if not self.started.width:
            self.started.CopyFrom(started)
            self._config.width, self._config.height = started.width, started.height
            self._config.portrait = started.portrait


@asynccontextmanager
async def pictures(mesh: Services, wishes: Wishes, names: Sequence[str]) -> AsyncIterator[Pictures]:
    """Raises ServiceFailed when the service refuses, for example an unknown portrait."""
    made = Pictures(mesh, wishes, names)
    patience_s, ahead = wishes.patience_s, wishes.is_live
    going_on = continued("render", made.opening, made.backlog, patience_s=patience_s, begin=made.begin, ahead=ahead)
    async with going_on as made.stream:
        yield made
