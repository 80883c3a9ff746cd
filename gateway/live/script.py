"""What a reply will sound and look like, as far as it is made. Positions count from the reply's first sample. No I/O."""

from dataclasses import dataclass, field, replace

import numpy as np

from gateway.emotion import Expression
from gateway.turn import ClausePlanned, Span

BYTES = 2
AUDIBLE = 66
"""Least sample of a sound (-54 dB): an h or an f begins as softly."""


@dataclass(frozen=True)
class Part:
    """A stretch of a clause: its sounds and words, and its mood. Without phonemes, the voice tells none."""

    clause: int
    start: int
    phonemes: tuple[Span, ...]
    words: tuple[Span, ...]
    expression: Expression

    @property
    def end(self) -> int:
        """Up to where its sounds are known."""
        return self.phonemes[-1].end if self.phonemes else self.start

    def until(self, at: int) -> "Part":
        """What begins before a sample; a sound in progress there ends there, and a word in progress is none."""
        sounds = tuple(replace(span, end=min(span.end, at)) for span in self.phonemes if span.start < at)
        return replace(self, phonemes=sounds, words=tuple(span for span in self.words if span.end <= at))

    def moved(self, at: int, by: int) -> "Part":
        """What is not over at a sample, `by` samples later."""
        sounds = tuple(Span(p.text, max(p.start, at) + by, p.end + by, p.stress) for p in self.phonemes if p.end > at)
        words = tuple(Span(w.text, w.start + by, w.end + by) for w in self.words if w.end > at)
        return replace(self, start=max(self.start, at) + by, phonemes=sounds, words=words)


@dataclass
class Script:
    """A reply in the making: whoever makes it adds, whoever plays it reads."""

    rate_hz: int
    parts: list[Part] = field(default_factory=list)
    complete: bool = False
    """Whether there is no more to come."""
    _pcm: bytearray = field(default_factory=bytearray)

    @property
    def made(self) -> int:
        """Samples of audio there are."""
        return len(self._pcm) // BYTES

    @property
    def certain(self) -> int:
        """Up to where it is settled what the face does: its sounds are known, and the audio is there."""
        if self.complete or not self.parts:
            return self.made
        last = self.parts[-1]
        return min(self.made, last.end) if last.phonemes else self.made

    @property
    def onset(self) -> int:
        """Where the first sound begins, by ear: voices take their time. While all is silent, the end of what there is.

        Nobody looks farther than a second.
        """
        first = np.frombuffer(self.audio(0, self.rate_hz), "<i2").astype(np.int32)
        loud = np.flatnonzero(np.abs(first) >= AUDIBLE)
        return int(loud[0]) if len(loud) else len(first)

    def plan(self, clause: ClausePlanned) -> None:
        """The sounds of a clause, or of a part of it."""
        self.parts.append(Part(clause.index, clause.start, clause.phonemes, clause.words, clause.expression))

    def forget(self, at: int) -> None:
        """What was planned from a sample on will not be heard: another voice goes on there."""
        self.parts = [part.until(at) for part in self.parts if part.start < at]

    def add(self, start: int, data: bytes) -> None:
        """PCM_S16LE from a sample on; what is there from then on is replaced, a gap is silence."""
        offset = BYTES * start
        del self._pcm[offset:]
        self._pcm.extend(bytes(max(0, offset - len(self._pcm))))
        self._pcm.extend(data)

    def audio(self, start: int, end: int) -> bytes:
        """As much of [start, end) as there is."""
        return bytes(self._pcm[BYTES * max(0, start) : BYTES * max(0, end)])

    def words_before(self, at: int) -> list[str]:
        """The words that are over before a sample."""
        return [word.text for part in self.parts for word in part.words if word.end <= at]
