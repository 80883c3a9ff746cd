"""What becomes of a slot is written down: also what comes by a bare put, and what a host does by itself."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterable, Sequence

from services.runtime.controller import Reverted
from services.runtime.desired import (
    CRASH_LOOP,
    HistoryEntry,
    SlotWish,
    generation_of,
    history_key,
    parsed,
    place,
    slot_key,
)
from services.runtime.errors import DomainError, InvalidInput, Unavailable
from services.runtime.etcd import Etcd, Event, KeyValue, Put, Span, absent, mod_revision_is
from services.runtime.records import now_ms, slot_records
from services.runtime.trimming import HISTORY_KEPT, trim_audit, trim_history

RETRY_S = 1.0
WAITING = 1000
TRIM_S = 3600.0
TRIM_AFTER = 25
"""Generations, or TRIM_S seconds."""
NEVER = 2**63
"""A generation that no slot comes to."""
log = logging.getLogger(__name__)


class Recorder:
    """Writes history and audit for one service. All its hosts do; each entry can be created once, so one of them wins."""

    def __init__(self, etcd: Etcd, service: str) -> None:
        self._etcd = etcd
        self._service = service
        self._who = f"{socket.gethostname()}-{os.getpid()}"
        self._work: asyncio.Queue[Event | Reverted] = asyncio.Queue(WAITING)
        self._worked = 0
        self._many = asyncio.Event()

    def found(self, kvs: Iterable[KeyValue]) -> None:
        """A whole listing: generations of slots that nobody has written down are, now."""
        self.seen([Event(kv) for kv in kvs])

    def seen(self, events: Sequence[Event]) -> None:
        """Changes: generations that nobody has written down are, soon."""
        for event in events:
            if self._is_slot(event.kv.key) and not event.deleted:
                self._later(event)

    def revert(self, reverted: Reverted) -> None:
        """A slot of this host went back by itself: make that what is wanted."""
        self._later(reverted)

    async def run(self) -> None:
        """Write until cancelled. What etcd cannot take now is tried again; what it refuses is logged."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write())
            tasks.create_task(self._trim())

    async def _write(self) -> None:
        while True:
            work = await self._work.get()
            try:
                await (self._note(work) if isinstance(work, Event) else self._propose(work))
            except Unavailable:
                await asyncio.sleep(RETRY_S)
                self._later(work)
            except DomainError as error:
                log.error("history could not be written: %s", error)
            self._worked += 1
            if self._worked % TRIM_AFTER == 0:
                self._many.set()

    def _later(self, work: Event | Reverted) -> None:
        try:
            self._work.put_nowait(work)
        except asyncio.QueueFull:
            log.error("more changes than can be written down; one is left out")

    def _is_slot(self, key: str) -> bool:
        where = place(key)
        return where is not None and (where.kind, where.service) == ("slots", self._service)

    async def _note(self, event: Event) -> None:
        """Write down a generation that came by a bare put; what came through the API has brought its history along."""
        kv, before = event.kv, event.previous
        where = place(kv.key)
        assert where
        generation = generation_of(kv.create_revision, kv.version)
        if await self._is_past(where.name, generation):
            return
        try:
            wish = parsed(SlotWish, kv.value)
        except InvalidInput as error:
            wish = SlotWish(actor="etcd", reason=f"could not be read: {error}")
        entry = HistoryEntry(
            wish=wish,
            generation=generation,
            model_before=model_of(before),
            generation_before=generation_of(before.create_revision, before.version) if before else 0,
            at_ms=now_ms(),
            via="etcd",
        )
        history, audit = slot_records("put slot", self._service, where.name, entry)
        await self._etcd.transact([absent(history.key)], [history, audit])

    async def _is_past(self, slot: str, generation: int) -> bool:
        """Whether a generation is written down, or so old that it would not stay.

        To ask costs etcd less than an attempt, which goes to the disks of its members even when it fails.
        """
        key = history_key(self._service, slot, generation)
        since = await self._etcd.list(Span(key, history_key(self._service, slot, NEVER)), keys_only=True, limit=1)
        return since.count >= HISTORY_KEPT or any(kv.key == key for kv in since.kvs)

    async def _propose(self, reverted: Reverted) -> None:
        """Want what was good, unless somebody has wanted something else since."""
        key, bad = slot_key(self._service, reverted.slot), reverted.bad
        current = await self._etcd.get(key)
        if current is None or generation_of(current.create_revision, current.version) != bad.generation:
            return
        wish = reverted.good.model_copy(
            update={"actor": f"host {self._who}", "reason": reverted.reason, "cause": CRASH_LOOP}
        )
        entry = HistoryEntry(
            wish=wish,
            generation=bad.generation + 1,
            model_before=bad.wish.model,
            generation_before=bad.generation,
            at_ms=now_ms(),
            via="host",
        )
        put = Put(key, wish.model_dump_json(exclude_none=True))
        records = slot_records("revert slot", self._service, reverted.slot, entry)
        await self._etcd.transact([mod_revision_is(key, current.mod_revision)], [put, *records])

    async def _trim(self) -> None:
        """Now and then, take away old records until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._many.wait(), TRIM_S)
            self._many.clear()
            try:
                await trim_history(self._etcd, self._service)
                await trim_audit(self._etcd)
            except DomainError as error:
                log.warning("old records stay for now: %s", error)


def model_of(kv: KeyValue | None) -> str:
    """The model that a slot's value names, as far as it can be read."""
    try:
        return parsed(SlotWish, kv.value).model if kv else ""
    except InvalidInput:
        return ""
