"""The golden input of the TTS service, with voices that are known to the sample."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import numpy as np
import pytest

from services.runtime.errors import LoadFailed
from services.tts.engine import Audio, Clause, ClauseEnd, PhonemeSpan, Samples, Speech, Spoken, SynthesisConfig
from services.tts.servicer import SERVICE

RATE_HZ = 16_000
Spans = Sequence[tuple[str, int, int]]


def tone(seconds: float = 1.0, level: float = 0.1) -> Samples:
    return np.asarray(level * np.sin(np.arange(round(seconds * RATE_HZ)) * 0.1), np.float32)


class Tuned:
    """Announces and says what it is given, in pieces of 100 ms."""

    sample_rate_hz = RATE_HZ
    voices = ("tuned", "detuned")
    languages = ("en-GB",)
    phonemes = ("p", "ɑ")
    max_clause_chars = 100

    def __init__(self, audio: Samples, spans: Spans = (), announced: int | None = None) -> None:
        self.audio = audio
        self.spans = spans
        self.announced = len(audio) if announced is None else announced

    async def load(self) -> None: ...

    async def unload(self) -> None: ...

    async def synthesize(self, config: SynthesisConfig, clauses: AsyncIterator[Clause]) -> AsyncGenerator[Spoken, None]:
        async for clause in clauses:
            yield Speech(clause, self.announced, [PhonemeSpan(*span) for span in self.spans])
            for start in range(0, len(self.audio), RATE_HZ // 10):
                yield Audio(self.audio[start : start + RATE_HZ // 10])
            yield ClauseEnd(clause)


async def measured(engine: Tuned) -> dict[str, str | float]:
    assert SERVICE.measure
    return {**await SERVICE.measure(engine)}


async def test_a_sentence_is_measured() -> None:
    spans = [("", 0, 1000), ("p", 1000, 2000), ("ɑ", 2000, 15_000), ("", 15_000, 16_000)]
    found = await measured(Tuned(tone(), spans))
    # A sine of amplitude 0.1 has an RMS of 0.0707, 23 dB below full scale.
    assert found == {
        "seconds": 1.0,
        "rms_db": pytest.approx(-23.0, abs=0.05),
        "peak": 0.1,
        "phonemes": "p ɑ",
        "phoneme_count": 2,
    }


async def test_a_voice_without_phonemes_is_sound() -> None:
    found = await measured(Tuned(tone()))
    assert (found["phonemes"], found["phoneme_count"]) == ("", 0)


def broken(value: float) -> Samples:
    audio = tone()
    audio[5000] = value
    return audio


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        (Tuned(np.zeros(RATE_HZ, np.float32)), r"rms_db is -90\.000, -45 to -3 is sound"),
        (Tuned(tone(level=0.001)), "rms_db is -6"),
        (Tuned(np.sign(tone())), r"rms_db is -0\.0"),
        (Tuned(broken(np.nan)), "1 of 16000 samples are no finite numbers"),
        (Tuned(broken(np.inf)), "1 of 16000 samples are no finite numbers"),
        (Tuned(broken(-1.5)), r"peak is 1\.500, 0 to 1\.001 is sound"),
        (Tuned(tone(0.4)), r"seconds is 0\.400, 0\.5 to 6 is sound"),
        (Tuned(tone(6.1)), r"seconds is 6\.100, 0\.5 to 6 is sound"),
        (Tuned(tone(0)), r"seconds is 0\.000, 0\.5 to 6 is sound"),
        (Tuned(tone(), announced=15_999), "15999 samples were announced and 16000 are heard"),
        (Tuned(tone(), [("p", 0, 15_999)]), "phonemes end at 15999, expected 16000"),
        (
            Tuned(tone(), [("p", 0, 8000), ("ɑ", 8001, 16_000)]),
            "phoneme 'ɑ' is at 8001 to 16000, expected from 8000 on",
        ),
        (Tuned(tone(), [("p", 0, 16_000), ("ɑ", 16_000, 9000)]), "phoneme 'ɑ' is at 16000 to 9000"),
        (Tuned(tone(), [("ʘ", 0, 16_000)]), "phoneme 'ʘ' is none that the engine says it gives"),
    ],
)
async def test_what_no_sound_voice_says_is_refused(engine: Tuned, told: str) -> None:
    with pytest.raises(LoadFailed, match=told):
        await measured(engine)


def test_the_interface_tells_what_the_voice_gives() -> None:
    told = SERVICE.interface(Tuned(tone()))
    assert (told.sample_rates_hz, told.languages) == ((RATE_HZ,), ("en-GB",))
    assert (told.phonemes, told.voices) == (("p", "ɑ"), ("tuned", "detuned"))
