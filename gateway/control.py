"""What operators want, written to etcd for the hosts to follow. Knows nothing of gRPC.

Each change is one transaction that holds the change, what it was decided on, and its record: a change that somebody else has
outrun leaves no trace, and none is left without its author.
"""

import asyncio
import itertools
import random
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gateway import catalog, checks
from gateway.evictions import Evictions
from gateway.observed import hosts_in, served_model
from services.runtime import desired
from services.runtime.desired import AuditEntry, Cause, HistoryEntry, Note, SlotWish
from services.runtime.engine import ModelSpec
from services.runtime.errors import DomainError, InvalidInput, NotFound, Outrun, Refused, Unavailable
from services.runtime.etcd import (
    Compare,
    Delete,
    Etcd,
    EtcdAway,
    KeyValue,
    Operation,
    Put,
    absent,
    exists,
    mod_revision_is,
)
from services.runtime.records import audited, now_ms, slot_records

AUDIT = f"{desired.PREFIX}audit/"
PLACE = r"[0-9]{15}-[0-9a-f]{1,64}"
Record = TypeVar("Record", bound=desired.Value)
ATTEMPTS = 50
LONGEST_PAUSE_S = 0.05


@dataclass(frozen=True)
class SlotChange:
    """A change of what a slot wants."""

    service: str
    slot: str
    entry: HistoryEntry


@dataclass(frozen=True)
class Slot:
    """A slot as etcd has it."""

    service: str
    name: str
    wish: SlotWish
    model: str
    """What it wants; if it was never told, what its hosts serve in it."""
    generation: int
    """0 if it does not exist."""
    mod_revision: int

    @property
    def key(self) -> str:
        return desired.slot_key(self.service, self.name)

    @property
    def winner(self) -> str:
        """What it wants and who wanted it, for those who wanted something else."""
        by = f" by {self.wish.actor}" if self.wish.actor else ""
        why = f": {self.wish.reason}" if self.wish.reason else ""
        return f"{self.service}/{self.name} wants {self.model!r} since generation {self.generation}{by}{why}"


@dataclass(frozen=True)
class Prepared:
    """A change of a slot that is ready to be written, in a transaction of its own or with others."""

    change: SlotChange
    unchanged: Sequence[Compare]
    """What it was decided on."""
    puts: Sequence[Put]
    history: Put
    """Of `puts`, the one that nobody else would write so."""


Decision = Callable[[Slot], Awaitable[SlotWish]]


