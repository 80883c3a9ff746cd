"""A session's face frames: one sequence of them, each exactly once, through as many animation models as it takes."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gateway.continuing import Backlog, Continued, Services, continued
from gateway.mesh import Stream, opened
from gateway.wishes import Wishes
from talkmesh.animation.v1 import animation_pb2

FADE_FRAMES = 8
LONGEST_REWIND = 32
"""Frames."""
POSE = ("yaw", "pitch", "roll", "x", "y", "scale")
FrameSink = Callable[[animation_pb2.FaceFrame], Awaitable[None]]


class Motion:
    """Orders to an animation model, and the frames that come back. Made by `motion`.

    Orders are kept until the frames that they are about have come, for the model after this one.
    """

    stream: Continued[animation_pb2.AnimateRequest, animation_pb2.AnimateResponse]

    def __init__(self, mesh: Services, wishes: Wishes, first: int = 0) -> None:
        """`first`: number of the first frame."""
        self.backlog: Backlog[animation_pb2.AnimateRequest] = Backlog()
        self._mesh = mesh
        self._wishes = wishes
        self._frames = first
        self._dropped = range(0)
        self._glide = Glide()

    @property
    def names(self) -> Sequence[str]:
        """The blendshapes of all frames, whichever model makes them: those of the first."""
        return self._glide.names

    def order(self, **request: Any) -> None:
        """Queue an AnimateRequest, given as its one field."""
        self.backlog.add(animation_pb2.AnimateRequest(**request))

    def drop(self, first: int, end: int) -> None:
        """Frames that start in [first, end) are not shown, come or not: the next one follows the last before."""
        self._dropped = range(first, end)
        self._glide.rewind(first)

    async def run(self, on_frame: FrameSink) -> None:
        """Take frames until cancelled. Raises ServiceFailed, alone or in a group."""

        async def take(response: animation_pb2.AnimateResponse) -> None:
            frame = response.frame
            if frame.start_sample < self._next:
                return
            self._frames = self._wishes.clock.frames_before(frame.start_sample) + 1
            self.backlog.keep(self._matters())
            if frame.start_sample not in self._dropped:
                self._glide.on(frame)
                await on_frame(frame)

        await self.stream.run(take)

    @property
    def _next(self) -> int:
        """Where the next frame starts."""
        return self._wishes.clock.frame_start(self._frames)

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[tuple[Stream[Any, Any], Any]]:
        """A stream that goes on behind the last frame."""
        clock, fps = self._wishes.clock, self._wishes.clock.fps
        config = animation_pb2.AnimationConfig(
            sample_rate_hz=clock.rate_hz,
            fps_numerator=fps.numerator,
            fps_denominator=fps.denominator,
            seed=self._wishes.seed,
            start_sample=self._next,
        )
        self.backlog.begin_again(self.backlog.kept)
        request = animation_pb2.AnimateRequest(config=config)
        async with opened("animation", self._mesh.animation.Animate(), request) as (stream, started):
            self._glide.turn_to(started.blendshape_names)
            yield stream, started

    def _matters(self) -> Callable[[animation_pb2.AnimateRequest], bool]:
        """Which orders say something about frames to come: an interruption while what it cuts short would."""
        until, older = self._next, False

        def matters(request: animation_pb2.AnimateRequest) -> bool:
            nonlocal older
            match request.WhichOneof("request"):
                case "advance":
                    return request.advance.until_sample > until
                case "interrupt":
                    return older
                case "audio":
                    matter = request.audio.audio.start_sample + len(request.audio.audio.data) // 2 > until
                case _:
                    matter = request.speech.end_sample > until
            older = older or matter
            return matter

        return matters


class Glide:
    """Puts frames of any model into the names of the first, and leads from one model's last frame into the next's.

    The difference between the two is carried over and dies away, so that lips that close still close. D. Bollo,
    "Inertialization: high-performance animation transitions", GDC 2018.
    """

    def __init__(self) -> None:
        self.names: Sequence[str] = ()
        self._places: list[int] | None = None
        self._recent: deque[animation_pb2.FaceFrame] = deque(maxlen=LONGEST_REWIND)
        self._offset: animation_pb2.FaceFrame | None = None
        self._since = FADE_FRAMES

    def turn_to(self, names: Sequence[str]) -> None:
        """The frames that follow are another model's, which names its weights so."""
        self.names = self.names or tuple(names)
        place = {name: index for index, name in enumerate(names)}
        same = tuple(names) == tuple(self.names)
        self._places = None if same else [place.get(name, -1) for name in self.names]
        self._begin()

    def rewind(self, first: int) -> None:
        """Frames from a sample on are not shown: the next one follows what was shown before."""
        while self._recent and self._recent[-1].start_sample >= first:
            self._recent.pop()
        self._begin()

    def _begin(self) -> None:
        self._offset, self._since = None, 0 if self._recent else FADE_FRAMES

    def on(self, frame: animation_pb2.FaceFrame) -> None:
        """Change a frame into what is to be shown."""
        if self._places is not None:
            weights = [frame.weights[place] if place >= 0 else 0.0 for place in self._places]
            frame.weights[:] = weights
        if self._recent and self._since < FADE_FRAMES:
            self._lead(frame, self._recent[-1])
        self._recent.append(frame)

    def _lead(self, frame: animation_pb2.FaceFrame, last: animation_pb2.FaceFrame) -> None:
        if self._offset is None:
            self._offset = difference(last, frame)
        self._since += 1
        left = 1 - smooth(self._since / FADE_FRAMES)
        weights = zip(frame.weights, self._offset.weights, strict=True)
        frame.weights[:] = [min(1.0, max(0.0, weight + left * offset)) for weight, offset in weights]
        for name in POSE:
            setattr(frame.head, name, getattr(frame.head, name) + left * getattr(self._offset.head, name))


def difference(last: animation_pb2.FaceFrame, frame: animation_pb2.FaceFrame) -> animation_pb2.FaceFrame:
    """What is to be added to a frame to have the one before."""
    made = animation_pb2.FaceFrame(weights=[a - b for a, b in zip(last.weights, frame.weights, strict=True)])
    for name in POSE:
        setattr(made.head, name, getattr(last.head, name) - getattr(frame.head, name))
    return made


def smooth(share: float) -> float:
    """From 0 at 0 to 1 at 1, at rest at both ends."""
    return share * share * (3 - 2 * share)


@asynccontextmanager
async def motion(mesh: Services, wishes: Wishes, first: int = 0) -> AsyncIterator[Motion]:
    """`first`: number of the first frame. Raises ServiceFailed when the service refuses."""
    made = Motion(mesh, wishes, first)
    async with continued("animation", made.opening, made.backlog, patience_s=wishes.patience_s) as made.stream:
        yield made
