"""A live session cut into segments for HLS, each of which begins with a keyframe."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from gateway.live.program import Picture, Program, Sound
from gateway.mp4 import Mp4Writer
from gateway.outputs.boxes import BoxReader, Fragment, Header
from gateway.outputs.h264 import ParameterSets, parameter_sets, units

LEAST_S = 0.8
"""From when on a keyframe begins a new segment, and is asked for."""


@dataclass(frozen=True)
class Initialization:
    """What a player reads before segments; `number` is the sample from which on they need it."""

    number: int
    data: bytes


@dataclass(frozen=True)
class Segment:
    """Sound and pictures of `duration_s` seconds from sample `start` of the session's clock on."""

    start: int
    duration_s: float
    data: bytes
    initialization: int
    """The number of the Initialization that it needs."""


class Segmenter:
    """Cuts what it is given, which begins with a keyframe, into segments."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._sets: ParameterSets | None = None
        self._muxed: Muxed | None = None
        self._cut_at = 0

    def keyframe_due(self, picture: Picture) -> bool:
        """Whether a segment should begin soon."""
        return not picture.keyframe and self._long_enough(picture)

    def add(self, item: Sound | Picture) -> Iterator[Initialization | Segment]:
        """What is complete now."""
        if isinstance(item, Sound):
            if self._muxed:
                yield from self._muxed.sound(item)
            return
        sets = parameter_sets(units(item.data)) if item.keyframe else None
        if sets is not None and sets != self._sets:
            # A player takes these from the initialization only.
            yield from self.end()
            self._sets, self._cut_at = sets, item.start
            self._muxed = Muxed(self._program, item.start)
        if self._muxed:
            cuts = item.keyframe and self._long_enough(item)
            self._cut_at = item.start if cuts else self._cut_at
            yield from self._muxed.picture(item, cuts)

    def end(self) -> Iterator[Initialization | Segment]:
        """What is left."""
        muxed, self._muxed = self._muxed, None
        if muxed:
            yield from muxed.end()

    def _long_enough(self, picture: Picture) -> bool:
        return picture.start - self._cut_at >= LEAST_S * self._program.rate_hz


class Muxed:
    """The segments of one initialization."""

    def __init__(self, program: Program, start: int) -> None:
        self._program, self._origin = program, start
        self._writer = Mp4Writer(program.width, program.height, program.fps, program.rate_hz, start_sample=start)
        self._boxes = BoxReader()
        self._timescale = 0
        self._cuts: list[int] = []
        """Where segments are to begin, the first of which is still being filled."""
        self._start = self._end = start
        self._parts: list[bytes] = []

    def picture(self, picture: Picture, cuts: bool) -> Iterator[Initialization | Segment]:
        if cuts:
            self._cuts.append(picture.start)
        self._end = picture.start + int(self._program.rate_hz / self._program.fps)
        yield from self._taken(self._writer.video(picture.data, picture.start, picture.keyframe))

    def sound(self, sound: Sound) -> Iterator[Initialization | Segment]:
        # Sound is ahead of pictures: the first of it was in the segments of the initialization before.
        if sound.start >= self._origin:
            yield from self._taken(self._writer.audio(sound.data, sound.start))

    def end(self) -> Iterator[Initialization | Segment]:
        yield from self._taken(self._writer.close())
        if self._parts:
            yield self._segment(self._end)

    def _taken(self, data: bytes) -> Iterator[Initialization | Segment]:
        for box in self._boxes.take(data):
            if isinstance(box, Header):
                self._timescale = box.video_timescale
                yield Initialization(self._origin, box.data)
            else:
                begins = self._position(box)
                if self._cuts and begins is not None and begins >= self._cuts[0]:
                    yield self._segment(self._cuts.pop(0))
                self._parts.append(box.data)

    def _position(self, fragment: Fragment) -> int | None:
        """Where on the session's clock a fragment's first picture lies."""
        if fragment.video_time is None:
            return None
        return self._origin + round(Fraction(fragment.video_time * self._program.rate_hz, self._timescale))

    def _segment(self, end: int) -> Segment:
        """What was collected, which lasts up to `end`."""
        start, self._start = self._start, end
        data = b"".join(self._parts)
        self._parts.clear()
        return Segment(start, (end - start) / self._program.rate_hz, data, self._origin)
