"""Whether the machines keep up with one more conversation: told by what those that run take. No I/O."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from services.runtime.processor import WINDOW_S

REMEMBERED_S = 120.0
"""How long the most that a conversation took counts: whoever is silent now will speak again."""

LEAST_COUNT = 0.5
"""Conversations, as a mean of the window, from which on it tells what one takes."""


class Machine(NamedTuple):
    """Cores that there are, and cores that are taken, as a mean of the last `WINDOW_S`."""

    cores: float
    used: float


@dataclass
class Peaks:
    """Of one machine."""

    cores: float
    costs: deque[tuple[float, float]] = field(default_factory=deque)
    """When, and the cores that were taken then for each conversation."""

    def cost(self) -> float:
        """The most that a conversation took."""
        return max((cost for _, cost in self.costs), default=0.0)


class Machines:
    """All machines of a mesh. Conversations are reckoned with as equal, wherever they began."""

    def __init__(self) -> None:
        self._peaks: dict[str, Peaks] = {}
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
        for told in (self._counts, self._own):
            while now - told[0][0] > WINDOW_S + 1:
                told.popleft()
        # Both are means of the same time: who came or left in the midst of it counts for the time of being there.
        count = sum(each for _, each in self._counts) / len(self._counts)
        # Services tell a little later that somebody has left.
        self._others = max(0, streams - max(each for _, each in self._own))
        self._peaks = {name: self._peak(name, machine.cores) for name, machine in machines.items()}
        for name, machine in machines.items():
            costs = self._peaks[name].costs
            if count >= LEAST_COUNT:
                costs.append((now, machine.used / count))
            while costs and now - costs[0][0] > REMEMBERED_S:
                costs.popleft()

    def _peak(self, name: str, cores: float) -> Peaks:
        known = self._peaks.get(name)
        return Peaks(cores, known.costs if known else deque())

    def count(self, own: int) -> int:
        """Conversations that run, `own` of which are this gateway's."""
        return own + self._others

    def share(self, count: int) -> float:
        """Of the fullest machine, what so many conversations take; 0 while nothing is known."""
        return max((count * peaks.cost() / peaks.cores for peaks in self._peaks.values() if peaks.cores), default=0.0)
