"""What a TTS engine takes and gives. Positions are samples at the engine's own rate, mono."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Mono audio, nominal range -1 to 1, shape [n]."""


class Emotion(Enum):
    """The moods of an Expression."""

    NEUTRAL = "neutral"
    HAPPY = "happy"
    SAD = "sad"
    ANGRY = "angry"
    SURPRISED = "surprised"
    FEARFUL = "fearful"
    DISGUSTED = "disgusted"


@dataclass(frozen=True)
class Expression:
    """The mood in which a clause is spoken."""

    emotion: Emotion = Emotion.NEUTRAL
    intensity: float = 0.0
    """0 (not at all) to 1 (fully)."""


@dataclass(frozen=True)
class SynthesisConfig:
    """How a call wants to be spoken to. Empty names are the engine's own voice and language."""

    voice: str = ""
    language: str = ""
    speaking_rate: float = 1.0
    """1 is the voice's own pace, 0.5 to 2."""


@dataclass(frozen=True)
class Clause:
    """Text to speak."""

    index: int
    text: str
    expression: Expression = field(default_factory=Expression)
    arrived_s: float = 0.0
    """When it was read from the wire, on `time.perf_counter`'s clock."""


@dataclass(frozen=True)
class PhonemeSpan:
    """A phoneme of `phonemes.PHONEMES`, or silence, and where it is heard."""

    phoneme: str
    start: int
    end: int
    stress: int = 0


@dataclass(frozen=True)
class WordSpan:
    """A word as it is written in the clause, and where it is heard."""

    word: str
    start: int
    end: int


@dataclass(frozen=True)
class Speech:
    """What the audio that follows will say. A clause is one Speech; a long clause is several, one after the other.

    The spans count from the first sample of this audio. Phonemes tile it: they leave no gap and end at `samples`.
    """

    clause: Clause
    samples: int
    phonemes: Sequence[PhonemeSpan] = ()
    words: Sequence[WordSpan] = ()


@dataclass(frozen=True)
class Audio:
    """The next samples of the Speech before."""

    samples: Samples


@dataclass(frozen=True)
class ClauseEnd:
    """Everything of the clause has been given."""

    clause: Clause


Spoken = Speech | Audio | ClauseEnd


class TtsEngine(Protocol):
    """An engine of this service; see `services.runtime.engine.Engine` for how it is made."""

    @property
    def sample_rate_hz(self) -> int: ...

    @property
    def voices(self) -> Sequence[str]:
        """Names that a config may ask for, the default first."""

    @property
    def languages(self) -> Sequence[str]:
        """BCP 47 tags, the default first."""

    @property
    def phonemes(self) -> Sequence[str]:
        """What spans may carry; empty for an engine that gives none."""

    @property
    def max_clause_chars(self) -> int: ...

    async def load(self) -> None: ...

    async def unload(self) -> None: ...

    def synthesize(self, config: SynthesisConfig, clauses: AsyncIterator[Clause]) -> AsyncGenerator[Spoken, None]:
        """Speak the clauses in their order: for each Speech and its Audio, as often as needed, then one ClauseEnd.

        A clause without anything to say has only its ClauseEnd. Nothing is synthesised before it is asked for. Raises
        InvalidInput for a text that this engine cannot read.
        """
