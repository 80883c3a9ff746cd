"""The hosts of one service: who they are, and which of them the next stream goes to."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable

from gateway.host import Health, Host

log = logging.getLogger(__name__)


class Backends:
    """All hosts of a service. Their addresses come from any number of sources; a host is a member while one names it.

    Members live in a task group of their owner's, until `close`.
    """

    def __init__(
        self, service: str, grpc_name: str, group: asyncio.TaskGroup, changed: Callable[["Backends"], None]
    ) -> None:
        self.service = service
        self._grpc_name = grpc_name
        self._group = group
        self._changed = changed
        self._hosts: dict[str, Host] = {}
        self._named: dict[str, frozenset[str]] = {}
        self._living: set[asyncio.Task[None]] = set()
        self._order = itertools.count(1)

    @property
    def hosts(self) -> list[Host]:
        """The members, ordered by address."""
        return [self._hosts[address] for address in sorted(self._hosts)]

    def members(self, source: str, addresses: Iterable[str]) -> None:
        """What one source names now, all of it. A host that nobody names any more is removed once it does not serve."""
        self._named[source] = frozenset(addresses)
        for address in sorted(self._wanted - self._hosts.keys()):
            log.info("%s: host %s", self.service, address)
            host = self._hosts[address] = Host(self.service, self._grpc_name, address, self._host_changed)
            task = self._group.create_task(host.live())
            self._living.add(task)
            task.add_done_callback(self._living.discard)
        self._remove_lost()
        self._changed(self)

    def close(self) -> None:
        """Let go of all hosts, and of the streams to them."""
        for task in self._living:
            task.cancel()

    def pick(self, pinned: str = "") -> Host | None:
        """The host that a new stream goes to: the pinned one if it is healthy, else the healthy ones in turn.

        If none is healthy, the one whose last failure is longest ago: the call's own error will tell what is wrong. None
        without any host.
        """
        if (kept := self._hosts.get(pinned)) and kept.healthy:
            return kept
        healthy = [host for host in self._hosts.values() if host.healthy]
        chosen: Host | None
        if healthy:
            chosen = min(healthy, key=lambda host: host.picked)
        else:
            chosen = min(self._hosts.values(), key=lambda host: (host.failed_at, host.picked), default=None)
        if chosen:
            chosen.picked = next(self._order)
        return chosen

    def at(self, address: str) -> Host | None:
        """The member at an address."""
        return self._hosts.get(address)

    def count(self, health: Health) -> int:
        """Members of that health."""
        return sum(host.health is health for host in self._hosts.values())

    @property
    def _wanted(self) -> frozenset[str]:
        return frozenset().union(*self._named.values())

    def _host_changed(self, host: Host) -> None:
        if self._hosts.get(host.address) is host:
            self._remove_lost()
            self._changed(self)

    def _remove_lost(self) -> None:
        """Whoever lists hosts may be wrong about one; the host itself knows better."""
        for address in self._hosts.keys() - self._wanted:
            if self._hosts[address].health is not Health.SERVING:
                log.info("%s: host %s is gone", self.service, address)
                self._hosts.pop(address).remove()
