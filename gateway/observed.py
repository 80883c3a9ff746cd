"""What the hosts tell of themselves through etcd: followed once, for everybody who wants to know."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass

from google.protobuf import json_format

from gateway.following import follow
from services.runtime import desired
from services.runtime.errors import Unavailable
from services.runtime.etcd import Away, Back, Changes, Etcd, Heard, KeyValue, Snapshot
from talkmesh.model.v1 import model_pb2

OBSERVED = f"{desired.PREFIX}observed/"
FIRST_SNAPSHOT_S = 2.5
log = logging.getLogger(__name__)
Host = model_pb2.HostStatus


@dataclass(frozen=True)
class MeshChange:
    """Hosts that are new or have changed, and those that are gone, by service and instance."""

    hosts: tuple[Host, ...]
    gone: tuple[tuple[str, str], ...]
    fresh: bool
    """Whether etcd is seen now."""


class Observed:
    """The newest state of every host. Readers take what has changed since they last looked, however slow they are."""

    def __init__(self) -> None:
        self._hosts: dict[str, tuple[int, Host]] = {}
        self._fresh = False
        self._known = False
        self._ended = False
        self._news = asyncio.Event()

    async def follow(self, etcd: Etcd) -> None:
        """Keep up with etcd until cancelled."""
        await follow(etcd, OBSERVED, self._take)

    def end(self) -> None:
        """Let all readers go."""
        self._ended = True
        self._tell()

    async def changes(self) -> AsyncGenerator[MeshChange, None]:
        """All hosts, then what changes. Raises Unavailable when nothing is known yet and etcd is away, and at the end."""
        await self._first()
        sent: dict[str, int] = {}
        told_fresh: bool | None = None
        while not self._ended:
            news = self._news
            change = self._since(sent)
            if told_fresh is None or change.hosts or change.gone or change.fresh != told_fresh:
                sent, told_fresh = {key: revision for key, (revision, _) in self._hosts.items()}, change.fresh
                yield change
            else:
                await news.wait()
        raise Unavailable("this gateway is stopping")

    async def _first(self) -> None:
        try:
            async with asyncio.timeout(FIRST_SNAPSHOT_S):
                while not (self._known or self._ended):
                    await self._news.wait()
        except TimeoutError:
            raise Unavailable("etcd is away, and nothing is known of the hosts yet") from None

    def _since(self, sent: dict[str, int]) -> MeshChange:
        hosts = (host for key, (revision, host) in sorted(self._hosts.items()) if sent.get(key) != revision)
        gone = (named(key) for key in sent if key not in self._hosts)
        return MeshChange(tuple(hosts), tuple(gone), self._fresh)

    def _take(self, heard: Heard) -> None:
        match heard:
            case Snapshot(kvs=kvs):
                self._hosts = {}
                for found in kvs.values():
                    self._put(found)
                self._fresh = self._known = True
            case Changes(events=events):
                for event in events:
                    if event.deleted:
                        self._hosts.pop(event.kv.key, None)
                    else:
                        self._put(event.kv)
            case Away(reason=reason):
                log.warning("the hosts cannot be followed: %s", reason)
                self._fresh = False
            case Back():
                self._fresh = True
        self._tell()

    def _put(self, found: KeyValue) -> None:
        if host := host_of(found):
            self._hosts[found.key] = (found.mod_revision, host)
        else:
            self._hosts.pop(found.key, None)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


async def served_model(etcd: Etcd, service: str, slot: str) -> str:
    """The model that the hosts of a service serve in a slot; empty if there is none, or if they do not agree."""
    hosts = hosts_in((await etcd.list(desired.observed_key(service, ""))).kvs)
    models = {status.model for host in hosts for status in host.slots if status.slot == slot}
    return models.pop() if len(models) == 1 else ""


def hosts_in(kvs: Iterable[KeyValue]) -> list[Host]:
    """The hosts of a listing; those that cannot be read are left out."""
    return [host for found in kvs if (host := host_of(found))]


def host_of(found: KeyValue) -> Host | None:
    """What a host wrote about itself; its name is the key's. None, with a line in the log, if nobody can read it."""
    service, instance = named(found.key)
    try:
        host = json_format.Parse(found.value, Host(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        log.warning("%s cannot be read: %s", found.key, error)
        return None
    host.service, host.instance = service, instance
    return host


def named(key: str) -> tuple[str, str]:
    """Service and instance of an observed key."""
    service, _, instance = key.removeprefix(OBSERVED).partition("/")
    return service, instance
