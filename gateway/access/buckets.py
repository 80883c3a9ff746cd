"""How often somebody may do something: token buckets, in a table that does not grow."""

import time
from collections import OrderedDict
from collections.abc import Callable

MOST = 4096


class Buckets:
    """One bucket a name. The names used least lately are forgotten first: theirs are full again."""

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Name → what is left, and when it was counted."""

    def wait_s(self, name: str, per_s: float, burst: float) -> float:
        """How many seconds until there is one to take, of `per_s` a second; 0 if there is one now. Nothing is taken."""
        left = self._now(name, per_s, burst)
        return 0.0 if left >= 1 else (1 - left) / per_s

    def take(self, name: str, per_s: float, burst: float) -> float:
        """Take one, of which `burst` may be taken at once. If there is none, returns how many seconds to wait for it."""
        wait_s, left = self.wait_s(name, per_s, burst), self._now(name, per_s, burst)
        self._left[name] = (left if wait_s else left - 1, self._clock())
        self._left.move_to_end(name)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return wait_s

    def _now(self, name: str, per_s: float, burst: float) -> float:
        now = self._clock()
        left, counted = self._left.get(name, (burst, now))
        return min(burst, left + (now - counted) * per_s)

    def __len__(self) -> int:
        return len(self._left)
