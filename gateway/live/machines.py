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
        self._here: set[str] = set()
        """Conversations of this gateway, live or not."""
        self._own: deque[tuple[float, int]] = deque()
        """When, and how many of them there were."""
        self._others = 0

    def begun(self, now: float, session_id: str) -> None:
        """A conversation of this gateway has begun. Times are seconds of one clock."""
        self._here.add(session_id)
        self._own.append((now, len(self._here)))

    def ended(self, session_id: str) -> None:
        """It is over, or will be in a moment."""
        self._here.discard(session_id)

    def told(self, now: float, machines: Mapping[str, Machine], streams: int) -> None:
        """How things stand, once a second. `streams`: conversations that the services serve, for whichever gateway."""
        own = len(self._here)
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

    @property
    def count(self) -> int:
        """Conversations that run, of this gateway and of others."""
        return len(self._here) + self._others

    def share(self, count: int) -> float:
        """Of the fullest machine, what so many conversations take; 0 while nothing is known."""
        return count * max((share for shares in self._shares.values() for _, share in shares), default=0.0)


def forget(entries: deque[tuple[float, Value]], before: float) -> None:
    """Let go of entries that are older."""
    while entries and entries[0][0] < before:
        entries.popleft()
