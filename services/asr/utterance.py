"""One stream's audio and what is known of the utterance in progress. It decodes nothing and waits for nothing."""

from dataclasses import dataclass

from services.asr.activity import Change, SpeechDetector, Thresholds
from services.asr.engine import Activity, Samples
from services.asr.resampling import RATE_HZ
from services.asr.silero import WINDOW
from services.asr.window import HARD_LIMIT, LEAD, AudioBuffer, Window
from services.runtime.errors import InvalidInput

REST = 4_800
"""Silence (300 ms) in which a window may end though the end of speech is told later, or not yet."""


@dataclass(frozen=True)
class Snapshot:
    """Audio to decode. Positions are 16 kHz samples of the stream."""

    audio: Samples
    start: int
    heard_until: int
    """What was known when it was taken; the audio itself may end before, in the silence after the last word."""
    speech_start: int
    voice_s: float
    """Seconds of it that are voice."""


@dataclass(frozen=True)
class Cut:
    """A window that has ended while its utterance goes on."""

    snapshot: Snapshot | None
    """None if nobody spoke in it."""
    in_pause: bool
    """Whether all speech that was heard lies before the cut."""
    speech_end: int
    at: int
    ends_utterance: bool
    """It would grow too long otherwise: what was heard behind the cut belongs to the next one."""


class Utterance:
    """The utterance in progress of one stream; the detector goes on from one utterance to the next."""

    def __init__(self, thresholds: Thresholds, max_utterance_ms: int, cut_long: bool = False) -> None:
        """With `cut_long` an utterance ends before it is too long (see `has_to_end`); without, that is invalid input."""
        self.detector = SpeechDetector(thresholds, WINDOW)
        self.window = Window(0)
        self._audio = AudioBuffer()
        self._max_ms = max_utterance_ms
        self._longest = max_utterance_ms * RATE_HZ // 1000
        self._cut_long = cut_long
        self._longest_window = min(HARD_LIMIT, self._longest) if cut_long else HARD_LIMIT
        self._speech_start: int | None = None

    @property
    def heard_until(self) -> int:
        return self._audio.end

    @property
    def has_speech(self) -> bool:
        return self._speech_start is not None

    @property
    def has_to_end(self) -> bool:
        """Whether this is the moment to end a long utterance: nobody speaks, and the next window may be too long for it."""
        if not self._cut_long or self._speech_start is None:
            return False
        return self._length > self._longest or (self.detector.silence >= REST and self._is_long(self.heard_until))

    @property
    def _length(self) -> int:
        return 0 if self._speech_start is None else self.heard_until - self._speech_start

    def _is_long(self, at: int) -> bool:
        began = self.window.start if self._speech_start is None else self._speech_start
        return at - began > max(self._longest // 2, self._longest - self._longest_window)

    def append(self, samples: Samples, probabilities: list[float]) -> tuple[list[Change], list[Cut]]:
        """Take in 16 kHz audio and the speech probabilities that it completed. Raises InvalidInput beyond the limit."""
        self._audio.append(samples)
        changes, cuts = [], []
        for probability in probabilities:
            if change := self.detector.push(probability):
                changes.append(change)
            onset = change.position if change and change.kind is Activity.SPEECH_STARTED else None
            self.window.hear(probability, self.detector, onset)
            ended = self._rests(change)
            if (at := self.window.cut(self.detector, ended, self._longest_window)) is not None:
                cuts.append(self._cut(at))
        if self.window.has_speech and self._speech_start is None:
            self._speech_start = self.window.speech_start
        self._check_length()
        self._forget_silence()
        return changes, cuts

    def snapshot(self) -> Snapshot:
        """What a decode of the open window should hear."""
        return self._snapshot(self.window, self.heard_until)

    def _rests(self, change: Change | None) -> bool:
        """Whether a pause has just become long enough to end a window in it."""
        if change and change.kind is Activity.SPEECH_ENDED:
            return True
        return self.detector.speaking and REST <= self.detector.silence < REST + WINDOW

    def begin_next(self) -> None:
        """The utterance is over; the next one begins with the next sample."""
        self._audio.drop_before(self._audio.end)
        self.window = Window(self._audio.end)
        self._speech_start = None

    def begin_next_at(self, cut: Cut) -> None:
        """The utterance has ended with a window; the open window is the next one's."""
        self._speech_start = self.window.speech_start

    def _cut(self, at: int) -> Cut:
        ends = self._cut_long and not self.detector.silence and self._is_long(at)
        ended, self.window = self.window, self.window.rest_after(at)
        snapshot = self._snapshot(ended, at) if ended.has_speech else None
        self._audio.drop_before(at)
        return Cut(snapshot, self.window.speech_start is None, ended.speech_end, at, ends)

    def _snapshot(self, window: Window, heard_until: int) -> Snapshot:
        start, end = window.extent(heard_until)
        speech_start = start if window.speech_start is None else window.speech_start
        return Snapshot(self._audio.between(start, end), start, heard_until, speech_start, window.voice / RATE_HZ)

    def _check_length(self) -> None:
        if self._length > self._longest and not self._cut_long:
            raise InvalidInput(
                "audio", f"the utterance is longer than max_utterance_ms ({self._max_ms})", "a Flush before"
            )

    def _forget_silence(self) -> None:
        """Before anybody speaks only the last moments are kept: a microphone may be open for hours."""
        if self.window.has_speech or self.detector.speaking or self.detector.onset is not None:
            return
        self.window = Window(max(self.window.start, self.heard_until - LEAD - WINDOW))
        self._audio.drop_before(self.window.start)
