"""A session's clock as RTP sees it."""

import time
from collections.abc import Callable

LATE_S = 0.3
"""What is later than this is not sent any more."""
SLIP_S = 0.5
"""When all has been late for so long, it is not late: the session's clock has stood still."""


class MediaClock:
    """When a sample of the session is due, by this machine's clock: the same for all tracks of a peer.

    RTP receivers put audio and video together by what sender reports say: "this RTP timestamp is that wall time". If each
    track said when it has sent its latest packet, their differences in lateness would come between lips and voice.
    """

    def __init__(self, rate_hz: int, now: Callable[[], float] = time.monotonic) -> None:
        self.rate_hz = rate_hz
        self.latest = 0
        """The newest sample that came."""
        self._now = now
        self._began: float | None = None
        """Wall time of sample 0."""
        self._soonest = float("inf")
        """The earliest that sample 0 can have been, in seconds of `now`."""
        self._late_since: float | None = None

    @property
    def running(self) -> bool:
        """Whether anything has come."""
        return self._began is not None

    @property
    def latest_ms(self) -> int:
        """The newest sample that came, in milliseconds since the session began."""
        return self.latest * 1000 // self.rate_hz

    def in_time(self, sample: int) -> bool:
        """Whether what has just come is worth sending: after a stall everything comes at once, and most of it is over.

        A receiver that got it all would play it, and be late for good.
        """
        begun = self._now() - sample / self.rate_hz
        self.latest = max(self.latest, sample)
        self._soonest = min(self._soonest, begun)
        if self._began is None:
            self._began = time.time() - sample / self.rate_hz
        if begun - self._soonest <= LATE_S:
            self._late_since = None
            return True
        now = self._now()
        self._late_since = now if self._late_since is None else self._late_since
        if now - self._late_since > SLIP_S:
            self._slipped(sample, begun)
        return self._late_since is None

    def _slipped(self, sample: int, begun: float) -> None:
        """The session goes on later than it would have."""
        self._soonest, self._late_since = begun, None
        self._began = time.time() - sample / self.rate_hz

    def at(self, wall_s: float, rate_hz: int) -> int:
        """Where the session is at a wall time (seconds since 1970), on a clock of `rate_hz` that began with it."""
        assert self._began is not None
        return round((wall_s - self._began) * rate_hz)
