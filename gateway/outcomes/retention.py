"""Deletes what is too old, a little at a time."""

import asyncio
import logging
import time

from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from gateway.outcomes.figures import Figures
from gateway.outcomes.store import Away, Store, Unfit
from gateway.outcomes.tables import ExposureRow, FeedbackRow, TurnRow
from services.runtime.errors import Refused

AT_ONCE = 500
PAUSE_S, EVERY_S = 0.2, 600.0
DAY_MS = 86_400_000
Aging = type[ExposureRow] | type[TurnRow] | type[FeedbackRow]
KEYS: dict[Aging, tuple[InstrumentedAttribute[str], ...]] = {
    ExposureRow: (ExposureRow.session, ExposureRow.flag),
    TurnRow: (TurnRow.session, TurnRow.turn),
    FeedbackRow: (FeedbackRow.id,),
}
"""What was given in a turn goes with the turn."""
log = logging.getLogger(__name__)


async def delete_some(store: Store, before_ms: int, most: int = AT_ONCE) -> int:
    """Delete rows that are older, at most so many of each table; returns how many were. Raises Away and Refused."""
    deleted = 0
    for table, columns in KEYS.items():
        key = tuple_(*columns)
        # Several gateways may be at it: each takes rows that no other has taken.
        old = select(*columns).where(table.at_ms < before_ms).limit(most).with_for_update(skip_locked=True)
        deleted += await store.change(delete(table).where(key.in_(old)))
    return deleted


async def keep_deleting(store: Store, days: float, figures: Figures, every_s: float = EVERY_S) -> None:
    """Delete what is older than some days, until cancelled."""
    while True:
        try:
            while count := await delete_some(store, int(1000 * time.time() - days * DAY_MS)):
                figures.deleted.inc(count)
                await asyncio.sleep(PAUSE_S)
        except (Away, Refused, Unfit) as error:
            log.info("old outcomes cannot be deleted now: %s", error)
        await asyncio.sleep(every_s)
