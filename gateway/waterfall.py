"""Where the time of a turn went, from the end of the user's turn to the first picture of the talking face."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from talkmesh.conversation.v1 import conversation_pb2

STAGES = ("asr_final", "first_token", "first_clause", "first_audio", "first_face_frame", "first_video_frame")
LIVE_STAGES = (*STAGES[:3], "synthesis", "endpoint", *STAGES[3:])
"""Speech is made while it is waited for the end of the user's turn."""


@dataclass
class Waterfall:
    """Marks of the stages that a turn goes through, in seconds of one monotonic clock. A mark is set once."""

    began: float | None = None
    marks: dict[str, float] = field(default_factory=dict)
    engine_ms: dict[str, float] = field(default_factory=dict)
    stages: tuple[str, ...] = STAGES
    """In the order in which their durations are told."""
    gap_ms: float = 0.0
    """The longest time for which the reply's next sound was due and not there."""
    _due: float | None = None

    def sound(self, at: float, duration_s: float) -> None:
        """So much sound has come for whoever plays it as it comes."""
        due = at if self._due is None else self._due
        self.gap_ms = max(self.gap_ms, 1000 * (at - due))
        self._due = max(at, due) + duration_s

    def begin(self, at: float) -> None:
        """The user's turn has ended."""
        self.began = at

    def mark(self, stage: str, at: float, engine_ms: float = 0.0) -> None:
        """A stage is reached, after `engine_ms` of work in its engine; later marks of it are not the first and ignored."""
        if stage not in self.marks:
            self.marks[stage] = at
            self.engine_ms[stage] = engine_ms

    def since_begin_ms(self, stage: str) -> float:
        """From the end of the user's turn to a stage; 0 if it was not reached."""
        if self.began is None or stage not in self.marks:
            return 0.0
        return 1000 * (self.marks[stage] - self.began)

    def reached(self) -> Iterator[tuple[str, float, float]]:
        """The stages reached, each with its begin and end in seconds: they tile the whole interval."""
        last = self.began or 0.0
        for name in self.stages:
            if name in self.marks:
                begin, last = last, max(last, self.marks[name])
                yield name, begin, last

    def proto(self) -> conversation_pb2.Waterfall:
        """The stages reached, as durations."""
        stages = []
        for name, begin, end in self.reached():
            duration_ms = 1000 * (end - begin)
            mesh_ms = max(0.0, duration_ms - self.engine_ms[name])
            stages.append(conversation_pb2.Stage(name=name, duration_ms=duration_ms, mesh_ms=mesh_ms))
        return conversation_pb2.Waterfall(
            stages=stages,
            first_audio_ms=self.since_begin_ms("first_audio"),
            first_video_ms=self.since_begin_ms("first_video_frame"),
            longest_gap_ms=self.gap_ms,
        )
