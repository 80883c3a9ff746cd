"""When the user has stopped to speak: what was heard → when the turn is over, and whether to prepare the reply already.

No clock and no I/O: positions are samples of the input, which is also the time. Whoever holds a strategy tells it what the
ASR tells, asks for the verdict after each, and acts on it when the input has come that far. Every verdict may be taken back
by the next one, as often as the user changes their mind within a turn.
"""

from dataclasses import dataclass
from typing import Protocol

from gateway.live.completeness import Completeness, completeness


@dataclass(frozen=True)
class Verdict:
    """What to do if nothing more is heard."""

    commit_at: int | None
    """The turn is over once the input has come to this sample (maybe it has); None while the user speaks."""
    speculate: bool
    """The text so far is likely to be the whole turn's: prepare the reply to it."""
    reason: str
    """A word for logs and traces."""
    speculate_at: int | None = None
    """If it is not likely now: so is it once the input has come to this sample."""


GOES_ON = Verdict(None, False, "speaking")
NOTHING = Verdict(None, False, "nothing heard")


class Endpointing(Protocol):
    """One for each session, told of one turn after the other."""

    def begin_turn(self) -> None:
        """Forget what was said: the next turn begins."""

    def voiced(self, sample: int) -> None:
        """The user speaks, or goes on after a pause, since `sample`."""

    def paused(self, sample: int) -> None:
        """The voice was last heard at `sample`. Told early (a pause) and again for certain (the end of speech)."""

    def heard(self, text: str, stability: float, until: int, language: str = "en") -> None:
        """All that was made out of this turn, finals and interim joined, of the audio up to `until`."""

    def predicted(self, complete: float, until: int) -> None:
        """How likely it is (0 to 1) that the turn is over, by the sound of the audio up to `until`."""

    def released(self, sample: int) -> None:
        """The user has said by other means (a key, a message) that the turn ends at `sample`."""

    def verdict(self) -> Verdict:
        """By all that was told so far."""


SETTLED = 0.9
"""Stability from which an interim is the final text if nothing follows."""


@dataclass
class Turn:
    """What is known of the turn in progress."""

    voiced_from: int | None = None
    paused_at: int | None = None
    """Where the voice was last heard; None while it is."""
    text: str = ""
    language: str = ""
    settled_until: int = -1
    """What the text has heard, if it is the final text of that."""
    complete: float | None = None
    """The lowest probability that was predicted in this pause: whoever pauses in a sentence seldom sounds finished twice."""
    complete_until: int = -1
    """What the prediction has heard."""
    released_at: int | None = None

    @property
    def settled(self) -> bool:
        """Whether the text covers all that was said before this pause."""
        return self.paused_at is not None and self.settled_until >= self.paused_at

    @property
    def sound(self) -> float | None:
        """What was predicted in this pause. A click in it, which is told as voice and taken back, changes nothing."""
        return self.complete if self.paused_at is not None and self.complete_until >= self.paused_at else None


class Silence:
    """The turn is over after silence of one length."""

    def __init__(self, rate_hz: int, wait_ms: int = 700) -> None:
        self._wait = wait_ms * rate_hz // 1000
        self._turn = Turn()

    def begin_turn(self) -> None:
        self._turn = Turn()

    def voiced(self, sample: int) -> None:
        turn = self._turn
        if turn.paused_at is not None and sample < turn.paused_at:
            return
        turn.voiced_from = sample if turn.voiced_from is None else turn.voiced_from
        turn.paused_at = None

    def paused(self, sample: int) -> None:
        if self._turn.voiced_from is not None:
            self._turn.paused_at = sample

    def heard(self, text: str, stability: float, until: int, language: str = "en") -> None:
        turn = self._turn
        turn.text, turn.language = text, language
        turn.settled_until = until if stability >= SETTLED else -1

    def predicted(self, complete: float, until: int) -> None:
        turn = self._turn
        if turn.paused_at is None or until >= turn.paused_at:
            before = turn.sound
            turn.complete = complete if before is None else min(before, complete)
            turn.complete_until = until

    def released(self, sample: int) -> None:
        self._turn.released_at = sample

    def verdict(self) -> Verdict:
        turn = self._turn
        if turn.released_at is not None:
            return Verdict(turn.released_at, bool(turn.text), "released")
        if turn.voiced_from is None:
            return NOTHING
        if turn.paused_at is None:
            return GOES_ON
        return self._in_pause(turn, turn.paused_at)

    def _in_pause(self, turn: Turn, paused_at: int) -> Verdict:
        return Verdict(paused_at + self._wait, turn.settled and bool(turn.text), "silence")


@dataclass(frozen=True)
class Waits:
    """Silence before the turn is over, by the belief (0 to 1) that it is."""

    steps: tuple[tuple[float, int], ...] = ((0.8, 400), (0.5, 880), (0.3, 940))
    """Least belief and milliseconds, the surest first."""
    longest_ms: int = 1_000
    """For what is believed less: few turns end so. And until anything is known."""
    open_prepared_ms: int = 500
    """Silence after which the reply to a text that is no whole sentence is prepared: the turn may be over after all."""
    weights: tuple[float, float, float] = (0.4, 0.8, 1.0)
    """What the turn model's probability counts beside a text that is open, doubtful, complete."""
    unheard: float = 0.6
    """The probability that stands in where no turn model listens."""

    def ms(self, text: Completeness, sound: float | None) -> int:
        belief = self.weights[text] * (self.unheard if sound is None else sound)
        return next((wait for least, wait in self.steps if belief >= least), self.longest_ms)


class Semantic(Silence):
    """The turn is over after silence whose length depends on what was said and, if a turn model listens, how it sounded.

    Until the text is there (some 300 ms into the pause) the longest silence holds. With `listening` so does the prediction.
    """

    def __init__(self, rate_hz: int, waits: Waits = Waits(), listening: bool = True) -> None:
        """`listening` says that predictions will come."""
        super().__init__(rate_hz)
        self._rate_hz = rate_hz
        self._waits = waits
        self._listening = listening

    def _in_pause(self, turn: Turn, paused_at: int) -> Verdict:
        text = completeness(turn.text, turn.language)
        if not turn.settled or (self._listening and turn.sound is None):
            wait_ms, reason = self._waits.longest_ms, "unknown"
        else:
            wait_ms, reason = self._waits.ms(text, turn.sound), text.name.lower()
        worth_it = turn.settled and bool(turn.text)
        later = paused_at + self._samples(self._waits.open_prepared_ms)
        if worth_it and text is Completeness.OPEN:
            return Verdict(paused_at + self._samples(wait_ms), False, reason, later)
        return Verdict(paused_at + self._samples(wait_ms), worth_it, reason)

    def _samples(self, ms: int) -> int:
        return ms * self._rate_hz // 1000


class PushToTalk(Silence):
    """The user says when."""

    def __init__(self) -> None:
        super().__init__(rate_hz=1000)

    def _in_pause(self, turn: Turn, paused_at: int) -> Verdict:
        return Verdict(None, turn.settled and bool(turn.text), "pause")
