"""What every engine that speaks English by this project's own reading of text has in common: all but the model."""

import asyncio
import contextlib
import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from services.tts import layout, text
from services.tts.engine import Audio, Clause, ClauseEnd, Samples, Speech, Spoken, SynthesisConfig
from services.tts.markup import check_script
from services.tts.phonemes import PHONEMES
from services.tts.pronunciation import Pronouncer, Sound
from services.tts.prosody import Prosody, amplified, prosody_of

MAX_CLAUSE_CHARS = 1000
PART_CHARS = 120
"""Sentences are spoken together up to this length: about 8 s."""
T = TypeVar("T")


class EnglishOptions(BaseModel):
    """Options that every English engine takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    voice: str = Field(min_length=1, description="the name of the voice")
    threads: int = Field(default=1, ge=1, le=64, description="of one run of the model")
    workers: int = Field(default=2, ge=1, le=64, description="runs of the model at the same time, over all calls")
    gain_db: float = Field(default=0.0, ge=-20, le=20, description="makes voices equally loud")


@dataclass(frozen=True)
class Rendering:
    """A model's reading of some sounds."""

    ends: Sequence[int]
    """As `layout.lay_out` wants them."""
    pieces: Iterator[Samples]
    """The audio, computed as it is taken."""


class EnglishEngine(ABC):
    """Text in, audio with spans out. A model adds how to open itself and how to render sounds."""

    languages = ("en", "en-US")
    phonemes = PHONEMES
    max_clause_chars = MAX_CLAUSE_CHARS

    def __init__(self, options: EnglishOptions) -> None:
        self.voices = (options.voice,)
        self._options = options
        # One queue for all calls: whoever asks first is served first, a sentence or a piece of one at a time.
        self._pool = ThreadPoolExecutor(options.workers, thread_name_prefix=f"tts-{options.voice}")

    @property
    @abstractmethod
    def sample_rate_hz(self) -> int: ...

    @abstractmethod
    def _open(self) -> None:
        """Load the model, in a worker thread. Raises LoadFailed."""

    @abstractmethod
    def _render(self, sounds: Sequence[Sound], prosody: Prosody) -> Rendering:
        """Speak `sounds` at a pace and pitch, in a worker thread; level is not the model's business."""

    async def load(self) -> None:
        self._pronounce, _ = await asyncio.gather(self._work(Pronouncer), self._work(self._open))

    async def unload(self) -> None:
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    async def _work(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, job)

    async def synthesize(self, config: SynthesisConfig, clauses: AsyncIterator[Clause]) -> AsyncGenerator[Spoken, None]:
        async for clause in clauses:
            async with contextlib.aclosing(self._clause(clause, config)) as spoken:
                async for part in spoken:
                    yield part

    async def _clause(self, clause: Clause, config: SynthesisConfig) -> AsyncGenerator[Spoken, None]:
        prosody = prosody_of(clause.expression, config.speaking_rate, self._options.gain_db)
        for part in await self._work(functools.partial(parts, clause.text)):
            speech, pieces = await self._work(functools.partial(self._speak, clause, part, prosody))
            yield speech
            while (samples := await self._work(functools.partial(next, pieces, None))) is not None:
                yield Audio(samples)
        yield ClauseEnd(clause)

    def _speak(
        self, clause: Clause, sentences: Sequence[text.Sentence], prosody: Prosody
    ) -> tuple[Speech, Iterator[Samples]]:
        """What some sentences will sound like, and their audio, computed as it is taken."""
        speech = Speech(clause, 0)
        audio: list[Iterator[Samples]] = []
        for words in sentences:
            sounds = self._pronounce(words)
            if not any(sound.phoneme for sound in sounds):
                continue
            rendering = self._render(sounds, prosody)
            pause = layout.pause_samples(sounds, self.sample_rate_hz, prosody.pace)
            placed = layout.lay_out(sounds, rendering.ends, [w.written for w in words], pause, self.sample_rate_hz)
            speech = followed(speech, placed)
            audio.append(layout.cut_out(rendering.pieces, placed, self.sample_rate_hz))
        return speech, (amplified(piece, prosody.gain_db) for piece in itertools.chain(*audio))


def parts(clause_text: str) -> list[list[text.Sentence]]:
    """The sentences of a clause, short ones together, so that a usual clause is one part and a long one starts early.

    There is at least one part, which may be empty. Raises InvalidInput for a text in another script.
    """
    check_script(clause_text)
    found: list[list[text.Sentence]] = [[]]
    room = PART_CHARS
    for sentence in text.read(clause_text):
        length = sum(len(word.spoken) + 1 for word in sentence)
        if length > room and found[-1]:
            found.append([])
            room = PART_CHARS
        found[-1].append(sentence)
        room -= length
    return found


def followed(speech: Speech, placed: layout.Layout) -> Speech:
    """`speech` and then another sentence."""
    at = speech.samples
    phonemes = [replace(span, start=span.start + at, end=span.end + at) for span in placed.phonemes]
    words = [replace(span, start=span.start + at, end=span.end + at) for span in placed.words]
    return Speech(speech.clause, at + placed.samples, (*speech.phonemes, *phonemes), (*speech.words, *words))
