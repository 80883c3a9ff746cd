"""The experiments that run, as this gateway knows them, and what each session was given.

What stands in etcd is checked again here: anybody may have written it. A value that cannot be read changes nothing; what it
said before holds on, and `problems` tells.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from gateway.experiments.assignment import Decision, Evaluator, Reason
from gateway.experiments.flags import Bundle, Flag, Variant, check_apart
from gateway.experiments.rules import ATTRIBUTES, Attributes, Kind, Known
from gateway.following import follow
from services.runtime import desired
from services.runtime.desired import PREFIX, STABLE, Value
from services.runtime.errors import InvalidInput
from services.runtime.etcd import Away, Back, Changes, Etcd, Heard, KeyValue, Snapshot
from talkmesh.conversation.v1 import conversation_pb2

FLAGS, BUNDLES = f"{PREFIX}flags/", f"{PREFIX}bundles/"
MOST_CHARS = 65_536
"""Of a flag. etcd takes twenty times as much; nobody reads that."""
MOST_ATTRIBUTE_CHARS, MOST_TAGS = 200, 100
log = logging.getLogger(__name__)
Model = TypeVar("Model", bound=Value)
Ready = Callable[[str, str], bool]
"""Whether every host of a service serves a slot."""
Serving = Callable[[str, str], str]
"""The models that the hosts of a service serve in a slot, with their generations; empty while that is not known."""


def unknown(service: str, slot: str) -> str:
    """What serves where nobody can be asked."""
    return ""


@dataclass(frozen=True)
class Assigned:
    """What one session was given when it was opened."""

    decisions: tuple[Decision, ...] = ()
    """Of the flags that gave it a variant."""
    shadows: tuple[Decision, ...] = ()
    """Of the flags whose variants only get a copy of what the session says and hears."""
    stale: bool = False
    """Whether etcd was away then."""
    left: set[str] = field(default_factory=set)
    """Flags whose variant has failed this session: it gets what everybody gets."""

    def protos(self) -> list[conversation_pb2.Assignment]:
        """As clients are told."""
        return [
            conversation_pb2.Assignment(
                flag=decision.flag,
                variant=decision.variant,
                reason="STALE" if self.stale else decision.reason.value,
            )
            for decision in self.decisions
            if decision.flag not in self.left
        ]


@dataclass
class Registry:
    """The flags and bundles of etcd. `follow` keeps them up; everything else answers at once."""

    ready: Ready
    serving: Serving = unknown
    missing: Serving = unknown
    """Why hosts do not serve what a slot wants, in their words."""
    problems: dict[str, str] = field(default_factory=dict)
    """Key → what is wrong with its newest value."""
    stale: bool = False
    _taken_back: set[str] = field(default_factory=set)
    """Flags that are off here, whatever etcd says, until they are written anew."""
    _revisions: dict[str, int] = field(default_factory=dict)
    _turned_on: Counter[str] = field(default_factory=Counter)
    """Times that a flag was on again after it was not."""
    _served: dict[tuple[str, str], str] = field(default_factory=dict)
    """What was known last of what serves a slot: a host that is away for a moment changes nothing."""
    _places: frozenset[tuple[str, str]] | None = None
    _changes: int = 0
    """Times that anything was heard of etcd or taken back."""
    _flags: dict[str, Evaluator] = field(default_factory=dict)
    _bundles: dict[str, Bundle] = field(default_factory=dict)

    async def follow(self, etcd: Etcd) -> None:
        """Keep up with etcd until cancelled."""
        async with asyncio.TaskGroup() as group:
            for prefix in (FLAGS, BUNDLES):
                group.create_task(follow(etcd, prefix, partial(self.take, prefix)))

    def take(self, prefix: str, heard: Heard) -> None:
        """Act on one thing heard of the keys below a prefix."""
        self._changes, self._places = self._changes + 1, None
        match heard:
            case Snapshot(kvs=kvs):
                self.stale = False
                for gone in [name for name in self._known(prefix) if prefix + name not in kvs]:
                    self._forget(prefix, gone)
                for kv in kvs.values():
                    self._read(prefix, kv)
            case Changes(events=events):
                for event in events:
                    if event.deleted:
                        self._forget(prefix, event.kv.key.removeprefix(prefix))
                    else:
                        self._read(prefix, event.kv)
            case Away(reason=reason):
                log.warning("etcd is away, experiments go on as they were: %s", reason)
                self.stale = True
            case Back():
                self.stale = False

    def _known(self, prefix: str) -> Mapping[str, object]:
        return self._flags if prefix == FLAGS else self._bundles

    def _forget(self, prefix: str, name: str) -> None:
        self.problems.pop(prefix + name, None)
        if prefix == FLAGS:
            self._flags.pop(name, None)
            self._taken_back.discard(name)
            self._turned_on[name] += 1
        else:
            self._bundles.pop(name, None)

    def _read(self, prefix: str, kv: KeyValue) -> None:
        name = kv.key.removeprefix(prefix)
        try:
            if prefix == FLAGS:
                flag = parsed(Flag, kv.value)
                self._check_layers(name, flag)
                self._turned_on[name] += flag.state == "on" and self._is_not_on(name)
                self._flags[name], self._revisions[name] = Evaluator(name, flag), kv.mod_revision
                self._taken_back.discard(name)
            else:
                self._bundles[name] = parsed(Bundle, kv.value)
        except InvalidInput as error:
            self.problems[kv.key] = str(error)
            log.warning("%s: %s", kv.key, error)
        else:
            self.problems.pop(kv.key, None)

    def _is_not_on(self, name: str) -> bool:
        known = self._flags.get(name)
        return name in self._taken_back or (known is not None and known.flag.state != "on")

    def _check_layers(self, name: str, flag: Flag) -> None:
        """Raises InvalidInput for buckets of a layer that another flag has."""
        layers = {each.name: each.flag.layer for each in self._flags.values()} | {name: flag.layer}
        check_apart((flag_name, layer) for flag_name, layer in layers.items() if layer)

    @property
    def names(self) -> Collection[str]:
        """Of the flags that this gateway goes by."""
        return self._flags.keys()

    def flag(self, name: str) -> Flag | None:
        """One of them."""
        evaluator = self._flags.get(name)
        return evaluator.flag if evaluator else None

    def gives(self, name: str) -> bool:
        """Whether sessions still have what a flag gave to them."""
        evaluator = self._flags.get(name)
        return evaluator is not None and evaluator.flag.state != "off" and name not in self._taken_back

    def signature(self, name: str) -> str:
        """What must stay as it is for the sessions of a flag's arms to be compared with one another.

        Raises KeyError for a flag that there is not.
        """
        flag = self._flags[name].flag
        arms = {arm: sorted(self._slots_of(variant).items()) for arm, variant in flag.variants.items()}
        slots = {each for variant in arms.values() for each in variant}
        slots |= {(service, STABLE) for service, _ in slots}
        served = [(*each, self._last_served(*each)) for each in sorted(slots)]
        return repr((arms, flag.control, flag.shares, flag.salt, flag.units, self._turned_on[name], served))

    def arms(self, name: str) -> str:
        """As `signature`, but the same in every gateway and after a restart: by what sessions on record can be compared."""
        flag = self._flags[name].flag
        slots = {arm: sorted(self._slots_of(variant).items()) for arm, variant in sorted(flag.variants.items())}
        asked = {each for variant in slots.values() for each in variant}
        asked |= {(service, STABLE) for service, _ in asked}
        models = [(*each, model_in(self._last_served(*each))) for each in sorted(asked)]
        shares = sorted((arm, [tuple(each) for each in ranges]) for arm, ranges in flag.shares.items())
        return repr((slots, flag.control, shares, flag.salt, flag.units, flag.hash_version, models))

    def _last_served(self, service: str, slot: str) -> str:
        if now := self.serving(service, slot):
            self._served[service, slot] = now
        return self._served.get((service, slot), "")

    def shadow(self, assigned: Assigned, service: str) -> tuple[Decision, str] | None:
        """Who is to get a copy of a stream to a service that a session opens now, and in which slot."""
        for decision in assigned.shadows:
            slot = self.variant_slots(decision.flag, decision.variant).get(service)
            if slot and self._flags[decision.flag].flag.state == "shadow" and self.gives(decision.flag):
                return decision, slot
        return None

    def variant_slots(self, name: str, variant: str) -> Mapping[str, str]:
        """Service → slot of a flag's variant; empty for what there is not."""
        evaluator = self._flags.get(name)
        found = evaluator.flag.variants.get(variant) if evaluator else None
        return self._slots_of(found) if found else {}

    def models(self, name: str, variant: str) -> dict[str, str]:
        """Service → model that a variant has now, as far as it is known."""
        slots = self.variant_slots(name, variant).items()
        return {service: model for service, slot in slots if (model := model_in(self._last_served(service, slot)))}

    def own_models(self, name: str, variant: str) -> dict[str, str]:
        """Those of them that not everybody has."""
        found = self.models(name, variant).items()
        return {each: model for each, model in found if model != model_in(self._last_served(each, STABLE))}

    def revision(self, name: str) -> int:
        """Where the flag that this gateway goes by was written; 0 for none."""
        return self._revisions.get(name, 0)

    def take_back(self, name: str) -> None:
        """Give nothing of a flag to anybody any more, until it is written anew."""
        self._taken_back.add(name)
        self._changes += 1

    def standing(self) -> tuple[object, ...]:
        """What flags are, and what serves the slots that they name: while this is the same, so is all else."""
        places = [
            (*each, self.ready(*each), self.serving(*each), self.missing(*each)) for each in sorted(self.places())
        ]
        return self._changes, *places

    def places(self) -> frozenset[tuple[str, str]]:
        """Service and slot of whatever a flag's variants name, and of what everybody gets there."""
        if self._places is None:
            flags = (each.flag for each in self._flags.values())
            named = {
                place for flag in flags for each in flag.variants.values() for place in self._slots_of(each).items()
            }
            self._places = frozenset(named | {(service, STABLE) for service, _ in named})
        return self._places

    def lacks(self, name: str) -> str:
        """What a flag's variants need and is not there; empty if nothing, or if there is no such flag."""
        evaluator = self._flags.get(name)
        variants = evaluator.flag.variants.items() if evaluator else ()
        return "; ".join(f"variant {arm}: {lack}" for arm, variant in variants if (lack := self._lacks(variant)))

    # --- sessions ---------------------------------------------------------------------------------------------------

    def assign(self, units: Mapping[str, str], attributes: Attributes, now_s: float | None = None) -> Assigned:
        """What a new session gets. `units`: kind → id."""
        decisions, shadows, taken = [], [], set[str]()
        for name in sorted(self._flags):
            decision = self._decide(name, units, attributes, now_s)
            if self._flags[name].flag.state == "shadow":
                shadows += [decision] if decision.variant else []
                continue
            services = self._services(name)
            if decision.variant and not services & taken:
                taken |= services
                decisions.append(decision)
        return Assigned(tuple(decisions), tuple(shadows), self.stale)

    def decide(
        self, name: str, units: Mapping[str, str], attributes: Attributes, now_s: float | None = None
    ) -> Decision:
        """One flag's decision. Raises KeyError for one that there is not."""
        decision = self._decide(name, units, attributes, now_s)
        if decision.variant and self._flags[name].flag.state == "shadow":
            why = f"hears what everybody hears; {decision.variant} gets a copy"
            return Decision(name, "", Reason.DISABLED, decision.unit_kind, why)
        return decision

    def _decide(
        self, name: str, units: Mapping[str, str], attributes: Attributes, now_s: float | None = None
    ) -> Decision:
        evaluator = self._flags[name]
        if name in self._taken_back:
            return Decision(name, "", Reason.DISABLED, why="was taken back by this gateway")
        if lacks := self.lacks(name):
            # Nobody in any arm: whoever is compared must have come at the same time.
            return Decision(name, "", Reason.DISABLED, why=lacks)
        return evaluator.decide(units, attributes, time.time() if now_s is None else now_s)

    def slots(self, assigned: Assigned) -> dict[str, str]:
        """Service → slot for the streams that a session opens now. A flag that was taken back gives nothing any more."""
        found: dict[str, str] = {}
        for decision in assigned.decisions:
            if self.gives(decision.flag) and decision.flag not in assigned.left:
                found |= self.variant_slots(decision.flag, decision.variant)
        return found

    def _slots_of(self, variant: Variant) -> Mapping[str, str]:
        bundle = self._bundles.get(variant.bundle) if variant.bundle is not None else variant
        return dict(bundle.slots.items()) if bundle else {}

    def _services(self, name: str) -> set[str]:
        """Those that a flag is about."""
        return {service for variant in self._flags[name].flag.variants.values() for service in self._slots_of(variant)}

    def _lacks(self, variant: Variant) -> str:
        """What a variant needs and is not there; empty if nothing."""
        if variant.bundle is not None and variant.bundle not in self._bundles:
            return f"there is no bundle {variant.bundle!r}"
        missing = [slot for slot in self._slots_of(variant).items() if not self.ready(*slot)]
        names = ", ".join(f"slot {slot!r} of {service}" for service, slot in missing)
        why = "; ".join(filter(None, (self.missing(*slot) for slot in missing)))
        return f"{names} is not served by every host{f' ({why})' if why else ''}" if missing else ""


