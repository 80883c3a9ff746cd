"""What becomes of a slot is written down: also what comes by a bare put, and what a host does by itself."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterable, Sequence

from services.runtime.controller import Reverted
from services.runtime.desired import (
    AuditEntry,
    HistoryEntry,
    SlotWish,
    audit_key,
    generation_of,
    history_key,
    parsed,
    place,
    slot_key,
)
from services.runtime.errors import DomainError, InvalidInput, Unavailable
from services.runtime.etcd import Etcd, Event, KeyValue, Put, absent, mod_revision_is

RETRY_S = 1.0
WAITING = 1000
log = logging.getLogger(__name__)


class Recorder:
    """Writes history and audit for one service. All its hosts do; each entry can be created once, so one of them wins."""

    def __init__(self, etcd: Etcd, service: str) -> None:
        self._etcd = etcd
        self._service = service
        self._who = f"{socket.gethostname()}-{os.getpid()}"
        self._work: asyncio.Queue[Event | Reverted] = asyncio.Queue(WAITING)

    def found(self, kvs: Iterable[KeyValue]) -> None:
        """A whole listing: generations of slots that nobody has written down are, now."""
        listed = {kv.key: kv for kv in kvs}
        for kv in listed.values():
            if self._is_slot(kv.key) and self._history_key(kv) not in listed:
                self._later(Event(kv))

    def seen(self, events: Sequence[Event]) -> None:
        """Changes that were made together. What came through the API has brought its history along."""
        written = {event.kv.key for event in events}
        for event in events:
            if self._is_slot(event.kv.key) and not event.deleted and self._history_key(event.kv) not in written:
                self._later(event)

    def revert(self, reverted: Reverted) -> None:
        """A slot of this host went back by itself: make that what is wanted."""
        self._later(reverted)

    async def run(self) -> None:
        """Write until cancelled. What etcd cannot take now is tried again; what it refuses is logged."""
        while True:
            work = await self._work.get()
            try:
                await (self._note(work) if isinstance(work, Event) else self._propose(work))
            except Unavailable:
                await asyncio.sleep(RETRY_S)
                self._later(work)
            except DomainError as error:
                log.error("history could not be written: %s", error)

    def _later(self, work: Event | Reverted) -> None:
        try:
            self._work.put_nowait(work)
        except asyncio.QueueFull:
            log.error("more changes than can be written down; one is left out")

    def _is_slot(self, key: str) -> bool:
        where = place(key)
        return where is not None and (where.kind, where.service) == ("slots", self._service)

    def _history_key(self, kv: KeyValue) -> str:
        where = place(kv.key)
        assert where
        return history_key(self._service, where.name, generation_of(kv.create_revision, kv.version))

    async def _note(self, event: Event) -> None:
        """Write down a generation that came by a bare put."""
        kv, before = event.kv, event.previous
        where = place(kv.key)
        assert where
        try:
            wish = parsed(SlotWish, kv.value)
        except InvalidInput as error:
            wish = SlotWish(actor="etcd", reason=f"could not be read: {error}")
        generation, at_ms = generation_of(kv.create_revision, kv.version), now_ms()
        entry = HistoryEntry(
            wish=wish,
            generation=generation,
            model_before=model_of(before),
            generation_before=generation_of(before.create_revision, before.version) if before else 0,
            at_ms=at_ms,
            via="etcd",
        )
        audit = AuditEntry(
            action="put slot",
            service=self._service,
            subject=f"{where.name}: {wish.model}",
            actor=wish.actor or "unknown, by etcd",
            reason=wish.reason,
            generation=generation,
            at_ms=at_ms,
        )
        key = history_key(self._service, where.name, generation)
        await self._etcd.transact(
            [absent(key)],
            [Put(key, entry.model_dump_json()), Put(audit_key(at_ms, self._who), audit.model_dump_json())],
        )

    async def _propose(self, reverted: Reverted) -> None:
        """Want what was good, unless somebody has wanted something else since."""
        key = slot_key(self._service, reverted.slot)
        current = await self._etcd.get(key)
        if current is None or generation_of(current.create_revision, current.version) != reverted.bad.generation:
            return
        bad, generation, at_ms = reverted.bad, reverted.bad.generation + 1, now_ms()
        wish = reverted.good.model_copy(
            update={"actor": f"host {self._who}", "reason": reverted.reason, "cause": "crash loop"}
        )
        entry = HistoryEntry(
            wish=wish,
            generation=generation,
            model_before=bad.wish.model,
            generation_before=bad.generation,
            at_ms=at_ms,
            via="host",
        )
        audit = AuditEntry(
            action="revert slot",
            service=self._service,
            subject=f"{reverted.slot}: {wish.model}",
            actor=wish.actor,
            reason=wish.reason,
            generation=generation,
            at_ms=at_ms,
        )
        await self._etcd.transact(
            [mod_revision_is(key, current.mod_revision)],
            [
                Put(key, wish.model_dump_json()),
                Put(history_key(self._service, reverted.slot, generation), entry.model_dump_json()),
                Put(audit_key(at_ms, self._who), audit.model_dump_json()),
            ],
        )


def model_of(kv: KeyValue | None) -> str:
    """The model that a slot's value names, as far as it can be read."""
    try:
        return parsed(SlotWish, kv.value).model if kv else ""
    except InvalidInput:
        return ""


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
