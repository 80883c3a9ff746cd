"""Outcomes to keep, and places to keep them in."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import func, select

from gateway.outcomes.records import Exposure, Feedback, Given, Record, Turn
from gateway.outcomes.store import Store
from gateway.outcomes.tables import AssignmentRow, ExposureRow, FeedbackRow, Table, TurnRow

PATIENCE_S = 60.0
TABLES: dict[str, type[Table]] = {
    "exposures": ExposureRow,
    "turns": TurnRow,
    "assignments": AssignmentRow,
    "feedback": FeedbackRow,
}


def exposure(number: int = 0, variant: str = "heart", **fields: Any) -> Exposure:
    made: dict[str, Any] = {
        "session": f"session-{number}",
        "flag": "voice",
        "variant": variant,
        "reason": "SPLIT",
        "stale": False,
        "arms": "arms",
        "unit_kind": "user",
        "unit": f"user-{number}",
        "at_ms": 1_000_000 + number,
    }
    return Exposure(**(made | fields))


def turn(number: int = 0, of: int = 0, variant: str = "heart", **fields: Any) -> Turn:
    """Turn `of` of session `number`."""
    made: dict[str, Any] = {
        "session": f"session-{number}",
        "turn": f"session--{of}",
        "at_ms": 1_000_000 + number,
        "outcome": "completed",
        "first_audio_ms": 400.0,
        "given": (Given("voice", variant, "SPLIT"),),
    }
    return Turn(**(made | fields))


def feedback(number: int = 0, score: float = 1.0, **fields: Any) -> Feedback:
    made: dict[str, Any] = {"id": f"feedback-{number}", "session": f"session-{number}", "turn": "", "at_ms": 1_000_000}
    return Feedback(**(made | {"score": score} | fields))


def some(count: int, begin: int = 0) -> list[Record]:
    """So many turns, one a session."""
    return [turn(number) for number in range(begin, begin + count)]


async def counts(store: Store) -> dict[str, int]:
    """Rows by table."""
    return {name: (await store.read(select(func.count()).select_from(table)))[0][0] for name, table in TABLES.items()}


def figure(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(f"talkmesh_gateway_outcomes_{name}", labels) or 0.0


async def until(holds: Callable[[], Any], within_s: float = PATIENCE_S) -> None:
    """Wait until something is so; what it says may have to be awaited."""
    deadline = time.monotonic() + within_s
    while True:
        found = holds()
        if await found if asyncio.iscoroutine(found) else found:
            return
        assert time.monotonic() < deadline, "never so"
        await asyncio.sleep(0.05)
