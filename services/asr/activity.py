"""When somebody speaks: speech probabilities → starts and ends, with hysteresis."""

from dataclasses import dataclass

from services.asr.engine import Activity


@dataclass(frozen=True)
class Thresholds:
    """Speech begins at `enter` and is doubted below `leave` (probabilities); durations are 16 kHz samples."""

    enter: float = 0.5
    leave: float = 0.35
    min_speech: int = 1_024
    """A shorter burst is no speech."""
    end_silence: int = 4_800
    """Silence after which speech is told to have ended."""


@dataclass(frozen=True)
class Change:
    kind: Activity
    position: int
    """Where it happened, at 16 kHz; earlier than the probability that proved it."""


class SpeechDetector:
    """The state of one stream; positions are 16 kHz samples from its beginning."""

    def __init__(self, thresholds: Thresholds, window: int) -> None:
        self._thresholds = thresholds
        self._window = window
        self._onset: int | None = None
        self._silence_from: int | None = None
        self.position = 0
        """What has been judged so far."""
        self.speaking = False
        self.voiced_until = 0
        """Where the voice was last heard: moves with `position` while somebody speaks, and stays during their pauses."""

    @property
    def onset(self) -> int | None:
        """Where a possible speech began which is too short yet to be told."""
        return self._onset

    @property
    def silence(self) -> int:
        """16 kHz samples since the voice was last heard."""
        return self.position - self.voiced_until

    def push(self, probability: float) -> Change | None:
        """Judge the next window."""
        start, self.position = self.position, self.position + self._window
        return self._while_speaking(probability, start) if self.speaking else self._while_silent(probability, start)

    def _while_silent(self, probability: float, start: int) -> Change | None:
        if self._onset is None:
            self._onset = start if probability >= self._thresholds.enter else None
        elif probability < self._thresholds.leave:
            self._onset = None
        if self._onset is None or self.position - self._onset < self._thresholds.min_speech:
            return None
        onset, self._onset = self._onset, None
        self.speaking, self.voiced_until, self._silence_from = True, self.position, None
        return Change(Activity.SPEECH_STARTED, onset)

    def _while_speaking(self, probability: float, start: int) -> Change | None:
        if probability >= self._thresholds.enter:
            self._silence_from = None
        elif probability < self._thresholds.leave and self._silence_from is None:
            self._silence_from = start
        if self._silence_from is None:
            self.voiced_until = self.position
            return None
        if self.position - self._silence_from < self._thresholds.end_silence:
            return None
        self.speaking = False
        return Change(Activity.SPEECH_ENDED, self._silence_from)
