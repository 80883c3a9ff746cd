"""What users think of a session: checked, counted by variant, kept."""

import math
import re
import uuid
from collections.abc import Callable
from typing import Protocol

from gateway.metrics import Metrics
from gateway.outcomes.observer import Keeping
from gateway.outcomes.records import Feedback
from gateway.sessions import Session
from services.runtime.errors import InvalidInput, NotFound, Refused
from services.runtime.records import now_ms

MOST_COMMENT_CHARS, MOST_ID_CHARS = 2_000, 100
TURN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Kept(Protocol):
    """Outcomes that are kept."""

    @property
    def keeps(self) -> Keeping: ...

    async def given_to(self, session_id: str) -> list[tuple[str, str]] | None:
        """Flag and variant of what a session was given; None for one that is not known. Raises DomainError."""


class Ratings:
    """Takes feedback. `find` knows the sessions that are still in memory."""

    def __init__(self, find: Callable[[str], Session | None], metrics: Metrics, kept: Kept | None) -> None:
        self._find = find
        self._metrics = metrics
        self._kept = kept

    async def take(self, session_id: str, score: float, turn_id: str = "", comment: str = "") -> None:
        """Keep a score from -1 to 1. Raises InvalidInput, NotFound, Refused where nothing is kept, and Unavailable."""
        check(session_id, score, turn_id, comment)
        if self._kept is None:
            raise Refused("this gateway keeps no outcomes: see its option outcomes-folder")
        given = await self._given(self._kept, session_id)
        keeps = self._kept.keeps
        said = comment if keeps.texts and comment else None
        keeps.put(Feedback(uuid.uuid4().hex, session_id, turn_id, now_ms(), score, said))
        self._metrics.rated(given, score)

    async def _given(self, kept: Kept, session_id: str) -> list[tuple[str, str]]:
        """Flag and variant of what a session was given."""
        if session := self._find(session_id):
            return [(each.flag, each.variant) for each in session.assigned.decisions] if session.assigned else []
        given = await kept.given_to(session_id)
        if given is None:
            raise NotFound("session", session_id)
        return given


def check(session_id: str, score: float, turn_id: str, comment: str) -> None:
    """Raises InvalidInput."""
    if not session_id or len(session_id) > MOST_ID_CHARS or not session_id.isascii() or not session_id.isprintable():
        raise InvalidInput("session_id", f"is {session_id[:MOST_ID_CHARS]!r}", "the id of a session")
    if not (math.isfinite(score) and -1 <= score <= 1):
        raise InvalidInput("score", f"is {score:g}", "-1 (bad) to 1 (good)")
    if turn_id and not (TURN_ID.fullmatch(turn_id) and turn_id.startswith(f"{session_id[:8]}-")):
        raise InvalidInput("turn_id", f"{turn_id[:64]!r} is no turn of this session", "one of its turns, or nothing")
    if len(comment) > MOST_COMMENT_CHARS:
        raise InvalidInput("comment", f"has {len(comment)} characters", f"at most {MOST_COMMENT_CHARS}")
    try:
        comment.encode()
    except UnicodeEncodeError:
        raise InvalidInput("comment", "cannot be encoded", "Unicode text") from None
