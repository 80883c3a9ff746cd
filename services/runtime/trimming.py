"""Records do not grow for ever: what nobody will ask for any more goes.

Any number of processes may do it at the same time: each takes away only what it has seen to be too old.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby

from services.runtime.desired import PREFIX, HistoryEntry, audit_key, parsed
from services.runtime.errors import InvalidInput
from services.runtime.etcd import Delete, Etcd, KeyValue, Span
from services.runtime.records import now_ms

HISTORY = f"{PREFIX}history/"
AUDIT = f"{PREFIX}audit/"
HISTORY_KEPT = 100
AUDIT_KEPT = 10_000
AUDIT_KEPT_DAYS = 90.0
DAY_MS = 86_400_000
# etcd takes 128 operations a transaction.
BATCH = 100


async def trim_history(etcd: Etcd, service: str, keep: int = HISTORY_KEPT) -> None:
    """Leave of each slot of a service the newest `keep` generations; of the older ones the newest that names each model.

    So every model that a slot can go back to is found. A slot is left alone until it has a quarter more than that. Raises
    EtcdAway and EtcdRefused.
    """
    listing = await etcd.list(f"{HISTORY}{service}/", keys_only=True)
    for _, found in groupby((kv.key for kv in listing.kvs), lambda key: key.rpartition("/")[0]):
        if len(keys := list(found)) > keep + keep // 4:
            await _trim_slot(etcd, keys, keep)


async def _trim_slot(etcd: Etcd, keys: Sequence[str], keep: int) -> None:
    """`keys`: of a slot's history, oldest first."""
    old, new = keys[:-keep], keys[-keep:]
    named = models_of((await etcd.list(between(new))).kvs)
    for end in range(len(old), 0, -BATCH):
        gone = []
        for kv in reversed((await etcd.list(between(old[max(0, end - BATCH) : end]))).kvs):
            if models_of([kv]) <= named:
                gone.append(kv.key)
            named |= models_of([kv])
        await _delete(etcd, gone)


async def trim_audit(etcd: Etcd, keep: int = AUDIT_KEPT, days: float = AUDIT_KEPT_DAYS) -> None:
    """Leave the newest `keep` entries at most, and none that is older than that many days.

    Raises EtcdAway and EtcdRefused.
    """
    too_old = audit_key(now_ms() - int(days * DAY_MS), "")
    while True:
        listing = await etcd.list(AUDIT, keys_only=True, limit=BATCH)
        beyond = listing.count - keep
        gone = [kv.key for index, kv in enumerate(listing.kvs) if index < beyond or kv.key < too_old]
        await _delete(etcd, gone)
        if len(gone) < BATCH:
            return


async def _delete(etcd: Etcd, keys: Iterable[str]) -> None:
    if deletions := [Delete(key) for key in keys]:
        await etcd.transact([], deletions)


def between(keys: Sequence[str]) -> Span:
    """From the first to the last of them."""
    return Span(keys[0], keys[-1] + "\0")


def models_of(kvs: Iterable[KeyValue]) -> set[str]:
    """The models that entries of a history name, as far as they can be read."""
    found = set()
    for kv in kvs:
        try:
            entry = parsed(HistoryEntry, kv.value)
        except InvalidInput:
            continue
        found |= {entry.wish.model, entry.model_before} - {""}
    return found
