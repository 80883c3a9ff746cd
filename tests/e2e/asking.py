"""How tests of the whole mesh ask, and what they collect."""

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from talkmesh import Audio, Event, FaceFrame, Mp4, Phonemes, ReplyClause, Started, Transcript, TurnDone, Video


@dataclass
class Answer:
    """The events of a turn, by kind."""

    events: list[Event] = field(default_factory=list)

    def all(self, *kinds: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kinds)]

    @property
    def audio(self) -> list[Audio]:
        return [event for event in self.events if isinstance(event, Audio)]

    @property
    def video(self) -> list[Video]:
        return [event for event in self.events if isinstance(event, Video)]

    @property
    def faces(self) -> list[FaceFrame]:
        return [event for event in self.events if isinstance(event, FaceFrame)]

    @property
    def phonemes(self) -> list[Phonemes]:
        return [event for event in self.events if isinstance(event, Phonemes)]

    @property
    def clauses(self) -> list[ReplyClause]:
        return [event for event in self.events if isinstance(event, ReplyClause)]

    @property
    def transcripts(self) -> list[Transcript]:
        return [event for event in self.events if isinstance(event, Transcript)]

    @property
    def mp4(self) -> bytes:
        return b"".join(event.data for event in self.events if isinstance(event, Mp4))

    @property
    def started(self) -> Started:
        return next(event for event in self.events if isinstance(event, Started))

    @property
    def done(self) -> TurnDone:
        return next(event for event in self.events if isinstance(event, TurnDone))


async def collect(events: AsyncIterator[Event]) -> Answer:
    """Everything of one turn."""
    return Answer([event async for event in events])


def check_one_timeline(answer: Answer, rate_hz: int, frame: int) -> None:
    """Audio, phonemes, face frames and pictures of the reply tile the same stretch of one clock."""
    done = answer.done
    audio = [chunk for chunk in answer.audio if chunk.start_sample >= done.start_sample]
    at = done.start_sample
    for chunk in audio:
        assert chunk.start_sample == at
        at += len(chunk.data) // 2
    assert at == done.end_sample
    assert any(any(chunk.data) for chunk in audio)
    for kind in (answer.video, answer.faces):
        starts = [event.start_sample for event in kind if event.start_sample >= done.start_sample]
        assert starts == list(range(done.start_sample, done.end_sample, frame))
    assert answer.video[0].keyframe
    spans = [span for clause in answer.phonemes for span in clause.phonemes]
    assert spans[0].start_sample == done.start_sample
    assert all(a.end_sample == b.start_sample for a, b in itertools.pairwise(spans))
    assert spans[-1].end_sample <= done.end_sample
    assert sum(span.end_sample - span.start_sample for span in spans) > 0.4 * rate_hz
