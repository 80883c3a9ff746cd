"""Whether a recognition model is sound: what it takes, and what it makes of a sentence that is known."""

import wave
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

import numpy as np

from services.asr.engine import Audio, Flush, Input, RecognitionConfig, RecognitionEngine, Samples, Transcript
from services.asr.hypothesis import comparable
from services.asr.pcm import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from services.runtime.errors import LoadFailed
from services.runtime.interface import Interface

RECORDING = Path(__file__).parent / "golden" / "question.wav"
SAID, LANGUAGE = "What is the capital of France?", "en"
CHUNK_MS = 100
MOST_ERRORS = 0.5
"""Word error rate beyond which a model that speaks English did not understand a clear sentence."""


def interface(engine: RecognitionEngine) -> Interface:
    """The languages, and the rates as [least, most]: audio of every rate between them is taken."""
    return Interface(sample_rates_hz=(LOWEST_RATE_HZ, HIGHEST_RATE_HZ), languages=tuple(engine.languages))


async def measure(engine: RecognitionEngine) -> Mapping[str, str | float]:
    """Listen to a recorded sentence.

    text             what was understood, in lower case without punctuation
    word_error_rate  against what was said, 0 is perfect

    Raises LoadFailed unless there is one final transcript, and for a model that speaks English if its word error rate is
    beyond MOST_ERRORS.
    """
    rate_hz, samples = recording()
    speaks = LANGUAGE in engine.languages
    config = RecognitionConfig(rate_hz, language=LANGUAGE if speaks else "")
    async with aclosing(engine.recognize(config, chunks(rate_hz, samples))) as outputs:
        finals = [output async for output in outputs if isinstance(output, Transcript) and output.is_final]
    if len(finals) != 1:
        raise LoadFailed(f"golden input: a sentence had {len(finals)} final transcripts, expected 1")
    words = comparable(finals[0].text)
    errors = round(word_error_rate(comparable(SAID), words), 3)
    if speaks and errors > MOST_ERRORS:
        problem = f"golden input: word_error_rate is {errors}, at most {MOST_ERRORS} is sound"
        raise LoadFailed(f"{problem}; {SAID!r} was understood as {finals[0].text!r}")
    return {"text": " ".join(words), "word_error_rate": errors}


def recording() -> tuple[int, Samples]:
    """The rate in Hz and the samples of the golden sentence."""
    with wave.open(str(RECORDING)) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return file.getframerate(), pcm.astype(np.float32) / np.float32(32768)


async def chunks(rate_hz: int, samples: Samples) -> AsyncGenerator[Input, None]:
    step = rate_hz * CHUNK_MS // 1000
    for start in range(0, len(samples), step):
        yield Audio(start, samples[start : start + step])
    yield Flush()


def word_error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Words to put in, take out or replace to come from one to the other (Levenshtein), per word that was said."""
    row = list(range(len(heard) + 1))
    for index, word in enumerate(said, 1):
        before, row[0] = row[0], index
        for column, other in enumerate(heard, 1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (word != other))
    return row[-1] / len(said)
