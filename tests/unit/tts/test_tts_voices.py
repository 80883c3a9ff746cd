"""The packaged voices themselves: spans, pauses, rates, parts, isolation."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from services.runtime.errors import InvalidInput
from services.tts.engine import Clause, Emotion, Expression, Speech, SynthesisConfig, TtsEngine
from services.tts.layout import LEAD_MS, PAUSE_MS
from services.tts.phonemes import PHONEMES, VOWELS

Say = Callable[..., Any]
SENTENCES = [
    "Hello, who are you?",
    "The bill is $3.50, Dr. Smith!",
    "Stop.",
    "I can help you with that; just tell me where you are going",
    "Well... she said (quietly) that it was late. Then she left.",
]


def spans_tile(part: Speech) -> bool:
    ends = [span.end for span in part.phonemes]
    starts = [span.start for span in part.phonemes]
    return starts == [0, *ends[:-1]] and ends[-1] == part.samples and bool((np.diff([0, *ends]) >= 0).all())


@pytest.mark.parametrize("expression", [Expression(), Expression(Emotion.SURPRISED, 0.9)], ids=["neutral", "surprised"])
@pytest.mark.parametrize("rate", [0.5, 1.0, 1.37, 2.0])
@pytest.mark.parametrize("text", SENTENCES)
def test_spans_tile_the_audio(voice: TtsEngine, say: Say, text: str, rate: float, expression: Expression) -> None:
    heard = say(voice, text, expression, rate)
    (part,) = heard.parts
    assert part.samples == len(heard.audio)
    assert spans_tile(part)
    assert {span.phoneme for span in part.phonemes} <= {*PHONEMES, ""}
    assert all(span.stress == 0 or span.phoneme in VOWELS for span in part.phonemes)
    assert np.abs(heard.audio).max() <= 1


def test_words_come_in_order_and_cover_what_is_said(voice: TtsEngine, say: Say) -> None:
    (part,) = say(voice, "**The** bill is $3.50, Dr. Smith! Pay 😀 now.").parts
    assert [word.word for word in part.words] == ["The", "bill", "is", "$3.50", "Dr.", "Smith", "Pay", "now"]
    assert all(before.end <= after.start for before, after in zip(part.words, part.words[1:], strict=False))
    for span in part.phonemes:
        inside = [word for word in part.words if word.start <= span.start and span.end <= word.end]
        assert len(inside) == (1 if span.phoneme else 0)


@pytest.mark.parametrize(
    ("text", "mark"), [("Yes, of course,", ","), ("I can help you.", "."), ("Is that right?", "?")]
)
def test_silence_at_the_ends_is_short_and_controlled(voice: TtsEngine, say: Say, text: str, mark: str) -> None:
    heard = say(voice, text)
    spans = heard.parts[0].phonemes
    assert spans[0].end <= LEAD_MS * voice.sample_rate_hz // 1000
    assert spans[-1].phoneme == ""
    assert spans[-1].end - spans[-1].start == round(PAUSE_MS[mark] * voice.sample_rate_hz / 1000)
    settled = heard.audio[spans[-1].start + voice.sample_rate_hz // 20 :]
    assert np.square(settled).mean() < np.square(heard.voiced).mean() / 1000


@pytest.mark.parametrize("rate", [0.6, 0.8, 1.25, 1.6])
def test_speaking_rate_is_kept(even_voice: TtsEngine, say: Say, rate: float) -> None:
    text = "The weather today is sunny with a light wind from the west."
    assert len(say(even_voice, text).voiced) / len(say(even_voice, text, None, rate).voiced) == pytest.approx(
        rate, rel=0.08
    )


def test_spans_lie_where_the_sounds_are(voice: TtsEngine, say: Say) -> None:
    """The low frequencies are loudest where vowels are said to be, not earlier and not later."""
    step = voice.sample_rate_hz // 200
    scores = np.zeros(41)
    for text in ("It was the best of times.", "Please choose a fresh fish dish.", "Most of the cats sat upon the mat."):
        heard = say(voice, text)
        frames = heard.audio[: len(heard.audio) // step * step].reshape(-1, step)
        spectrum = np.abs(np.fft.rfft(frames * np.hanning(step))) ** 2
        hz = np.fft.rfftfreq(step, 1 / voice.sample_rate_hz)
        energy = np.log10(spectrum[:, (hz > 150) & (hz < 1500)].sum(axis=1) + 1e-5)
        vowels = np.zeros(len(energy))
        for span in heard.parts[0].phonemes:
            if span.phoneme in VOWELS:
                vowels[span.start // step : span.end // step] = 1
        scores += [np.corrcoef(np.roll(vowels, lag), energy)[0, 1] for lag in range(-20, 21)]
    best_ms = (int(scores.argmax()) - 20) * 5
    assert abs(best_ms) <= 20


@pytest.mark.parametrize("text", ["😀👍", "?!", "...", "** **"])
def test_nothing_to_say_is_an_empty_speech(voice: TtsEngine, say: Say, text: str) -> None:
    heard = say(voice, text)
    assert [part.samples for part in heard.parts] == [0]
    assert len(heard.audio) == 0


def test_another_script_is_refused(voice: TtsEngine, say: Say) -> None:
    with pytest.raises(InvalidInput, match=r"clause\.text: holds Chinese text"):
        say(voice, "The word 你好 means hello.")


def test_a_long_clause_comes_in_parts_that_each_tile(voice: TtsEngine, say: Say) -> None:
    sentence = "The museum is closed on Monday but opens again on Tuesday. "
    heard = say(voice, sentence * 5)
    assert len(heard.parts) == 3
    assert all(spans_tile(part) for part in heard.parts)
    assert sum(part.samples for part in heard.parts) == len(heard.audio)
    assert sum(len(part.words) for part in heard.parts) == 5 * len(sentence.split())


def test_streams_at_the_same_time_do_not_touch_each_other(even_voice: TtsEngine) -> None:
    async def speak(text: str) -> list[Speech]:
        async def clauses() -> AsyncGenerator[Clause, None]:
            yield Clause(0, text)

        async with aclosing(even_voice.synthesize(SynthesisConfig(), clauses())) as spoken:
            return [part async for part in spoken if isinstance(part, Speech)]

    async def together() -> list[list[Speech]]:
        return await asyncio.gather(*(speak(text) for text in SENTENCES * 2))

    alone = [asyncio.run(speak(text)) for text in SENTENCES]
    assert asyncio.run(together()) == alone * 2


def test_nothing_is_synthesised_before_it_is_asked_for(voice: TtsEngine) -> None:
    read = []

    async def clauses() -> AsyncGenerator[Clause, None]:
        for index in range(5):
            read.append(index)
            yield Clause(index, "Hello there.")

    async def first() -> None:
        async with aclosing(voice.synthesize(SynthesisConfig(), clauses())) as spoken:
            await anext(spoken)
            await asyncio.sleep(0.05)

    asyncio.run(first())
    assert read == [0]
