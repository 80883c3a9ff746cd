"""Human speech for the tests of the ASR service: LibriVox sentences from Debian's pocketsphinx-testdata."""

import re
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from services.asr.engine import Samples

FOLDER = Path("/usr/share/pocketsphinx/test/data/librivox")


@dataclass(frozen=True)
class Sentence:
    audio: Samples
    """16 kHz."""
    words: list[str]


@pytest.fixture(scope="session")
def sentences() -> list[Sentence]:
    transcription = FOLDER / "transcription"
    if not transcription.is_file():
        pytest.fail("human speech is missing: apt-get install -y pocketsphinx-testdata")
    lines = (re.fullmatch(r"<s> (.*) </s> \((.*)\)", line) for line in transcription.read_text().splitlines())
    return [Sentence(read(FOLDER / f"{line[2]}.wav"), line[1].split()) for line in lines if line]


def read(path: Path) -> Samples:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) * np.float32(2**-15)
