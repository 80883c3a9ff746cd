"""The keeping of outcomes as a whole. Imported only where some are kept: it brings a database's client along."""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import CollectorRegistry

from gateway.experiments.flags import Flag
from gateway.outcomes.arms import shares_of
from gateway.outcomes.figures import Figures
from gateway.outcomes.observer import Keeping
from gateway.outcomes.options import OutcomesOptions
from gateway.outcomes.outbox import Outbox, delivering
from gateway.outcomes.place import place, told
from gateway.outcomes.reading import sessions_of
from gateway.outcomes.records import Record
from gateway.outcomes.results import Results, results
from gateway.outcomes.retention import keep_deleting
from gateway.outcomes.spool import spooling
from gateway.outcomes.store import Away, Store, opened
from services.runtime.access import secret
from services.runtime.errors import Unavailable

log = logging.getLogger(__name__)


class Outcomes:
    """Use through `keeping`."""

    def __init__(self, store: Store, outbox: Outbox, keeps: Keeping) -> None:
        """`store` is only read from."""
        self._store = store
        self._outbox = outbox
        self.keeps = keeps

    def put(self, record: Record) -> None:
        """Keep a record, soon."""
        self._outbox.put(record)

    async def given_to(self, session_id: str) -> list[tuple[str, str]] | None:
        """Flag and variant of what a session was given; None for one that the store does not know. Raises Unavailable."""
        try:
            return await self._store.given_to(session_id)
        except Away as error:
            raise Unavailable(f"the store of outcomes is away: {error}") from None

    async def results(self, name: str, flag: Flag, arms: str, alpha: float) -> Results:
        """What became of an experiment with these arms. Raises Unavailable, and Refused for unknown tables."""
        try:
            sessions = await sessions_of(self._store, name, arms)
        except Away as error:
            raise Unavailable(f"the store of outcomes is away: {error}") from None
        made = await asyncio.to_thread(results, name, flag.control, shares_of(flag), sessions, alpha)
        return dataclasses.replace(made, waiting=self._outbox.waiting)


@asynccontextmanager
async def keeping(options: OutcomesOptions, registry: CollectorRegistry) -> AsyncIterator[Outcomes | None]:
    """What keeps outcomes as the options say; None if they say nothing. Raises InvalidInput."""
    if options.outcomes_folder is None:
        yield None
        return
    folder = options.outcomes_folder
    at = place(options.outcomes_url, folder, secret(options.outcomes_password_file, "outcomes_password_file"))
    key = secret(options.outcomes_user_key_file, "outcomes_user_key_file").encode()
    figures = Figures(registry)
    with contextlib.suppress(OSError):  # Which the spool tells of.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with AsyncExitStack() as stack:
        spool = stack.enter_context(spooling(folder / "spool", int(options.outcomes_spool_mb * 2**20)))
        # Whoever reads has connections of their own: writing does not wait for them.
        store = await stack.enter_async_context(opened(at))
        read = await stack.enter_async_context(opened(at))
        outbox = await stack.enter_async_context(delivering(store, spool, figures))
        deleting = asyncio.create_task(keep_deleting(store, options.outcomes_days, figures))
        stack.callback(deleting.cancel)
        log.info("outcomes are kept in %s for %g days", told(at), options.outcomes_days)
        keeps = Keeping(outbox.put, options.outcomes_keep_texts, options.outcomes_keep_users, key)
        yield Outcomes(read, outbox, keeps)
