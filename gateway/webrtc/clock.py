"""A session's clock as RTP sees it."""

import time


class MediaClock:
    """When a sample of the session is due, by this machine's clock: the same for all tracks of a peer.

    RTP receivers put audio and video together by what sender reports say: "this RTP timestamp is that wall time". If each
    track said when it has sent its latest packet, their differences in lateness would come between lips and voice.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.latest = 0
        """The newest sample that was sent."""
        self._began: float | None = None

    @property
    def running(self) -> bool:
        """Whether anything has been sent."""
        return self._began is not None

    @property
    def latest_ms(self) -> int:
        """The newest sample that was sent, in milliseconds since the session began."""
        return self.latest * 1000 // self.rate_hz

    def sent(self, sample: int) -> None:
        """A sample goes out now."""
        self.latest = max(self.latest, sample)
        if self._began is None:
            self._began = time.time() - sample / self.rate_hz

    def at(self, wall_s: float, rate_hz: int) -> int:
        """Where the session is at a wall time (seconds since 1970), on a clock of `rate_hz` that began with it."""
        assert self._began is not None
        return round((wall_s - self._began) * rate_hz)
