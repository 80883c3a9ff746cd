"""Human speech as it is said into a microphone, with where its voice begins, pauses and ends.

Used in the environments of peers too: nothing but the standard library may be imported here.
"""

import json
from dataclasses import dataclass
from pathlib import Path

RATE_HZ = 16_000
TAIL_SHARE = 0.5
"""Of the words behind the last pause: if more than this are missing, the rest was not heard."""
ROOM = 1_600
"""Samples of quiet around a recording: less than anybody would call a pause."""


@dataclass(frozen=True)
class Speech:
    """One utterance; `pcm` is a file of mono PCM_S16LE at RATE_HZ, positions are its samples."""

    name: str
    pcm: str
    text: str
    """What is said; empty if nobody has written it down."""
    first_voiced: int
    last_voiced: int
    """Where the voice ends: what comes after is not voiced."""
    pauses: tuple[tuple[int, int], ...] = ()
    """Silences within, long enough to be taken for the end."""
    noise: str = ""
    """A file of the silence of the room, in the same format."""

    @property
    def data(self) -> bytes:
        return Path(self.pcm).read_bytes()

    @property
    def silence(self) -> bytes:
        return Path(self.noise).read_bytes() if self.noise else bytes(2 * RATE_HZ)

    @property
    def words(self) -> list[str]:
        return self.text.split()

    @property
    def words_behind_pause(self) -> int:
        """About how many words are said after the last pause, by the share of the time that they take."""
        if not self.pauses:
            return 0
        paused = sum(end - start for start, end in self.pauses)
        voiced = self.last_voiced - self.first_voiced - paused
        return round(len(self.words) * (self.last_voiced - self.pauses[-1][1]) / max(1, voiced))

    def lacks_rest(self, heard: str) -> bool:
        """Whether a transcript ends with the part before a pause. By numbers: recognisers err in single words."""
        behind = self.words_behind_pause
        return behind > 0 and len(heard.split()) < len(self.words) - TAIL_SHARE * behind

    def as_json(self) -> str:
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> "Speech":
        fields = json.loads(text)
        return cls(**fields | {"pauses": tuple(tuple(pause) for pause in fields["pauses"])})
