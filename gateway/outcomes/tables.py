"""The tables of the store. Times are milliseconds since 1970, UTC; ids are those of `records`."""

from sqlalchemy import BigInteger, Double, ForeignKeyConstraint, Index
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA = 1
"""Version of all that follows. A change of it needs a way from the one before in `schema`."""


class Table(DeclarativeBase):
    """All of them."""

    type_annotation_map = {float: Double}  # noqa: RUF012  # as SQLAlchemy wants it


class SchemaRow(Table):
    """The version of the tables, in one row."""

    __tablename__ = "schema_version"

    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]


class ExposureRow(Table):
    __tablename__ = "exposures"
    __table_args__ = (Index("exposures_of_arms", "flag", "arms"), Index("exposures_by_age", "at_ms"))

    session: Mapped[str] = mapped_column(primary_key=True)
    flag: Mapped[str] = mapped_column(primary_key=True)
    variant: Mapped[str]
    reason: Mapped[str]
    stale: Mapped[bool]
    arms: Mapped[str]
    unit_kind: Mapped[str]
    unit: Mapped[str]
    at_ms: Mapped[int] = mapped_column(BigInteger)


class TurnRow(Table):
    __tablename__ = "turns"
    __table_args__ = (Index("turns_by_age", "at_ms"),)

    session: Mapped[str] = mapped_column(primary_key=True)
    turn: Mapped[str] = mapped_column(primary_key=True)
    at_ms: Mapped[int] = mapped_column(BigInteger)
    outcome: Mapped[str]
    first_audio_ms: Mapped[float | None]
    first_video_ms: Mapped[float | None]
    gap_ms: Mapped[float | None]
    interrupted: Mapped[bool]
    models: Mapped[str]
    user_text: Mapped[str | None]
    reply_text: Mapped[str | None]


class AssignmentRow(Table):
    """A variant that a turn was made with."""

    __tablename__ = "turn_assignments"
    __table_args__ = (ForeignKeyConstraint(["session", "turn"], ["turns.session", "turns.turn"], ondelete="CASCADE"),)

    session: Mapped[str] = mapped_column(primary_key=True)
    turn: Mapped[str] = mapped_column(primary_key=True)
    flag: Mapped[str] = mapped_column(primary_key=True)
    variant: Mapped[str]
    reason: Mapped[str]


class FeedbackRow(Table):
    __tablename__ = "feedback"
    __table_args__ = (Index("feedback_of_session", "session"), Index("feedback_by_age", "at_ms"))

    id: Mapped[str] = mapped_column(primary_key=True)
    session: Mapped[str]
    turn: Mapped[str]
    at_ms: Mapped[int] = mapped_column(BigInteger)
    score: Mapped[float]
    comment: Mapped[str | None]
