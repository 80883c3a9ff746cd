"""What operators do with flags: written to etcd for every gateway to follow, each with its record in one transaction.

Knows nothing of gRPC. All raise InvalidInput naming the field, NotFound, Outrun when somebody else was first, Refused
without etcd, and EtcdAway while it is away.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway import checks
from gateway.experiments.assignment import Decision
from gateway.experiments.flags import Bundle, Flag, Layer, check_apart
from gateway.experiments.registry import BUNDLES, FLAGS, Registry, parsed
from gateway.experiments.rules import Attributes
from gateway.experiments.verdicts import VERDICTS, Verdict, recorded
from services.runtime.desired import Note, veto_key
from services.runtime.errors import InvalidInput, NotFound, Outrun, Refused
from services.runtime.etcd import (
    Compare,
    Delete,
    Etcd,
    KeyValue,
    Operation,
    Put,
    absent,
    exists,
    mod_revision_is,
)
from services.runtime.records import audited

EXPERIMENTS = "experiments"
"""Stands in the audit where a service would."""


@dataclass(frozen=True)
class Written:
    """A flag as it stands in etcd."""

    name: str
    text: str
    revision: int
    problem: str
    lacks: str


class FlagControl:
    """The operator's verbs. `registry` is what this gateway makes of the flags."""

    def __init__(self, etcd: Etcd | None, registry: Registry) -> None:
        self._connected = etcd
        self._registry = registry

    async def put(self, name: str, text: str, expected: int | None = None, *, actor: str = "", reason: str = "") -> int:
        """Write a flag; returns the revision at which it stands. `expected`: where it is believed to stand, 0 is nowhere."""
        name, note = checks.checked_name("flag", name), checks.checked_note(actor, reason)
        flag = parsed(Flag, text)
        others = {found.key.removeprefix(FLAGS): found for found in (await self._etcd.list(FLAGS)).kvs}
        self._check_layer(name, flag, others)
        await self._check_bundles(flag)
        before = others.get(name)
        if expected is not None and expected != (before.mod_revision if before else 0):
            raise Outrun(winner(name, before))
        return await self._written(name, flag, text, before, note)

    async def _written(
        self,
        name: str,
        flag: Flag,
        text: str,
        before: KeyValue | None,
        note: Note,
        fence: Sequence[Compare] = (),
        also: Sequence[Operation] = (),
    ) -> int:
        """Put a flag with its record, and what else belongs to it, if nobody else was first and `fence` holds."""
        key = FLAGS + name
        # What was written is kept as it was written, comments of a person's order included; who and why is ours to say.
        value = json.dumps(json.loads(text) | note.model_dump(), ensure_ascii=False)
        unchanged = mod_revision_is(key, before.mod_revision) if before else absent(key)
        was = before.value if before else ""
        record = audited("set flag", EXPERIMENTS, f"{name}: {flag.state}", note, before=was, after=value)
        done = await self._etcd.transact([unchanged, *fence], [Put(key, value), record, *also])
        if not done.succeeded:
            raise Outrun(winner(name, await self._etcd.get(key)))
        return done.revision

    async def decided(
        self,
        verdict: Verdict,
        *,
        actor: str,
        changes: Mapping[str, object] | None = None,
        revision: int = 0,
        fence: Sequence[Compare] = (),
        also: Sequence[Operation] = (),
    ) -> bool:
        """Carry out a verdict: the flag's new state, the models that no slot may take any more, and the numbers, together.

        False if the flag is that far or further already, or gone. `changes`: what else becomes of the flag.
        `revision`: where it stood when it was decided; 0 is wherever it stands now. Raises Outrun when somebody was first.
        """
        name, key = verdict.flag, FLAGS + verdict.flag
        found = await self._etcd.get(key)
        value = json.loads(found.value) if found else {}
        is_done = verdict.state != "on" and value.get("state", "on") in (verdict.state, "off")
        if found is None or (is_done and not also):
            return False
        if revision and found.mod_revision != revision:
            raise Outrun(winner(name, found))
        text = json.dumps(value | {"state": verdict.state} | dict(changes or {}), ensure_ascii=False)
        note = Note(actor=actor, reason=verdict.reason[: checks.MOST_REASON_CHARS])
        records = [recorded(verdict), *vetoes(verdict, note), *also]
        await self._written(name, parsed(Flag, text), text, found, note, fence, records)
        return True

    async def verdicts(self, name: str = "", limit: int = 0) -> list[Verdict]:
        """What was decided about a flag, or all for "": newest first, `limit` at most; 0 is the default of `checks`."""
        prefix = f"{VERDICTS}{checks.checked_name('flag', name)}/" if name else VERDICTS
        limit = checks.checked_limit(limit)
        # By what came first in etcd: the clocks of gateways may differ.
        found = sorted((await self._etcd.list(prefix)).kvs, key=lambda each: each.mod_revision, reverse=True)
        return [verdict for each in found if (verdict := verdict_of(each))][:limit]

    async def delete(self, name: str, expected: int | None = None, *, actor: str = "", reason: str = "") -> None:
        """Take a flag away. `expected`: where it is believed to stand."""
        name, note = checks.checked_name("flag", name), checks.checked_note(actor, reason)
        key, found = FLAGS + name, await self._etcd.get(FLAGS + name)
        if found is None:
            raise NotFound("flag", name, await self._names())
        if expected is not None and expected != found.mod_revision:
            raise Outrun(winner(name, found))
        record = audited("delete flag", EXPERIMENTS, name, note, before=found.value)
        unchanged = exists(key) if expected is None else mod_revision_is(key, expected)
        if not (await self._etcd.transact([unchanged], [Delete(key), record])).succeeded:
            raise Outrun(winner(name, await self._etcd.get(key)))

    async def written(self) -> list[Written]:
        """All flags, by name, with what this gateway makes of them."""
        return [self._read(each) for each in sorted((await self._etcd.list(FLAGS)).kvs, key=lambda each: each.key)]

    async def one_written(self, name: str) -> Written:
        """One of them."""
        name = checks.checked_name("flag", name)
        found = await self._etcd.get(FLAGS + name)
        if found is None:
            raise NotFound("flag", name, await self._names())
        return self._read(found)

    def _read(self, found: KeyValue) -> Written:
        name = found.key.removeprefix(FLAGS)
        problem = self._registry.problems.get(found.key, "")
        return Written(name, found.value, found.mod_revision, problem, self._registry.lacks(name))

    async def _names(self) -> list[str]:
        return [each.key.removeprefix(FLAGS) for each in (await self._etcd.list(FLAGS, keys_only=True)).kvs]

    def decide(self, units: dict[str, str], attributes: Attributes, name: str = "") -> list[Decision]:
        """What a user would get of one flag, or of each. Answers from what this gateway knows, with or without etcd."""
        names = [checks.checked_name("flag", name)] if name else sorted(self._registry.names)
        if unknown := next((each for each in names if each not in self._registry.names), None):
            raise NotFound("flag", unknown, self._registry.names)
        return [self._registry.decide(each, units, attributes) for each in names]

    @property
    def registry(self) -> Registry:
        """What this gateway makes of the flags."""
        return self._registry

    @property
    def _etcd(self) -> Etcd:
        if self._connected is None:
            raise Refused("this gateway was started without etcd: there are no experiments")
        return self._connected

    def _check_layer(self, name: str, flag: Flag, others: dict[str, KeyValue]) -> None:
        claims = [(name, flag.layer)] if flag.layer else []
        claims += [claim for claim in layers(others) if claim[0] != name]
        check_apart(claims)

    async def _check_bundles(self, flag: Flag) -> None:
        """Raises NotFound for a bundle that there is not, InvalidInput for one that nobody can read."""
        for variant in flag.variants.values():
            if variant.bundle is not None:
                found = await self._etcd.get(BUNDLES + variant.bundle)
                if found is None:
                    known = (await self._etcd.list(BUNDLES, keys_only=True)).kvs
                    raise NotFound("bundle", variant.bundle, [each.key.removeprefix(BUNDLES) for each in known])
                parsed(Bundle, found.value)


