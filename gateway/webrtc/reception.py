"""RTP audio put in order and in time. No I/O, and no clock of its own: it is told what time it is."""

from collections.abc import Callable
from dataclasses import dataclass

OPUS_HZ = 48000
REORDER_S = 0.06
"""How long a packet is waited for that others have overtaken,"""
REORDER_PACKETS = 4
"""or how many others are."""
SLACK_S = 0.1
"""How far the audio may be behind real time before silence takes the place of packets that do not come."""
DRIFT_S = 0.3
"""How far it may be off while packets do come: their sender's clock is not ours."""
ASTRAY_S = 1.0
"""After so long with nothing but packets from the past, the sender has begun a new count."""
WRAP = 1 << 32


@dataclass
class Losses:
    """What was not heard as it was said, in milliseconds of audio."""

    silence_ms: float = 0.0
    """Filled in for what did not come."""
    late_ms: float = 0.0
    """Came when silence had taken its place."""
    ahead_ms: float = 0.0
    """Came faster than real time."""


class Reception:
    """Turns packets as they arrive into audio that goes on in real time, from the first packet on."""

    def __init__(self, rate_hz: int, decode: Callable[[bytes], bytes], heard: Callable[[bytes], None]) -> None:
        """`decode` makes mono PCM_S16LE of `rate_hz` of a packet (b"" for garbage); `heard` takes it."""
        self.losses = Losses()
        self._rate_hz = rate_hz
        self._decode = decode
        self._heard = heard
        self._waiting: dict[int, tuple[float, bytes]] = {}
        self._newest = 0
        self._next: int | None = None
        """The timestamp that comes next."""
        self._began_s = 0.0
        self._arrived_s = 0.0
        self._late_since: float | None = None
        self._given = 0
        """Samples passed on."""

    def arrived(self, now_s: float, timestamp: int, payload: bytes) -> None:
        """A packet, with its RTP timestamp of 32 bits."""
        at = self._unwrapped(timestamp)
        self._arrived_s = now_s
        if self._next is None:
            self._next, self._began_s = at, now_s
        elif at < self._next and not self._astray(now_s):
            self.losses.late_ms += 20
            return
        elif at < self._next:
            self._waiting.clear()
            self._next = at
        self._late_since = None
        self._waiting[at] = (now_s, payload)
        self._drain(now_s)

    def tick(self, now_s: float) -> None:
        """Time goes by: fill in for what does not come."""
        if self._next is None:
            return
        self._drain(now_s)
        behind = self._behind(now_s)
        if not self._waiting and now_s - self._arrived_s > SLACK_S and behind > SLACK_S * self._rate_hz:
            filled = self._silence(behind - round(SLACK_S * self._rate_hz))
            self._next += filled * OPUS_HZ // self._rate_hz
        elif behind > DRIFT_S * self._rate_hz:
            self._silence(behind - round(SLACK_S * self._rate_hz))

    def _astray(self, now_s: float) -> bool:
        self._late_since = now_s if self._late_since is None else self._late_since
        return now_s - self._late_since > ASTRAY_S

    def _unwrapped(self, timestamp: int) -> int:
        if self._next is None:
            self._newest = timestamp
        else:
            step = (timestamp - self._newest) % WRAP
            self._newest += step if step < WRAP // 2 else step - WRAP
        return self._newest

    def _drain(self, now_s: float) -> None:
        while self._waiting:
            at = min(self._waiting)
            since, payload = self._waiting[at]
            assert self._next is not None
            if at > self._next and now_s - since < REORDER_S and len(self._waiting) < REORDER_PACKETS:
                return
            del self._waiting[at]
            if at >= self._next:
                self._pass_on(now_s, at, payload)

    def _pass_on(self, now_s: float, at: int, payload: bytes) -> None:
        assert self._next is not None
        pcm = self._decode(payload) or bytes(2 * self._rate_hz // 50)
        samples = len(pcm) // 2
        gap = (at - self._next) * self._rate_hz // OPUS_HZ
        # A jump of the timestamps is not a loss: there is no more silence than there was time.
        if gap:
            self._silence(min(gap, max(0, self._behind(now_s) - samples)))
        self._next = at + samples * OPUS_HZ // self._rate_hz
        if samples - self._behind(now_s) > DRIFT_S * self._rate_hz:
            self.losses.ahead_ms += 1000 * samples / self._rate_hz
            return
        self._given += samples
        self._heard(pcm)

    def _behind(self, now_s: float) -> int:
        """Samples that real time is ahead of what was passed on."""
        return round((now_s - self._began_s) * self._rate_hz) - self._given

    def _silence(self, samples: int) -> int:
        """Pass on so much of nothing; returns how much it was."""
        if samples > 0:
            self.losses.silence_ms += 1000 * samples / self._rate_hz
            self._given += samples
            self._heard(bytes(2 * samples))
        return max(0, samples)
