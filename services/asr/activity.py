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
    pause: int = 0
    """Silence after which a pause is told; 0: never."""
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
        self._paused = False
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
        self.speaking, self.voiced_until, self._silence_from, self._paused = True, self.position, None, False
        return Change(Activity.SPEECH_STARTED, onset)

    def _while_speaking(self, probability: float, start: int) -> Change | None:
        if self._paused:
            return self._while_paused(probability, start)
        if probability >= self._thresholds.enter:
            self._silence_from = None
        elif probability < self._thresholds.leave and self._silence_from is None:
            self._silence_from = start
        if self._silence_from is None:
            self.voiced_until = self.position
            return None
        silence = self.position - self._silence_from
        if silence >= self._thresholds.end_silence:
            return self._end(self._silence_from)
        if not 0 < self._thresholds.pause <= silence:
            return None
        self._paused = True
        return Change(Activity.SPEECH_PAUSED, self._silence_from)

    def _while_paused(self, probability: float, start: int) -> Change | None:
        """A voice is told at once, so that nobody answers now, and taken back if it turns out to be no more than a click."""
        if self._onset is not None:
            return self._while_resuming(probability)
        if probability >= self._thresholds.enter:
            self._onset = start
            return Change(Activity.SPEECH_RESUMED, start)
        if self.silence >= self._thresholds.end_silence:
            return self._end(self.voiced_until)
        return None

    def _while_resuming(self, probability: float) -> Change | None:
        assert self._onset is not None
        if probability < self._thresholds.leave:
            self._onset = None
            return Change(Activity.SPEECH_PAUSED, self.voiced_until)
        if self.position - self._onset >= self._thresholds.min_speech:
            self._onset = self._silence_from = None
            self._paused, self.voiced_until = False, self.position
        return None

    def _end(self, position: int) -> Change:
        self.speaking = self._paused = False
        return Change(Activity.SPEECH_ENDED, position)
