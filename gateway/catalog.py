"""The catalog in etcd, and what is made of it: which slots want a model, and which hosts have it."""

import asyncio
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.observed import Host, hosts_in
from services.runtime import desired
from services.runtime.desired import Budget, Note, SlotWish, V
from services.runtime.engine import ModelSpec
from services.runtime.errors import InvalidInput
from services.runtime.etcd import Etcd, KeyValue
from talkmesh.model.v1 import model_pb2


@dataclass(frozen=True)
class Entry:
    """A usable model of the catalog."""

    service: str
    model: str
    spec: ModelSpec
    veto: str
    """Why and by whom it is vetoed; empty if it is not."""
    slots: tuple[str, ...]
    hosts: tuple[tuple[str, model_pb2.ModelStatus], ...]
    """Instance → its state there."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a key that somebody wrote; `field` is empty for the value as a whole."""

    key: str
    field: str
    reason: str


@dataclass(frozen=True)
class Catalog:
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]


async def read(etcd: Etcd, service: str = "") -> Catalog:
    """The catalog of one service, or of all for ""."""
    prefixes = (f"{desired.PREFIX}{kind}/{service}" for kind in ("models", "slots", "vetoes", "budgets", "observed"))
    listings = await asyncio.gather(*(etcd.list(prefix) for prefix in prefixes))
    models, slots, vetoes, budgets, observed = (
        [found for found in listing.kvs if not service or service_and_name(found.key)[0] == service]
        for listing in listings
    )
    problems: list[Problem] = []
    specs = readable(ModelSpec, models, problems)
    wishes = readable(SlotWish, slots, problems)
    readable(Budget, budgets, problems)
    vetoed = {service_and_name(found.key): veto_text(found.value) for found in vetoes}
    hosts = hosts_in(observed)
    entries = (
        Entry(
            service=name[0],
            model=name[1],
            spec=spec,
            veto=vetoed.get(name, ""),
            slots=tuple(slot for (owner, slot), wish in wishes.items() if (owner, wish.model) == name),
            hosts=tuple(on_hosts(hosts, *name)),
        )
        for name, spec in specs.items()
    )
    return Catalog(tuple(entries), tuple(problems))


def readable(kind: type[V], found: Iterable[KeyValue], problems: list[Problem]) -> dict[tuple[str, str], V]:
    """Service and name → value, of those that are what they must be; the others become problems."""
    values: dict[tuple[str, str], V] = {}
    for each in found:
        service, name = service_and_name(each.key)
        try:
            if service not in desired.SERVICES:
                raise InvalidInput("", f"{service!r} is no service", f"one of {', '.join(desired.SERVICES)}")
            if kind is not Budget and not re.fullmatch(desired.NAME, name):
                raise InvalidInput("", f"{name!r} is no name")
            values[service, name] = desired.parsed(kind, each.value)
        except InvalidInput as error:
            expected = f"; expected {error.expected}" if error.expected else ""
            problems.append(Problem(each.key, error.field, error.problem + expected))
    return values


def service_and_name(key: str) -> tuple[str, str]:
    """Of a key "…/{kind}/{service}/{name}"."""
    _, _, rest = key.removeprefix(desired.PREFIX).partition("/")
    service, _, name = rest.partition("/")
    return service, name


def on_hosts(hosts: Iterable[Host], service: str, model: str) -> Iterable[tuple[str, model_pb2.ModelStatus]]:
    for host in hosts:
        if host.service == service:
            yield from ((host.instance, status) for status in host.models if status.model.model == model)


def veto_text(value: str) -> str:
    """Why a model is vetoed and by whom. A veto that nobody can read is one all the same."""
    try:
        note = desired.parsed(Note, value)
    except InvalidInput:
        return "by an entry that cannot be read"
    return (note.reason or "no reason given") + (f" ({note.actor})" if note.actor else "")


def with_preload(value: str, preload: bool) -> str:
    """A catalog entry that could be read, with its flag and otherwise as it was written."""
    content = json.loads(value)
    content["preload"] = preload
    return json.dumps(content, ensure_ascii=False)