class Control:
    """The operator's verbs.

    All raise InvalidInput naming the field of the request, NotFound for unknown services and models, Refused when the state
    of things does not allow it or there is no etcd (None), EtcdAway while etcd is away, Unavailable for too many writers.
    """

    def __init__(self, etcd: Etcd | None, evictions: Evictions | None = None) -> None:
        self._connected = etcd
        self._evictions = evictions or Evictions()

    async def catalog(self, service: str = "") -> catalog.Catalog:
        """The catalog of a service, or of all for ""."""
        return await catalog.read(self._etcd, service and checks.checked_service(service))

    async def history(self, service: str, slot: str = "", limit: int = 0) -> list[SlotChange]:
        """Newest first, `limit` at most; 0 is the default of `checks`."""
        service, slot, limit = checks.checked_service(service), checks.checked_slot(slot), checks.checked_limit(limit)
        # A wish without a model, such as the one that opens a slot, left what was there.
        wanted = [entry for entry in await self._history(service, slot) if entry.wish.model]
        return [SlotChange(service, slot, entry) for entry in wanted[:limit]]

    async def audit(self, limit: int = 0, before: str = "") -> list[tuple[str, AuditEntry]]:
        """What was changed, by whom and why: newest first, `limit` at most; 0 is the default of `checks`.

        Each with its place, which as `before` has only older ones be told.
        """
        limit = checks.checked_limit(limit)
        if before and not re.fullmatch(PLACE, before):
            raise InvalidInput("before", f"{before[:80]!r} is no place in the audit", "that of an entry")
        kvs = (await self._etcd.list(AUDIT)).kvs
        found = ((kv.key.removeprefix(AUDIT), kv) for kv in reversed(kvs))
        told = ((place, read(AuditEntry, kv)) for place, kv in found if not before or place < before)
        return list(itertools.islice(((place, entry) for place, entry in told if entry), limit))

    async def set_slot(
        self,
        service: str,
        model: str,
        slot: str = "",
        *,
        expected: str | None = None,
        drain_s: float | None = None,
        standby_s: float | None = None,
        actor: str = "",
        reason: str = "",
        cause: Cause = "human",
    ) -> SlotChange:
        """Want a model in a slot. Raises Outrun when `expected` is given and not the model that the slot wants."""
        service, slot = checks.checked_service(service), checks.checked_slot(slot)
        wish = checks.checked_wish(model, checks.checked_note(actor, reason), cause, drain_s, standby_s)

        async def decide(now: Slot) -> SlotWish:
            if expected is not None and now.model != expected:
                raise Outrun(f"{now.winner}; expected {expected!r}")
            return wish

        return await self._change(service, slot, decide)

    async def roll_back(
        self, service: str, slot: str = "", *, actor: str = "", reason: str = "", cause: Cause = "human"
    ) -> SlotChange:
        """Want in a slot the last other model that it wanted and may still have.

        Raises Outrun when somebody else changes the slot meanwhile: two who roll back a bad model must not bring it back.
        """
        service, slot = checks.checked_service(service), checks.checked_slot(slot)
        note = checks.checked_note(actor, reason)
        first = await self._slot(service, slot)

        async def decide(now: Slot) -> SlotWish:
            if first.generation not in (0, now.generation):
                raise Outrun(now.winner)
            text = f"rollback of generation {now.generation}" + (f": {reason}" if reason else "")
            return SlotWish(model=await self._earlier(now), actor=note.actor, reason=text, cause=cause)

        return await self._change(service, slot, decide)

    async def set_veto(self, service: str, model: str, vetoed: bool, *, actor: str = "", reason: str = "") -> None:
        """Keep a model out of every slot, or let it in again. What serves it goes on."""
        service, model = checks.checked_service(service), checks.checked_name("model", model)
        note, key = checks.checked_note(actor, reason), desired.veto_key(service, model)
        record = audited("veto" if vetoed else "unveto", service, model, note)
        if vetoed:
            await self._entry(service, model)
            done = await self._etcd.transact(
                [exists(desired.model_key(service, model))], [Put(key, note.model_dump_json()), record]
            )
            outcome: DomainError = Outrun(f"{service} model {model!r} was taken out of the catalog just now")
        else:
            done = await self._etcd.transact([exists(key)], [Delete(key), record])
            outcome = NotFound(f"veto on a {service} model", model, await self._names("vetoes", service))
        if not done.succeeded:
            raise outcome

    async def evict(self, service: str, model: str, *, actor: str = "", reason: str = "") -> None:
        """Free the memory of a warm model. Raises Refused if a slot wants it or it is to be kept warm."""
        service, model = checks.checked_service(service), checks.checked_name("model", model)
        note = checks.checked_note(actor, reason)
        entry, spec = await self._usable(service, model)
        if spec.preload:
            raise Refused(f"{service} model {model!r} is kept warm: take its preload away first")
        slots = (await self._etcd.list(desired.slot_key(service, ""))).kvs
        for found in slots:
            if wish_of(found).model == model:
                raise Refused(f"{service} model {model!r} is wanted in slot {found.key.rpartition('/')[2]!r}")
        await self._refuse_if_served(service, model)
        unchanged = [mod_revision_is(found.key, found.mod_revision) for found in (entry, *slots)]

        def told(lease: int) -> list[Operation]:
            put = Put(desired.eviction_key(service, model), note.model_dump_json(), lease)
            return [put, audited("evict", service, model, note)]

        if not await self._evictions.tell(self._etcd, unchanged, told):
            raise Outrun(f"a slot or the catalog entry of {service} changed just now: look again")

    async def preload(self, service: str, model: str, preload: bool, *, actor: str = "", reason: str = "") -> None:
        """Keep a model warm before it is asked for, or no longer. All else in its catalog entry stays as it was written."""
        service, model = checks.checked_service(service), checks.checked_name("model", model)
        record = audited("preload" if preload else "no preload", service, model, checks.checked_note(actor, reason))
        for _ in range(ATTEMPTS):
            entry, spec = await self._usable(service, model, vetoed_too=not preload)
            if spec.preload == preload:
                return
            put = Put(entry.key, catalog.with_preload(entry.value, preload))
            compares: list[Compare] = [mod_revision_is(entry.key, entry.mod_revision)]
            compares += [absent(desired.veto_key(service, model))] if preload else []
            if (await self._etcd.transact(compares, [put, record])).succeeded:
                return
            await pause()
        raise Unavailable(f"the catalog entry of {service} model {model!r} keeps changing")

    def require_etcd(self) -> Etcd:
        """Raises Refused without etcd."""
        if self._connected is None:
            raise Refused("this gateway was started without etcd: models are what its hosts were started with")
        return self._connected

    @property
    def _etcd(self) -> Etcd:
        return self.require_etcd()

    async def _change(self, service: str, slot: str, decide: Decision) -> SlotChange:
        """Write what `decide` makes of the slot as it is, again and again until nobody else was first."""
        for _ in range(ATTEMPTS):
            now = await self._slot(service, slot)
            wish = await decide(now)
            entry, _ = await self._usable(service, wish.model)
            if not now.generation:
                # A generation follows from the key's own revisions, so a slot must exist before its next one is known.
                await self._etcd.transact([absent(now.key)], [Put(now.key, "{}")])
            elif await self._written(change := prepared(now, wish, entry)):
                return change.change
            else:
                await pause()
        raise Unavailable(f"{service}/{slot} keeps changing: too many want it at once")

    async def prepared_copy(self, service: str, source: str, slot: str, note: Note) -> tuple[Prepared, Compare] | None:
        """What it takes for a slot to want what another wants, and that this one wants it still; None if it does already.

        Raises NotFound and Refused for a source that wants nothing that a slot may take.
        """
        origin, now = await self._slot(service, source), await self._slot(service, slot)
        if not origin.generation or not origin.wish.model:
            raise Refused(f"{service}/{source} wants no model that could be promoted")
        if origin.wish.model == now.model:
            return None
        entry, _ = await self._usable(service, origin.wish.model)
        if not now.generation:
            await self._etcd.transact([absent(now.key)], [Put(now.key, "{}")])
            now = await self._slot(service, slot)
        wish = SlotWish(model=origin.wish.model, actor=note.actor, reason=note.reason)
        return prepared(now, wish, entry), mod_revision_is(origin.key, origin.mod_revision)

    async def _written(self, change: Prepared) -> bool:
        """Write a slot's next generation with its record; False if what it was decided on has changed."""
        try:
            return (await self._etcd.transact(change.unchanged, change.puts)).succeeded
        except EtcdAway as error:
            if not error.maybe_applied:
                raise
            # The answer was lost, perhaps not the change: only our own record of it tells.
            found = await self._etcd.get(change.history.key)
            return found is not None and found.value == change.history.value

    async def _slot(self, service: str, slot: str) -> Slot:
        found = await self._etcd.get(desired.slot_key(service, slot))
        wish = wish_of(found) if found else SlotWish()
        model = wish.model or await served_model(self._etcd, service, slot)
        if found is None:
            return Slot(service, slot, wish, model, 0, 0)
        generation = desired.generation_of(found.create_revision, found.version)
        return Slot(service, slot, wish, model, generation, found.mod_revision)

    async def _earlier(self, now: Slot) -> str:
        """The newest model that a slot wanted before the one that it wants, and that may still be had."""
        tried: list[str] = []
        for model in models_before(await self._history(now.service, now.name), now.model):
            try:
                await self._usable(now.service, model)
            except (NotFound, Refused):
                tried.append(model)
            else:
                return model
        raise NotFound(
            f"earlier usable model of {now.service} slot", now.name, [f"{model} (vetoed or gone)" for model in tried]
        )

    async def _history(self, service: str, slot: str) -> list[HistoryEntry]:
        """Newest first; entries that nobody can read are left out."""
        listing = await self._etcd.list(desired.history_key(service, slot, 0).rpartition("/")[0] + "/")
        return [entry for found in reversed(listing.kvs) if (entry := entry_of(found))]

    async def _entry(self, service: str, model: str) -> KeyValue:
        """A catalog entry as it is written. Raises NotFound."""
        found = await self._etcd.get(desired.model_key(service, model))
        if found is None:
            raise NotFound(f"{service} model", model, await self._names("models", service))
        return found

    async def _usable(self, service: str, model: str, vetoed_too: bool = False) -> tuple[KeyValue, ModelSpec]:
        """A catalog entry that a slot may take. Raises NotFound, and Refused for a broken or vetoed one."""
        entry = await self._entry(service, model)
        try:
            spec = desired.parsed(ModelSpec, entry.value)
        except InvalidInput as error:
            raise Refused(f"the catalog entry of {service} model {model!r} is broken: {error}") from error
        if not vetoed_too and (veto := await self._etcd.get(desired.veto_key(service, model))):
            raise Refused(f"{service} model {model!r} is vetoed: {catalog.veto_text(veto.value)}")
        return entry, spec

    async def _refuse_if_served(self, service: str, model: str) -> None:
        """Raises Refused; a host may serve in a slot what nobody told it to."""
        for host in hosts_in((await self._etcd.list(desired.observed_key(service, ""))).kvs):
            for status in host.slots:
                if status.model == model:
                    raise Refused(f"{service} model {model!r} is served in slot {status.slot!r} of {host.instance}")

    async def _names(self, kind: str, service: str) -> list[str]:
        prefix = f"{desired.PREFIX}{kind}/{service}/"
        return [found.key.removeprefix(prefix) for found in (await self._etcd.list(prefix, keys_only=True)).kvs]


