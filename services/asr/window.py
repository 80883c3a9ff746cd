"""Cutting a stream into windows: what Whisper hears at once, at most 30 s. Positions are 16 kHz samples of the stream."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from services.asr.activity import SpeechDetector
from services.asr.engine import Samples
from services.asr.resampling import RATE_HZ
from services.asr.silero import WINDOW

LEAD = 6_400
"""Audio kept before the first voice (400 ms): soft consonants come before Silero is sure."""
TAIL = 4_800
"""Audio decoded after the last voice (300 ms)."""
LEAST_VOICE = 3 * WINDOW
"""Less voice than this (96 ms) is the rest of somebody's last word, not a word."""
SOFT_LIMIT = 12 * RATE_HZ
"""From this length on a window ends at the next pause: long utterances are decoded piece by piece while they are spoken."""
HARD_LIMIT = 28 * RATE_HZ
"""A window without a pause is cut here, at the quietest place of its last four seconds."""
SEARCH = 4 * RATE_HZ // WINDOW


class AudioBuffer:
    """A stretch of the stream, from `start` to `end`."""

    def __init__(self) -> None:
        self.start = 0
        self._pieces: list[Samples] = []
        self._length = 0

    @property
    def end(self) -> int:
        return self.start + self._length

    def append(self, samples: Samples) -> None:
        self._pieces.append(samples)
        self._length += len(samples)

    def between(self, start: int, end: int) -> Samples:
        """A copy of what lies between the two positions."""
        return self._whole()[max(0, start - self.start) : max(0, end - self.start)].copy()

    def drop_before(self, position: int) -> None:
        dropped = min(self._length, position - self.start)
        if dropped > 0:
            self._pieces = [self._whole()[dropped:].copy()]
            self.start, self._length = self.start + dropped, self._length - dropped

    def _whole(self) -> Samples:
        if len(self._pieces) != 1:
            self._pieces = [np.concatenate(self._pieces) if self._pieces else np.empty(0, np.float32)]
        return self._pieces[0]


@dataclass
class Window:
    """The part of an utterance that is decoded next."""

    start: int
    speech_start: int | None = None
    speech_end: int = 0
    voice: int = 0
    """Samples with a voice in them."""
    probabilities: deque[float] = field(default_factory=lambda: deque(maxlen=SEARCH))
    """Speech probabilities of the last seconds."""

    @property
    def has_speech(self) -> bool:
        return self.voice >= LEAST_VOICE

    def hear(self, probability: float, detector: SpeechDetector, onset: int | None) -> None:
        """Note what the detector made of its last window; `onset` is where speech began if it has just told so."""
        self.probabilities.append(probability)
        if not detector.speaking or detector.voiced_until <= self.start or detector.silence:
            return
        began = max(self.start, detector.position - WINDOW if onset is None else onset)
        if self.speech_start is None:
            self.speech_start = began
        self.speech_end = detector.voiced_until
        self.voice += self.speech_end - began

    def extent(self, heard_until: int) -> tuple[int, int]:
        """What to decode: the speech with a little silence around it."""
        began = self.start if self.speech_start is None else self.speech_start
        return max(self.start, began - LEAD), min(heard_until, self.speech_end + TAIL)

    def cut(self, detector: SpeechDetector, ended: bool, longest: int = HARD_LIMIT) -> int | None:
        """Where this window should end, if it should; `ended` says that the detector has just told the end of speech."""
        length = detector.position - (self.start if self.speech_start is None else self.speech_start)
        if ended and length >= SOFT_LIMIT:
            return detector.position - detector.silence // 2
        if length < longest:
            return None
        last = list(self.probabilities)[-max(1, longest // 2 // WINDOW) :]
        return detector.position - (len(last) - int(np.argmin(last))) * WINDOW + WINDOW // 2

    def rest_after(self, cut: int) -> "Window":
        """The window that follows when this one ends at `cut`."""
        rest = Window(cut)
        if self.speech_end > cut:
            rest.speech_start, rest.speech_end, rest.voice = cut, self.speech_end, self.speech_end - cut
            self.speech_end, self.voice = cut, self.voice - rest.voice
        return rest
