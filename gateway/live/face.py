"""The face of a live session: in time, frame by frame, and at once somewhere else when a reply begins, pauses or is cut.

Frames are ordered a little ahead of their time. Those that were ordered and are not wanted any more are dropped when they
come, and the frames after them take their places: the services' own clock ("face clock") runs ahead of the session's by as
much.
"""

from collections import deque
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.face import Face
from gateway.live.script import Part
from gateway.turn import MoveFace, MoveFaceByAudio, moved
from talkmesh.animation.v1 import animation_pb2

KEPT_SEGMENTS = 64


@dataclass
class Segment:
    """Frames of the face clock from `first` on that lie `ahead` frames before their number on the session's; up to `end`."""

    first: int
    ahead: int
    end: int | None = None
    """Frames from here on are dropped, up to the next segment; None while nothing is."""


class Places:
    """Where frames of the face clock belong on the session's."""

    def __init__(self, first: int) -> None:
        self._segments: deque[Segment] = deque([Segment(first, 0)], KEPT_SEGMENTS)

    @property
    def ahead(self) -> int:
        """Frames by which the face clock is ahead now."""
        return self._segments[-1].ahead

    def drop(self, first: int, end: int) -> None:
        """Frames [first, end) of the face clock are not wanted: `end` takes the place of `first`."""
        for segment in self._segments:
            if segment.end is None or segment.end > first:
                segment.end = max(segment.first, first)
        self._segments.append(Segment(end, end - (first - self.ahead)))

    def of(self, frame: int) -> int | None:
        """The session's frame; None for one that is dropped."""
        for segment in reversed(self._segments):
            if frame >= segment.first:
                return None if segment.end is not None and frame >= segment.end else frame - segment.ahead
        return None


class LiveFace:
    """Orders to the services behind a `Face`, in the session's samples, and the places of what comes back."""

    def __init__(self, clock: Clock, face: Face, first: int, generation: int) -> None:
        """`first`: the session's first frame; `generation`: of what this face says, more than any before."""
        self._clock = clock
        self._face = face
        self._places = Places(first)
        self._ordered = first
        """Frames of the face clock before this one are ordered."""
        self.generation = generation

    @property
    def horizon(self) -> int:
        """The session's first sample whose frame is not ordered yet."""
        return self._clock.frame_start(self._ordered - self._places.ahead)

    def order(self, until: int) -> None:
        """Have the frames before a sample made."""
        frame = self._clock.frames_before(until) + self._places.ahead
        if frame > self._ordered:
            self._ordered = frame
            self._face.advance(self._clock.frame_start(frame))

    def say(self, part: Part, turn_id: str) -> None:
        """What will be heard, in the session's samples."""
        if not part.phonemes:
            return
        by = self._offset
        start, end = part.start + by, part.end + by
        speech = MoveFace(start, end, moved(part.phonemes, by), part.expression)
        self._face.follow(speech, turn_id, self.generation)

    def follow(self, start: int, data: bytes, part: Part, turn_id: str) -> None:
        """Audio that will be heard, of which no phonemes are known."""
        if data:
            heard = MoveFaceByAudio(start + self._offset, data, part.expression)
            self._face.follow(heard, turn_id, self.generation)

    def cut(self, at: int) -> None:
        """Nothing is said from a sample on; frames that show otherwise are dropped as far as they are not due yet."""
        first = self._clock.frames_before(at) + self._places.ahead
        if first < self._ordered:
            self._places.drop(first, self._ordered)
            self._face.motion.drop(self._clock.frame_start(first), self._clock.frame_start(self._ordered))
            self.want_keyframe()
        self.generation += 1
        self._face.cut(self._clock.frame_start(self._ordered), self.generation)

    def want_keyframe(self) -> None:
        """Have the next picture stand by itself."""
        if self._face.pictures:
            self._face.pictures.want_keyframe()

    @property
    def draws(self) -> bool:
        """Whether there are pictures."""
        return self._face.pictures is not None

    @property
    def under_way(self) -> int:
        """Frames whose pictures have not come."""
        return self._face.pictures.under_way if self._face.pictures else 0

    def draw(self, frame: animation_pb2.FaceFrame) -> None:
        """Have a picture made of a frame."""
        if self._face.pictures:
            self._face.pictures.draw(frame)

    def placed(self, start: int) -> int | None:
        """Where what starts at a sample of the face clock is shown; None if it is not."""
        frame = self._places.of(self._clock.frames_before(start))
        return None if frame is None else self._clock.frame_start(frame)

    @property
    def _offset(self) -> int:
        return self._clock.frame_start(self._places.ahead)
