"""How many sessions each gateway has in each arm of the experiments that ramp: tallies/{flag}/{gateway}, under its lease."""

import json
import logging
from collections import Counter

from gateway.experiments.guard import Guard
from gateway.experiments.registry import Registry
from services.runtime.desired import PREFIX
from services.runtime.etcd import Etcd

TALLIES = f"{PREFIX}tallies/"
log = logging.getLogger(__name__)


class Tallies:
    """What this gateway has told of itself."""

    def __init__(self, registry: Registry, guard: Guard, gateway: str) -> None:
        self._registry = registry
        self._guard = guard
        self._gateway = gateway
        self._told: dict[str, Counter[str]] = {}

    async def tell(self, etcd: Etcd, lease: int) -> None:
        """Write what is new, of the flags that have a ramp. Raises EtcdAway and EtcdRefused."""
        for name in list(self._registry.names):
            flag, counts = self._registry.flag(name), self._guard.exposures.get(name)
            if flag and flag.ramp and counts and counts != self._told.get(name):
                now = Counter(counts)
                await etcd.put(f"{TALLIES}{name}/{self._gateway}", json.dumps(now), lease)
                self._told[name] = now

    def forget(self) -> None:
        """A lease is gone, and all that was written with it."""
        self._told.clear()


async def tallied(etcd: Etcd, flag: str) -> dict[str, Counter[str]]:
    """Gateway → variant → sessions that it has had, ever. Raises EtcdAway and EtcdRefused."""
    prefix = f"{TALLIES}{flag}/"
    return {each.key.removeprefix(prefix): read(each.key, each.value) for each in (await etcd.list(prefix)).kvs}


def read(key: str, text: str) -> Counter[str]:
    """Nothing of what nobody can read."""
    try:
        found = json.loads(text)
        return Counter({str(name): int(count) for name, count in found.items()})
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read: %s", key, error)
        return Counter()
