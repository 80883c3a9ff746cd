"""What a service is wanted to be: the values under its keys in etcd, each checked, each as good as it last was."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.runtime.desired import (
    SERVICES,
    STABLE,
    Budget,
    Note,
    SlotWish,
    generation_of,
    parsed,
    place,
)
from services.runtime.engine import ModelSpec
from services.runtime.errors import InvalidInput
from services.runtime.etcd import KeyValue


@dataclass(frozen=True)
class Problem:
    """What is wrong with a value."""

    key: str
    field: str
    reason: str


@dataclass(frozen=True)
class Wanted:
    """A generation of a slot."""

    generation: int
    wish: SlotWish


@dataclass
class Desired:
    """The desired state of one service, as far as it can be understood.

    A value that cannot be is a problem, and the one before it stands.
    """

    service: str
    models: dict[str, ModelSpec] = field(default_factory=dict)
    slots: dict[str, Wanted] = field(default_factory=dict)
    vetoes: dict[str, Note] = field(default_factory=dict)
    evictions: dict[str, int] = field(default_factory=dict)
    """Model → the revision at which it was asked to go."""
    budget: Budget = field(default_factory=Budget)
    problems: dict[str, Problem] = field(default_factory=dict)
    kept: dict[str, KeyValue] = field(default_factory=dict)
    """The values that all this was read from."""
    revision: int = 0

    def take(self, kv: KeyValue) -> None:
        """Read one value. A bad one becomes a problem."""
        where = place(kv.key)
        if where is None:
            return
        if where.service != self.service:
            self._mind_stranger(kv.key, where.service)
            return
        self.problems.pop(kv.key, None)
        try:
            self._read(where.kind, where.name, kv)
            self.kept[kv.key] = kv
        except InvalidInput as error:
            expected = f"; expected {error.expected}" if error.expected else ""
            self.problems[kv.key] = Problem(kv.key, error.field, f"{error.problem}{expected}")

    def drop(self, key: str) -> None:
        """A value is gone. A slot keeps what it had: nobody who is talking is to be left without a model."""
        where = place(key)
        self.problems.pop(key, None)
        if where is None or where.service != self.service:
            return
        match where.kind:
            case "models":
                self.models.pop(where.name, None)
            case "vetoes":
                self.vetoes.pop(where.name, None)
            case "evictions":
                self.evictions.pop(where.name, None)
            case "budgets":
                self.budget = Budget()
            case "slots" if where.name != STABLE:
                self.slots.pop(where.name, None)
            case "slots":
                self.problems[key] = Problem(key, "", "is gone; the slot goes on with what it has")
                return
        self.kept.pop(key, None)

    def reconcile(self, kvs: Mapping[str, KeyValue], revision: int) -> None:
        """Take a whole listing."""
        for key in [key for key in (*self.kept, *self.problems) if key not in kvs]:
            self.drop(key)
        for kv in kvs.values():
            if (known := self.kept.get(kv.key)) is None or known.mod_revision != kv.mod_revision:
                self.take(kv)
        self.revision = revision

    def _read(self, kind: str, name: str, kv: KeyValue) -> None:
        match kind:
            case "models":
                self.models[name] = parsed(ModelSpec, kv.value)
            case "slots":
                wish = parsed(SlotWish, kv.value)
                self.slots[name] = Wanted(generation_of(kv.create_revision, kv.version), wish)
            case "vetoes":
                self.vetoes[name] = parsed(Note, kv.value)
            case "evictions":
                parsed(Note, kv.value)
                self.evictions[name] = kv.mod_revision
            case "budgets":
                self.budget = parsed(Budget, kv.value)

    def _mind_stranger(self, key: str, service: str) -> None:
        """A key of a service that does not exist is nobody's: everybody says so."""
        if service not in SERVICES and self.service in SERVICES:
            self.problems[key] = Problem(key, "", f"no service is called {service!r}; known: {', '.join(SERVICES)}")


def standalone(service: str, catalog: Mapping[str, ModelSpec], model: str) -> Desired:
    """The desired state of a service that is started without etcd: one model, for good."""
    wanted = Wanted(1, SlotWish(model=model, actor="command line"))
    return Desired(service, models=dict(catalog), slots={STABLE: wanted})
