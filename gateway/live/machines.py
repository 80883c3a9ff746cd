"""Whether the machines keep up with one more conversation: told by what those that run take. No I/O."""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from services.runtime.processor import WINDOW_S

REMEMBERED_S = 120.0
"""How long the most that a conversation took counts: whoever is silent now will speak again."""
LEAST_COUNT = 0.5
"""Conversations, as a mean of the window, from which on it tells what one takes."""
Value = TypeVar("Value")


class Machine(NamedTuple):
    """Cores that there are, and cores that are taken, as a mean of the last `WINDOW_S`."""

    cores: float
    used: float


class Machines:
    """All machines of a mesh. Conversations are reckoned with as equal, wherever they began."""

    def __init__(self) -> None:
        self._shares: dict[str, deque[tuple[float, float]]] = {}
        """Of each machine: when, and what one conversation took of it, 0 to 1."""
        self._counts: deque[tuple[float, int]] = deque()
        """When, and conversations that there were, once a second."""
        self._own: deque[tuple[float, int]] = deque()
        """When, and conversations that this gateway had."""
        self._others = 0

    def begun(self, now: float, own: int) -> None:
        """One more has begun: this gateway has so many now. Times are seconds of one clock."""
        self._own.append((now, own))

    def told(self, now: float, machines: Mapping[str, Machine], streams: int, own: int) -> None:
        """How things stand, once a second.

        `streams`: conversations that the services serve, for this gateway and for others; `own`: those of this gateway.
        """
        self._counts.append((now, max(streams, own)))
        self._own.append((now, own))
        for entries in (self._counts, self._own):
            forget(entries, now - WINDOW_S - 1)
        # Both are means of the same time: who came or left in the midst of it counts for the time of being there.
        count = sum(each for _, each in self._counts) / len(self._counts)
        # Services tell a little later that somebody has left.
        self._others = max(0, streams - max(each for _, each in self._own))
        self._shares = {name: self._shares.get(name, deque()) for name in machines}
        for name, machine in machines.items():
            if count >= LEAST_COUNT and machine.cores:
                self._shares[name].append((now, machine.used / count / machine.cores))
            forget(self._shares[name], now - REMEMBERED_S)

    def count(self, own: int) -> int:
        """Conversations that run, `own` of which are this gateway's."""
        return own + self._others

    def share(self, count: int) -> float:
        """Of the fullest machine, what so many conversations take; 0 while nothing is known."""
        return count * max((share for shares in self._shares.values() for _, share in shares), default=0.0)


def forget(entries: deque[tuple[float, Value]], before: float) -> None:
    """Let go of entries that are older."""
    while entries and entries[0][0] < before:
        entries.popleft()
