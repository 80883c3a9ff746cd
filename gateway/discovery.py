"""Hosts that come and go by themselves: found in etcd, and behind names of the DNS.

Neither of the two is ever believed when it says nothing: as long as it is away, everybody stays.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping

from gateway.addresses import Name, looked_up
from gateway.backends import Backends
from gateway.following import follow
from gateway.metrics import Metrics
from gateway.observed import OBSERVED, host_of, named
from services.runtime.etcd import Away, Back, Changes, Etcd, Heard, KeyValue, Snapshot

LOOK_UP_S = 10.0
log = logging.getLogger(__name__)


async def follow_name(backends: Backends, name: Name, every_s: float = LOOK_UP_S) -> None:
    """Keep the hosts behind a name members, until cancelled."""
    source, problem = f"dns:{name.name}:{name.port}", ""
    while True:
        try:
            backends.members(source, await looked_up(name))
            problem = ""
        except OSError as error:
            if str(error) != problem:
                problem = str(error)
                log.warning("%s: %s cannot be looked up: %s", backends.service, source, problem)
        await asyncio.sleep(every_s)


async def follow_etcd(services: Mapping[str, Backends], etcd: Etcd, metrics: Metrics) -> None:
    """Keep the hosts that are written in etcd members, until cancelled."""
    await follow(etcd, OBSERVED, Discovery(services, metrics).take)


class Discovery:
    """What etcd tells of hosts, made into members of their services."""

    def __init__(self, services: Mapping[str, Backends], metrics: Metrics) -> None:
        self._services = services
        self._seen = metrics.etcd
        self._addresses: dict[str, str] = {}
        """Of each key that is there."""

    def take(self, heard: Heard) -> None:
        """Act on one thing heard."""
        match heard:
            case Snapshot(revision=revision, kvs=kvs):
                self._addresses = {key: address for key, found in kvs.items() if (address := self._address(found))}
                self._tell(self._services)
                self._seen.seen(revision)
            case Changes(revision=revision, events=events):
                changed = [event.kv.key for event in events if self._changes(event.kv, event.deleted)]
                self._tell({named(key)[0] for key in changed})
                self._seen.seen(revision)
            case Away(reason=reason):
                log.warning("etcd is away, all hosts stay: %s", reason)
                self._seen.away()
            case Back(revision=revision):
                log.info("etcd is back")
                self._seen.seen(revision)

    def _changes(self, kv: KeyValue, deleted: bool) -> bool:
        """Take note of one key; whether that makes another set of addresses."""
        before = self._addresses.get(kv.key, "")
        after = "" if deleted else self._address(kv)
        self._addresses[kv.key] = after
        if not after:
            del self._addresses[kv.key]
        return before != after

    def _address(self, kv: KeyValue) -> str:
        """Where a host is; what it was before when its newest value cannot be read, empty when that is not known either."""
        host = host_of(kv)
        return (host.address if host else "") or self._addresses.get(kv.key, "")

    def _tell(self, names: Iterable[str]) -> None:
        for name in self._services.keys() & set(names):
            addresses = {address for key, address in self._addresses.items() if named(key)[0] == name}
            self._services[name].members("etcd", addresses)
