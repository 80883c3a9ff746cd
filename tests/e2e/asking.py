"""How tests of the whole mesh ask, and what they collect."""

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
