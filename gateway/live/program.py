"""What a live session sends out, once, and everybody who watches it, each at a pace of their own."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from talkmesh.conversation.v1 import conversation_pb2

SOUND_MS = 20
MOST_KEPT = 500
"""Items that wait for one viewer before the oldest of what was told goes too: minutes of talk."""


@dataclass(frozen=True)
class Sound:
    """SOUND_MS of mono PCM_S16LE from sample `start` on; silence is sent too, so there is never a gap."""

    start: int
    data: bytes
    speaking: bool
    """Whether it belongs to a reply, pauses included."""


@dataclass(frozen=True)
class Picture:
    """An H.264 access unit (Annex B, keyframes with their parameter sets), to be seen from sample `start` on."""

    start: int
    data: bytes
    keyframe: bool
    speaking: bool


@dataclass(frozen=True)
class Told:
    """Whatever else there is to tell; never audio or video."""

    event: conversation_pb2.ConverseResponse


Item = Sound | Picture | Told


def place(item: Item) -> int | None:
    """Where media lies on the clock, the face's numbers among it; None for what is told of no moment."""
    if isinstance(item, Told):
        return item.event.face_frame.start_sample if item.event.HasField("face_frame") else None
    return item.start


def is_before(item: Item, sample: int) -> bool:
    """Whether media lies before a sample."""
    at = place(item)
    return at is not None and at < sample


class Viewer:
    """An async iterator of what is released from now on, beginning with a keyframe; it ends with the session.

    It holds at most `lag_ms` of media for whoever does not take it: then the oldest sound goes, and pictures up to the next
    keyframe, which is asked for. What is told is kept, up to MOST_KEPT.
    """

    def __init__(self, program: "Program", wants: tuple[type[Item], ...], lag_ms: float) -> None:
        self._program = program
        self._wants = wants
        self._lag = round(lag_ms * program.rate_hz / 1000)
        self._items: deque[Item] = deque()
        self._more = asyncio.Event()
        self._broken = True
        """The next picture cannot be decoded without a keyframe."""
        self.dropped_sound_ms = 0.0
        self.dropped_pictures = 0

    def want_keyframe(self) -> None:
        """Have the next picture decodable without those before it."""
        self._program.want_keyframe()

    def offer(self, item: Item) -> None:
        """Queue an item."""
        if not isinstance(item, self._wants):
            return
        if isinstance(item, Picture) and self._skips(item):
            return
        self._items.append(item)
        if (at := place(item)) is not None:
            self._drop_before(at - self._lag)
        elif len(self._items) > MOST_KEPT:
            del self._items[next(index for index, each in enumerate(self._items) if isinstance(each, Told))]
        self._more.set()

    def wake(self) -> None:
        """The session has ended."""
        self._more.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while not self._items:
            if self._program.ended:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        return self._items.popleft()

    def _skips(self, picture: Picture) -> bool:
        """Whether a picture is of no use, because one before it is missing."""
        if picture.keyframe:
            self._broken = False
        elif self._broken:
            self.dropped_pictures += 1
            self.want_keyframe()
        return self._broken

    def _drop_before(self, sample: int) -> None:
        """Forget media that is too old; what was told stays, in its order."""
        if not any(is_before(item, sample) for item in self._items):
            return
        kept: deque[Item] = deque()
        lost_picture = any(isinstance(item, Picture) and item.start < sample for item in self._items)
        for item in self._items:
            if isinstance(item, Sound) and item.start < sample:
                self.dropped_sound_ms += SOUND_MS
            elif isinstance(item, Picture) and lost_picture and not (item.keyframe and item.start >= sample):
                self.dropped_pictures += 1
            elif isinstance(item, Picture) or not is_before(item, sample):
                lost_picture = lost_picture and not isinstance(item, Picture)
                kept.append(item)
        self._items = kept
        if lost_picture:
            self._broken = True
            self.want_keyframe()


class Program:
    """One media clock: samples of `rate_hz` since the session began."""

    def __init__(self, rate_hz: int, fps: Fraction, width: int, height: int) -> None:
        self.rate_hz = rate_hz
        self.fps = fps
        self.width = width
        self.height = height
        self.ended = False
        self.keyframe: Callable[[], None] = lambda: None
        """Asks the renderer for one."""
        self._viewers: set[Viewer] = set()

    @property
    def watched(self) -> int:
        """How many watch."""
        return len(self._viewers)

    @contextmanager
    def watch(
        self, *, sound: bool = True, pictures: bool = True, told: bool = True, lag_ms: float = 1000
    ) -> Iterator[Viewer]:
        """What is released from now on."""
        wants: dict[type[Item], bool] = {Sound: sound, Picture: pictures, Told: told}
        viewer = Viewer(self, tuple(kind for kind, wanted in wants.items() if wanted), lag_ms)
        self._viewers.add(viewer)
        if pictures:
            self.want_keyframe()
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)

    def want_keyframe(self) -> None:
        """Have a picture soon that stands by itself."""
        self.keyframe()

    def release(self, item: Item) -> None:
        """Give an item to everybody."""
        for viewer in self._viewers:
            viewer.offer(item)

    def end(self) -> None:
        """There will be no more."""
        self.ended = True
        for viewer in self._viewers:
            viewer.wake()
