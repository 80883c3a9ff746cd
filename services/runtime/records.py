"""What is written down about a change, in the transaction that makes it."""

import secrets
import time

from services.runtime.desired import AuditEntry, HistoryEntry, Note, audit_key, history_key
from services.runtime.etcd import Put

UNKNOWN = "unknown, by etcd"
MOST_CHARS = 8_192


def slot_records(action: str, service: str, slot: str, entry: HistoryEntry) -> tuple[Put, Put]:
    """A slot's new generation: its place in the history, and the audit of it, at the same moment."""
    wish = entry.wish
    note = Note(actor=wish.actor or (UNKNOWN if entry.via == "etcd" else ""), reason=wish.reason)
    history = Put(history_key(service, slot, entry.generation), entry.model_dump_json(exclude_none=True))
    audit = audited(
        *(action, service, f"{slot}: {wish.model}", note, entry.generation, entry.at_ms),
        before=entry.model_before,
        after=wish.model,
    )
    return history, audit


def audited(
    action: str,
    service: str,
    subject: str,
    note: Note,
    generation: int = 0,
    at_ms: int = 0,
    before: str = "",
    after: str = "",
) -> Put:
    """The audit of a change, made by whom and why the note says; `at_ms`: when, 0 is now.

    `before` and `after`: what it was and became, cut to MOST_CHARS.
    """
    entry = AuditEntry(
        action=action,
        service=service,
        subject=subject,
        actor=note.actor,
        reason=note.reason,
        generation=generation,
        at_ms=at_ms or now_ms(),
        before=before[:MOST_CHARS],
        after=after[:MOST_CHARS],
    )
    return Put(audit_key(entry.at_ms, secrets.token_hex(4)), entry.model_dump_json())


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
