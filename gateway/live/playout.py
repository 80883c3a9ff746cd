"""Where a reply lies on the session's clock, which never stops. No I/O.

A reply begins, pauses (the user may be about to interrupt, or its audio is late) and goes on where it was; only that moves
it to another place. Positions of the reply count from its first sample, all others are samples of the session's clock.
"""

from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from gateway.clock import Clock
from gateway.live.script import BYTES, Part, Script

LEAST_MS = 40.0
"""Audio that must be there before a reply begins."""
AGAIN_MS = 160.0
"""Audio that must be there before it goes on after it had run dry."""
BREATH_MS = 10.0
"""Kept of what is before the first sound of a reply."""
FADE_MS = 8.0


class State(Enum):
    IDLE = auto()
    WAITING = auto()
    """There is a reply, but not enough of it; or it has run dry."""
    PLAYING = auto()
    HELD = auto()
    """It pauses because somebody wants it to."""


@dataclass(frozen=True)
class Piece:
    """What is released of the audio: `data` fills it, with silence where there is nothing to say."""

    data: bytes
    speaking: bool


class Playout:
    """One reply at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.state = State.IDLE
        self.script: Script | None = None
        self.at = 0
        """Position in the reply up to which it was released."""
        self.base = 0
        """Where the reply's first sample lies while it plays."""
        self.began = False
        """Whether any of the reply was released."""
        self.dry = 0
        """How often a reply had to wait for its audio."""
        self.longest_gap = 0
        """Samples for which the reply had to wait for its audio at most."""
        self._dry_at: int | None = None
        self._shown = 0
        self._heard = 0
        self._tail = b""
        """A moment of what was cut, dying away: no click."""
        self._rises = False
        self._first_at = 0

    @property
    def heard_ms(self) -> float:
        """How much of the reply was released, in milliseconds."""
        return 1000 * (self.at - self._first_at) / self._clock.rate_hz if self.began else 0.0

    @property
    def is_over(self) -> bool:
        """Whether all of a reply has been released."""
        return self.script is not None and self.script.complete and self.at >= self.script.made

    @property
    def certain(self) -> int | None:
        """Up to where it is settled what the face does; None if nothing more is planned to come."""
        if self.state is not State.PLAYING or self.script is None:
            return None
        return None if self.script.complete else self.base + self.script.certain

    def load(self, script: Script) -> None:
        """A reply that is to be played as soon as it can."""
        self.script, self.state = script, State.WAITING
        self.at = self._shown = self._heard = self.longest_gap = 0
        self.began, self._dry_at = False, None

    def unload(self) -> None:
        """There is no reply any more."""
        self.script, self.state = None, State.IDLE

    def can_begin(self) -> bool:
        """Whether a waiting reply has enough to begin, or to go on."""
        if self.state is not State.WAITING or self.script is None:
            return False
        least = self._clock.samples(AGAIN_MS if self.began else LEAST_MS)
        ahead = self.script.certain - max(self.at, 0 if self.began else self._first(self.script))
        return ahead >= least or (self.script.complete and self.script.made > self.at)

    def begin(self, start: int) -> None:
        """Go on, or begin with the first sound, from a sample of the session on that is not over."""
        assert self.script is not None
        if not self.began:
            self.at = self._first_at = self._first(self.script)
        self.base = start - self.at
        self._rises = self.began
        if self._dry_at is not None:
            self.longest_gap, self._dry_at = max(self.longest_gap, start - self._dry_at), None
        self._shown = 0
        self._heard = self.at
        self.state = State.PLAYING

    def hold(self, start: int) -> None:
        """Pause from a sample on that was not released yet."""
        if self.state is State.PLAYING:
            assert self.script is not None
            self.at = max(self.at, min(start - self.base, self.script.made))
            cut = self.script.audio(self.at, self.at + self._clock.samples(FADE_MS))
            self._tail = faded(cut, 1, 0) if self.began else b""
        self._dry_at = None
        self.state = State.HELD

    def resume(self) -> None:
        """What was held may go on."""
        if self.state is State.HELD:
            self.state = State.WAITING if self.script else State.IDLE

    def news(self) -> list[Part]:
        """Parts that the face has to know of, in their places, that it has not been told since the reply (re)began."""
        if self.state is not State.PLAYING or self.script is None:
            return []
        new, self._shown = self.script.parts[self._shown :], len(self.script.parts)
        return [part.moved(self._begun_at, self.base) for part in new if part.end > self._begun_at or not part.phonemes]

    def heard(self) -> tuple[int, bytes]:
        """Audio that the face has to follow where no phonemes are known: what is new since the last time, and where."""
        if self.state is not State.PLAYING or self.script is None:
            return 0, b""
        start, self._heard = self._heard, max(self._heard, self.script.made)
        return self.base + start, self.script.audio(start, self._heard)

    def forget_parts(self) -> None:
        """Parts were withdrawn: all that are left are news again."""
        self._shown = 0

    def release(self, start: int, samples: int) -> Piece:
        """What is heard in [start, start + samples); it is over then."""
        if self.state is not State.PLAYING or self.script is None:
            tail, self._tail = self._tail[: BYTES * samples], b""
            return Piece(tail.ljust(BYTES * samples, b"\0"), bool(tail))
        before = max(0, self.base + self.at - start)
        if before >= samples:
            return Piece(bytes(BYTES * samples), False)
        position = start + before - self.base
        data = self.script.audio(position, start + samples - self.base)
        if self._rises and data:
            edge = BYTES * self._clock.samples(FADE_MS)
            data, self._rises = faded(data[:edge], 0, 1) + data[edge:], False
        self.at = position + len(data) // BYTES
        self.began = self.began or bool(data)
        missing = BYTES * samples - BYTES * before - len(data)
        if missing and not self.script.complete:
            self.dry += 1
            self._dry_at = start + samples - missing // BYTES
            self.state = State.WAITING
        return Piece(bytes(BYTES * before) + data + bytes(missing), True)

    @property
    def _begun_at(self) -> int:
        """Nothing of the reply before this was left to play when it (re)began or since."""
        return self.at

    def _first(self, script: Script) -> int:
        return max(0, script.onset - self._clock.samples(BREATH_MS))


def faded(data: bytes, first: float, last: float) -> bytes:
    """PCM_S16LE whose loudness goes from one factor to another."""
    samples = np.frombuffer(data, "<i2")
    return bytes((samples * np.linspace(first, last, len(samples))).astype("<i2").tobytes())
