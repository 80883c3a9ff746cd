"""What is kept: exposures, turns, feedback. Each has an id of its own, so that writing it twice is writing it once."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError


@dataclass(frozen=True)
class Exposure:
    """A session was given a variant of a flag; once for both."""

    session: str
    flag: str
    variant: str
    reason: str
    """"SPLIT" or "TARGETING_MATCH"."""
    stale: bool
    """Whether etcd was away."""
    arms: str
    """Fingerprint of the flag's arms then: those of different arms are not compared."""
    unit_kind: str
    unit: str
    """What was hashed, itself as a hash unless it was asked to keep ids."""
    at_ms: int
    """Milliseconds since 1970, UTC."""
    kind: Literal["exposure"] = "exposure"


@dataclass(frozen=True)
class Given:
    """A variant that a turn was made with."""

    flag: str
    variant: str
    reason: str


@dataclass(frozen=True)
class Turn:
    """A turn that is over; session and turn together are its id."""

    session: str
    turn: str
    at_ms: int
    outcome: str
    """"completed", "interrupted", "nothing_heard", "continued", "failed", "abandoned" or "not_begun"."""
    first_audio_ms: float | None = None
    first_video_ms: float | None = None
    gap_ms: float | None = None
    """The longest gap in what was heard."""
    models: str = ""
    """Those that made it: "llm=smollm2-135m tts=joe"."""
    given: tuple[Given, ...] = ()
    user_text: str | None = None
    reply_text: str | None = None
    kind: Literal["turn"] = "turn"


@dataclass(frozen=True)
class Feedback:
    """What a user thought of a session, or of one of its turns."""

    id: str
    session: str
    turn: str
    at_ms: int
    score: float
    """-1 to 1."""
    comment: str | None = None
    kind: Literal["feedback"] = "feedback"


Record = Exposure | Turn | Feedback
RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def line_of(record: Record) -> bytes:
    """A record as a line of JSON, with its end."""
    return RECORD.dump_json(record) + b"\n"


def record_of(line: bytes) -> Record:
    """Raises ValueError for a line that is no record."""
    try:
        return RECORD.validate_json(line)
    except ValidationError as error:
        # The message of it may tell what stands there.
        raise ValueError(f"is no record ({error.errors(include_input=False)[0]['type']})") from None
