"""The golden input of the ASR service, with engines that hear what they are told to hear."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest

from services.asr.engine import Audio, Flush, Input, Output, RecognitionConfig, Transcript
from services.asr.servicer import SERVICE
from services.asr.validation import word_error_rate
from services.runtime.errors import LoadFailed


class Parrot:
    """Answers a flush with a text for each that it was given."""

    max_utterance_ms = 60_000
    max_chunk_ms = 1_000
    predicts_turns = False

    def __init__(self, *texts: str, languages: Sequence[str] = ("en",)) -> None:
        self.languages = languages
        self.texts = texts
        self.config: RecognitionConfig | None = None
        self.seconds = 0.0
        self.longest_ms = 0.0

    async def load(self) -> None: ...

    async def unload(self) -> None: ...

    async def recognize(self, config: RecognitionConfig, inputs: AsyncIterator[Input]) -> AsyncGenerator[Output, None]:
        self.config = config
        async for given in inputs:
            if isinstance(given, Audio):
                length_s = len(given.samples) / config.sample_rate_hz
                self.seconds, self.longest_ms = self.seconds + length_s, max(self.longest_ms, length_s * 1000)
            elif isinstance(given, Flush):
                for index, text in enumerate(self.texts):
                    yield Transcript(index, True, text, 1.0, "en", (), 0, 0, 0.0, given)


async def measured(engine: Parrot) -> dict[str, str | float]:
    assert SERVICE.measure
    return {**await SERVICE.measure(engine)}


async def test_a_sentence_that_is_understood() -> None:
    engine = Parrot("what is the capital of france")
    assert await measured(engine) == {"text": "what is the capital of france", "word_error_rate": 0.0}
    assert 1 < engine.seconds < 4
    assert engine.longest_ms <= engine.max_chunk_ms
    assert engine.config
    assert engine.config.language == "en"


async def test_half_understood_is_measured() -> None:
    assert await measured(Parrot("What is the Capitol?")) == {"text": "what is the capitol", "word_error_rate": 0.5}


@pytest.mark.parametrize("text", ["", "you", "Thanks for watching!", "what is is is is is is"])
async def test_a_model_that_understands_nothing_is_refused(text: str) -> None:
    with pytest.raises(LoadFailed, match=r"word_error_rate is .*, at most 0\.5 is sound"):
        await measured(Parrot(text))


@pytest.mark.parametrize("texts", [(), ("what is the capital", "of France")])
async def test_a_sentence_has_one_final_transcript(texts: tuple[str, ...]) -> None:
    with pytest.raises(LoadFailed, match=f"had {len(texts)} final transcripts, expected 1"):
        await measured(Parrot(*texts))


async def test_a_model_of_another_language_need_not_understand_english() -> None:
    engine = Parrot("wo ist das Kapital", languages=("de",))
    assert (await measured(engine))["text"] == "wo ist das kapital"
    assert engine.config
    assert engine.config.language == ""


def test_the_interface_tells_languages_and_the_ends_of_the_rates() -> None:
    told = SERVICE.interface(Parrot(languages=("en", "de")))
    assert (told.languages, told.sample_rates_hz) == (("en", "de"), (8000, 48000))


@pytest.mark.parametrize(
    ("heard", "rate"),
    [
        ("a b c d", 0),
        ("a b c", 0.25),
        ("a x c d", 0.25),
        ("x a b c d", 0.25),
        ("", 1),
        ("x x x x x x", 1.5),
        ("b a c d", 0.5),
    ],
)
def test_word_error_rate(heard: str, rate: float) -> None:
    assert word_error_rate(["a", "b", "c", "d"], heard.split()) == rate