def model_in(serving: str) -> str:
    """The one model of a `Serving`; empty if the hosts do not agree."""
    models = {each.rpartition("@")[0] for each in serving.split()}
    return models.pop() if len(models) == 1 else ""


def parsed(model: type[Model], text: str) -> Model:
    """Raises InvalidInput naming the field."""
    if len(text) > MOST_CHARS:
        raise InvalidInput("value", f"has {len(text)} characters", f"at most {MOST_CHARS}")
    try:
        return desired.parsed(model, text)
    except InvalidInput as error:
        raise InvalidInput(error.field or "value", error.problem, error.expected) from None


def of_user(who: conversation_pb2.Who, session_id: str) -> tuple[dict[str, str], dict[str, Known]]:
    """Units and attributes of whoever opens a session. Raises InvalidInput for what cannot be one."""
    units = {"user": who.user_id, "device": who.device_id, "session": session_id}
    attributes: dict[str, Known] = {"user": who.user_id} if who.user_id else {}
    for name, text in who.attributes.items():
        kind = ATTRIBUTES.get(name)
        if kind is None or kind is Kind.SET or name == "user":
            known = ", ".join(each for each, of in ATTRIBUTES.items() if of is not Kind.SET and each != "user")
            raise InvalidInput(f"who.attributes[{name[:40]!r}]", "is not known", f"one of {known}")
        attributes[name] = number(name, text) if kind is Kind.NUMBER else text
    for name, text in (("user_id", who.user_id), ("device_id", who.device_id), *who.attributes.items()):
        if len(text) > MOST_ATTRIBUTE_CHARS:
            raise InvalidInput(f"who.{name}", f"has {len(text)} characters", f"at most {MOST_ATTRIBUTE_CHARS}")
    if len(who.tags) > MOST_TAGS:
        raise InvalidInput("who.tags", f"has {len(who.tags)}", f"at most {MOST_TAGS}")
    return units, attributes | {"tags": frozenset(who.tags)}


def number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidInput(f"who.attributes[{name!r}]", f"is {text[:40]!r}", "a number") from None