def prepared(now: Slot, wish: SlotWish, entry: KeyValue) -> Prepared:
    """A slot's next generation, with its record."""
    step = HistoryEntry(
        wish=wish,
        generation=now.generation + 1,
        model_before=now.model,
        generation_before=now.generation,
        at_ms=now_ms(),
        via="api",
    )
    history, audit = slot_records("set slot", now.service, now.name, step)
    unchanged = [
        mod_revision_is(now.key, now.mod_revision),
        mod_revision_is(entry.key, entry.mod_revision),
        absent(desired.veto_key(now.service, wish.model)),
        absent(history.key),
    ]
    puts = [Put(now.key, wish.model_dump_json(exclude_none=True)), history, audit]
    return Prepared(SlotChange(now.service, now.name, step), unchanged, puts, history)


def wish_of(found: KeyValue) -> SlotWish:
    """What a slot's key says; nothing, if nobody can read it."""
    try:
        return desired.parsed(SlotWish, found.value)
    except InvalidInput:
        return SlotWish()


def entry_of(found: KeyValue) -> HistoryEntry | None:
    return read(HistoryEntry, found)


def read(kind: type[Record], found: KeyValue) -> Record | None:
    """What a key says; None if nobody can read it."""
    try:
        return desired.parsed(kind, found.value)
    except InvalidInput:
        return None


def models_before(history: Sequence[HistoryEntry], model: str) -> Iterator[str]:
    """The models other than `model` that a history knows of, newest first, each once."""
    seen = {"", model}
    for entry in history:
        for earlier in (entry.wish.model, entry.model_before):
            if earlier not in seen:
                seen.add(earlier)
                yield earlier


async def pause() -> None:
    """Let the others go first, for a moment that nobody else takes too."""
    await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_S))
