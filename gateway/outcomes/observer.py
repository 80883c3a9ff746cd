"""What happens to sessions, told once, and handed on to all who want to know: metrics, guard and store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.experiments.assignment import Decision
from gateway.experiments.guard import Guard
from gateway.experiments.registry import Registry, of_user
from gateway.metrics import Metrics
from gateway.outcomes.arms import fingerprint, hashed
from gateway.outcomes.records import Exposure, Given, Record, Turn
from gateway.sessions import Session
from services.runtime.records import now_ms
from talkmesh.conversation.v1 import conversation_pb2

Put = Callable[[Record], None]
NOT_BEGUN = "not_begun"
"""Outcome of what failed a session before any turn: told as turn 0, of which there is one."""


@dataclass(frozen=True)
class Keeping:
    """Where records go, and what of them."""

    put: Put = lambda record: None
    texts: bool = False
    """What was said."""
    users: bool = False
    """Ids of users and devices as they are."""
    key: bytes = b""
    """Of the hashes of ids."""


class Observer:
    """Nothing that it is told takes long or fails."""

    def __init__(self, metrics: Metrics, guard: Guard, experiments: Registry, keeping: Keeping | None = None) -> None:
        self._metrics = metrics
        self._guard = guard
        self._experiments = experiments
        self._keeping = keeping or Keeping()

    def opened(self, session: Session, who: conversation_pb2.Who) -> None:
        """A session has what experiments give to it. Of one that was opened before, nothing new is told."""
        if session.assigned is None or session.exposed:
            return
        session.exposed = True
        units, _ = of_user(who, session.id)
        for decision in session.assigned.decisions:
            if self._experiments.flag(decision.flag):
                unit = self._unit(decision, units)
                self._keeping.put(
                    Exposure(
                        session=session.id,
                        flag=decision.flag,
                        variant=decision.variant,
                        reason=decision.reason.value,
                        stale=session.assigned.stale,
                        arms=fingerprint(self._experiments, decision.flag),
                        unit_kind=decision.unit_kind,
                        unit=unit,
                        at_ms=now_ms(),
                    )
                )

    def ended(self, session: Session, turn_id: str, done: conversation_pb2.TurnDone) -> None:
        """A turn came to its end."""
        session.ended_turn = turn_id
        self._metrics.turn_done(done)
        times = times_of(done)
        outcome = conversation_pb2.Outcome.Name(done.outcome).removeprefix("OUTCOME_").lower()
        self._keeping.put(
            Turn(
                session=session.id,
                turn=turn_id,
                at_ms=now_ms(),
                outcome=outcome,
                first_audio_ms=times.get("first_audio_ms"),
                first_video_ms=times.get("first_video_ms"),
                gap_ms=times.get("gap_ms"),
                models=" ".join(dict.fromkeys(f"{each.service}={each.model}" for each in done.models)),
                given=given_to(session),
                user_text=done.user_text if self._keeping.texts else None,
                reply_text=done.reply_text if self._keeping.texts else None,
            )
        )
        self._guard.ended(session, done.outcome == conversation_pb2.OUTCOME_FAILED, times)

    def broken(self, session: Session, turn_id: str, abandoned: bool) -> None:
        """A call ended in a turn: by a failure, or because its client left. One that had come to its end is told already."""
        if session.ended_turn == turn_id:
            return
        outcome = "abandoned" if abandoned else "failed"
        self._metrics.turn_ended(outcome)
        self._keeping.put(Turn(session.id, turn_id, now_ms(), outcome, given=given_to(session)))
        if not abandoned:
            self._guard.ended(session, failed=True)

    def lost(self, session: Session) -> None:
        """What a session was given did not even begin, and it has what everybody has instead."""
        self._keeping.put(Turn(session.id, f"{session.id[:8]}-0", now_ms(), NOT_BEGUN, given=given_to(session)))
        self._guard.ended(session, failed=True)

    def _unit(self, decision: Decision, units: Mapping[str, str]) -> str:
        unit = units.get(decision.unit_kind, "")
        return unit if self._keeping.users else hashed(unit, self._keeping.key)


def given_to(session: Session) -> tuple[Given, ...]:
    """What a session has now: not what has failed it before."""
    assigned = session.assigned
    if assigned is None:
        return ()
    return tuple(
        Given(each.flag, each.variant, each.reason.value)
        for each in assigned.decisions
        if each.flag not in assigned.left
    )


def times_of(done: conversation_pb2.TurnDone) -> dict[str, float]:
    """Metric → ms, of what the turn came to."""
    waterfall = done.waterfall
    found = {"first_audio_ms": waterfall.first_audio_ms, "first_video_ms": waterfall.first_video_ms}
    known = {name: value for name, value in found.items() if value > 0}
    # Where something was heard, that it had no gap is known too.
    return known | ({"gap_ms": waterfall.longest_gap_ms} if waterfall.first_audio_ms > 0 else {})
