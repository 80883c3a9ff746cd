"""Whether the user, who makes a sound while the face speaks, wants to say something. No I/O; time is input samples."""

import re
from enum import Enum, auto

LEAST_VOICE_MS = 700
"""So much voice without a pause is an interruption, whatever it says."""
DOUBT_MS = 550
"""After so much silence without a word it was a cough."""
NODS = frozenset(
    ("mm", "mhm", "mm-hmm", "mmhmm", "hmm", "hm", "uh-huh", "uhhuh", "uh", "um", "ah", "aha", "oh", "yeah", "yep", "ok",
     "okay", "right", "sure", "i see", "嗯", "嗯嗯", "哦", "噢", "啊", "好", "好的", "对", "是", "是的")
)  # fmt: skip
"""What listeners say to show that they listen."""
WORDS = re.compile(r"[\w'-]+")


class Wish(Enum):
    NOTHING = auto()
    MAYBE = auto()
    """Be silent, and ready to go on."""
    FLOOR = auto()
    """The reply is over."""


class BargeIn:
    """Followed while a reply is played; `listens_since` a sample."""

    def __init__(self, rate_hz: int) -> None:
        self._rate = rate_hz
        self.reset()

    def reset(self) -> None:
        """Nothing is heard."""
        self._from: int | None = None
        self._paused_at: int | None = None
        self._text = ""

    @property
    def since(self) -> int | None:
        """Where the voice began that may want something."""
        return self._from

    def voiced(self, sample: int) -> None:
        """The user began to speak, or goes on."""
        if self._from is None:
            self._from = sample
        self._paused_at = None

    def paused(self, sample: int) -> None:
        """The voice was last heard there."""
        if self._from is not None:
            self._paused_at = sample

    def heard(self, text: str) -> None:
        """What was made out since."""
        self._text = text

    def wish(self, now: int) -> Wish:
        """What the user wants, as far as can be told at a sample of the input."""
        if self._from is None:
            return Wish.NOTHING
        if self._says_something():
            return Wish.FLOOR
        if self._paused_at is None:
            return Wish.FLOOR if self._ms(now - self._from) >= LEAST_VOICE_MS else Wish.MAYBE
        if self._ms(now - self._paused_at) >= DOUBT_MS:
            return Wish.NOTHING
        return Wish.MAYBE

    def _says_something(self) -> bool:
        words = WORDS.findall(self._text.lower())
        return bool(words) and " ".join(words) not in NODS and not all(word in NODS for word in words)

    def _ms(self, samples: int) -> float:
        return 1000 * samples / self._rate
