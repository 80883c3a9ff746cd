"""What a recognition engine is: the words in and out, and its verb. Nothing of gRPC, nothing of a particular model.

Every position is a sample of the input's own clock, at the rate that the config names.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Mono audio, shape [n], nominal range -1 to 1."""


@dataclass(frozen=True)
class RecognitionConfig:
    """How one stream is to be recognised."""

    sample_rate_hz: int
    language: str = ""
    """One of the engine's languages; empty lets the model decide."""
    interim_results: bool = False
    end_silence_ms: int = 0
    """Silence after which an utterance ends by itself; 0 leaves that to Flush."""
    pause_ms: int = 0
    """Silence after which a pause is told; 0: never."""
    onset_ms: int = 0
    """Voice after which speech is told to have begun; 0 is the engine's default."""
    cut_long_utterances: bool = False
    """End an utterance that grows too long instead of refusing it."""
    predict_turns: bool = False
    """Tell in each pause whether the user has finished, if the engine can."""


@dataclass(frozen=True)
class Audio:
    """Samples that follow directly on those before them."""

    start_sample: int
    samples: Samples


@dataclass(frozen=True)
class Flush:
    """End the utterance now; answered by one final transcript."""

    turn_id: str = ""
    generation: int = 0


Input = Audio | Flush


class Activity(Enum):
    SPEECH_STARTED = auto()
    SPEECH_ENDED = auto()
    SPEECH_PAUSED = auto()
    SPEECH_RESUMED = auto()


@dataclass(frozen=True)
class SpeechActivity:
    """The user began or stopped to speak at `sample`, which lies a little in the past when this is told.

    A pause may come between a start and an end; it is over with a resumption or with the end.
    """

    kind: Activity
    sample: int


@dataclass(frozen=True)
class Word:
    text: str
    start_sample: int
    end_sample: int
    confidence: float
    """0 to 1."""


@dataclass(frozen=True)
class Transcript:
    """The words of an utterance. Utterances tile the input: each starts where the one before it ended."""

    utterance: int
    is_final: bool
    text: str
    stability: float
    """0 to 1; 1 on finals."""
    language: str
    words: Sequence[Word]
    """Empty on interims."""
    start_sample: int
    end_sample: int
    engine_ms: float
    """From the flush (of an interim: from the start of its decode) to this transcript."""
    flush: Flush | None = None
    """The request that caused a final; None where silence or the end of the stream did."""


@dataclass(frozen=True)
class TurnPrediction:
    """How likely the user has finished (0 to 1), by the sound of the audio up to `sample`."""

    complete: float
    sample: int
    engine_ms: float


Output = SpeechActivity | Transcript | TurnPrediction


class RecognitionEngine(Protocol):
    """An engine whose verb is `recognize`."""

    @property
    def languages(self) -> Sequence[str]:
        """BCP 47 primary subtags of what the model speaks."""

    @property
    def max_utterance_ms(self) -> int:
        """Longest utterance, from the first speech in it."""

    @property
    def max_chunk_ms(self) -> int:
        """Most audio that one `Audio` may hold."""

    @property
    def predicts_turns(self) -> bool:
        """Whether it has TurnPrediction to tell."""

    async def load(self) -> None:
        """Make ready. Raises LoadFailed."""

    async def unload(self) -> None:
        """Give everything back."""

    def recognize(self, config: RecognitionConfig, inputs: AsyncIterator[Input]) -> AsyncGenerator[Output, None]:
        """Transcribe one stream until its inputs end.

        Each Flush gets exactly one final transcript, empty if nothing was said. The end of `inputs` gets one if audio came
        after the last final. Raises InvalidInput when an utterance grows beyond `max_utterance_ms`, unless the config says
        that it ends there.
        """
