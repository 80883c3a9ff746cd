"""Sessions of an experiment as the store sums them up."""

from contextlib import aclosing
from typing import Any

from sqlalchemy import Row, Select, and_, case, func, select

from gateway.experiments.assignment import Reason
from gateway.outcomes.observer import NOT_BEGUN
from gateway.outcomes.results import TIMES, SessionOutcome
from gateway.outcomes.store import Store
from gateway.outcomes.tables import AssignmentRow, ExposureRow, FeedbackRow, TurnRow

TURNS = ("completed", "interrupted", "failed")
"""Outcomes of what counts as a turn: not what nobody said, what went on, or whose client left."""

FAILURES = ("failed", NOT_BEGUN)


async def sessions_of(store: Store, flag: str, arms: str) -> list[SessionOutcome]:
    """Those that were dealt out by hash among these arms, in the order in which they were opened. Raises as `Store`."""
    rated: dict[str, float] = {}
    found: list[SessionOutcome] = []
    async with aclosing(store.stream(scores(flag, arms))) as some:
        async for rows in some:
            rated |= {row.session: row.score for row in rows}
    async with aclosing(store.stream(summed(flag, arms))) as some:
        async for rows in some:
            found += [outcome_of(row, rated.get(row.session)) for row in rows]
    return found


def summed(flag: str, arms: str) -> Select[Any]:
    """A row a session. Turns after one that failed are everybody's: they count as its turns, and for nothing else."""
    exposure, turn, given = ExposureRow, TurnRow, AssignmentRow
    of_arm = given.flag.is_not(None)
    columns = [
        exposure.session,
        exposure.variant,
        exposure.unit,
        exposure.at_ms,
        func.count(turn.turn).filter(turn.outcome.in_(TURNS)).label("turns"),
        func.max(case((and_(of_arm, turn.outcome.in_(FAILURES)), 1), else_=0)).label("failed"),
        func.avg(case((of_arm, case((turn.interrupted, 1.0), else_=0.0)))).label("interrupted"),
        *(func.avg(case((of_arm, getattr(turn, metric)))).label(metric) for metric in TIMES),
    ]
    same = and_(
        given.session == turn.session,
        given.turn == turn.turn,
        given.flag == exposure.flag,
        given.variant == exposure.variant,
    )
    return (
        select(*columns)
        .outerjoin(turn, and_(turn.session == exposure.session, turn.outcome.in_({*TURNS, *FAILURES})))
        .outerjoin(given, same)
        .where(exposure.flag == flag, exposure.arms == arms, exposure.reason == Reason.SPLIT.value)
        .group_by(exposure.session, exposure.flag, exposure.variant, exposure.unit, exposure.at_ms)
        .order_by(exposure.at_ms, exposure.session)
    )


def scores(flag: str, arms: str) -> Select[Any]:
    """Session and mean score."""
    return (
        select(FeedbackRow.session, func.avg(FeedbackRow.score).label("score"))
        .join(ExposureRow, ExposureRow.session == FeedbackRow.session)
        .where(ExposureRow.flag == flag, ExposureRow.arms == arms, ExposureRow.reason == Reason.SPLIT.value)
        .group_by(FeedbackRow.session)
    )


def outcome_of(row: Row[Any], score: float | None) -> SessionOutcome:
    values = {metric: getattr(row, metric) for metric in TIMES} | {"feedback": score}
    if row.turns:
        values |= {"turns": row.turns, "interrupted": row.interrupted}
    return SessionOutcome(
        variant=row.variant,
        unit=row.unit,
        turns=row.turns,
        failed=bool(row.failed),
        values={metric: float(value) for metric, value in values.items() if value is not None},
    )