def vetoes(verdict: Verdict, note: Note) -> Iterator[Put]:
    """Of the models that no slot may take any more, each with its audit."""
    for service, model in verdict.vetoed.items():
        yield Put(veto_key(service, model), note.model_dump_json())
        yield audited("veto", service, model, note)


def verdict_of(found: KeyValue) -> Verdict | None:
    """What was written, if anybody can read it."""
    try:
        return parsed(Verdict, found.value)
    except InvalidInput:
        return None


def layers(flags: dict[str, KeyValue]) -> Iterator[tuple[str, Layer]]:
    """What flags claim of layers; one that nobody can read claims nothing."""
    for name, found in flags.items():
        try:
            flag = parsed(Flag, found.value)
        except InvalidInput:
            continue
        if flag.layer:
            yield name, flag.layer


def winner(name: str, now: KeyValue | None) -> str:
    """Who was first, for those who wanted something else."""
    if now is None:
        return f"flag {name!r} is not there (any more)"
    try:
        flag = parsed(Flag, now.value)
    except InvalidInput:
        return f"flag {name!r} stands at revision {now.mod_revision}"
    by = f" by {flag.actor}" if flag.actor else ""
    why = f": {flag.reason}" if flag.reason else ""
    return f"flag {name!r} stands at revision {now.mod_revision}{by}{why}"
