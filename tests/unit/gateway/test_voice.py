"""What is left to say when a voice is lost."""

from collections.abc import Sequence

import pytest

from gateway.emotion import Expression
from gateway.turn import AudioCame, ClausePlanned, Input, Say, SpeechCut
from gateway.voice import Voice
from services.runtime.errors import DomainError
from services.tts.text import read
from talkmesh.audio.v1 import audio_pb2, speech_pb2
from talkmesh.tts.v1 import tts_pb2

PLAIN = Expression()
Response = tts_pb2.SynthesizeResponse


def voice(*texts: str) -> Voice:
    made = Voice()
    for index, text in enumerate(texts):
        made.add(Say(index, text, PLAIN))
    return made


def speech(index: int, start: int, words: Sequence[tuple[str, int, int]], end: int) -> Response:
    """Words, each a phoneme of its own name, with silence between them, up to `end`."""
    told = tts_pb2.ClauseSpeech(clause_index=index, start_sample=start)
    at = start
    for word, first, last in [*words, ("", end, end)]:
        if first > at:
            told.phonemes.append(speech_pb2.PhonemeSpan(start_sample=at, end_sample=first))
        if word:
            told.phonemes.append(speech_pb2.PhonemeSpan(phoneme=word, start_sample=first, end_sample=last))
            told.words.append(speech_pb2.WordSpan(word=word, start_sample=first, end_sample=last))
        at = last
    return Response(speech=told)


def audio(start: int, samples: int) -> Response:
    return Response(audio=audio_pb2.AudioChunk(start_sample=start, data=bytes(2 * samples)))


def done(index: int) -> Response:
    return Response(done=tts_pb2.ClauseDone(clause_index=index))


def passed(inputs: Sequence[Input]) -> list[tuple[int, int]]:
    """Where the audio among the inputs begins and ends."""
    return [(given.start, given.start + len(given.data) // 2) for given in inputs if isinstance(given, AudioCame)]


ONE_TWO = speech(0, 0, [("One", 10, 40), ("two", 40, 70)], 90)


def test_audio_is_passed_on_up_to_the_last_whole_word() -> None:
    spoken = voice("One two.")
    (planned,) = spoken.take(ONE_TWO)
    assert isinstance(planned, ClausePlanned)
    assert passed(spoken.take(audio(0, 30))) == [(0, 10)]
    assert passed(spoken.take(audio(30, 9))) == []
    assert passed(spoken.take(audio(39, 21))) == [(10, 40)]
    assert passed(spoken.take(audio(60, 15))) == [(40, 75)]
    assert passed(spoken.take(audio(75, 15))) == [(75, 90)]
    assert spoken.take(done(0)) == []
    assert spoken.unsaid == []


def test_lost_voice_leaves_the_words_that_were_not_passed_on() -> None:
    spoken = voice("One two.", "Three.")
    spoken.take(ONE_TWO)
    spoken.take(audio(0, 60))
    assert spoken.cut() == [SpeechCut(40)]
    assert [(say.index, say.text) for say in spoken.unsaid] == [(0, "two."), (1, "Three.")]
    (planned,) = spoken.take(speech(0, 0, [("two", 5, 30)], 50))
    assert isinstance(planned, ClausePlanned)
    assert (planned.start, planned.words[0].start, planned.phonemes[-1].end) == (40, 45, 90)
    assert passed(spoken.take(audio(0, 50))) == [(40, 90)]
    spoken.take(done(0))
    assert [say.index for say in spoken.unsaid] == [1]


def test_the_pause_after_the_last_word_needs_no_voice() -> None:
    spoken = voice("One two.", "Three.")
    spoken.take(ONE_TWO)
    spoken.take(audio(0, 75))
    assert passed(spoken.cut()) == [(75, 90)]
    assert [say.text for say in spoken.unsaid] == ["Three."]
    (planned,) = spoken.take(speech(1, 0, [("Three", 5, 30)], 50))
    assert isinstance(planned, ClausePlanned)
    assert planned.start == 90


def test_voice_lost_twice_in_one_clause() -> None:
    spoken = voice("One two three.")
    spoken.take(speech(0, 0, [("One", 0, 10), ("two", 10, 20), ("three", 20, 30)], 40))
    spoken.take(audio(0, 12))
    assert spoken.cut() == [SpeechCut(10)]
    spoken.take(speech(0, 0, [("two", 0, 20), ("three", 20, 40)], 50))
    spoken.take(audio(0, 20))
    assert spoken.cut() == [SpeechCut(30)]
    assert spoken.cut() == []
    assert [say.text for say in spoken.unsaid] == ["three."]


def test_voice_lost_in_the_second_part_of_a_clause() -> None:
    spoken = voice("One two. Three four.")
    spoken.take(ONE_TWO)
    spoken.take(audio(0, 90))
    spoken.take(speech(0, 90, [("Three", 95, 120), ("four", 120, 150)], 170))
    spoken.take(audio(90, 40))
    assert spoken.cut() == [SpeechCut(120)]
    assert [say.text for say in spoken.unsaid] == ["four."]


def test_voice_lost_between_the_parts_of_a_clause() -> None:
    spoken = voice("One two. Three four.")
    spoken.take(ONE_TWO)
    spoken.take(audio(0, 80))
    assert spoken.cut() == [SpeechCut(80)]
    assert [say.text for say in spoken.unsaid] == ["Three four."]


def test_clause_of_a_voice_without_words_is_passed_on_as_a_whole() -> None:
    spoken = voice("One two.", "Three.")
    for _ in range(2):
        spoken.take(Response(speech=tts_pb2.ClauseSpeech(clause_index=0)))
        assert spoken.take(audio(0, 60)) == []
    assert spoken.cut() == [SpeechCut(0)]
    assert [say.text for say in spoken.unsaid] == ["One two.", "Three."]
    spoken.take(Response(speech=tts_pb2.ClauseSpeech(clause_index=0)))
    spoken.take(audio(0, 60))
    assert passed(spoken.take(done(0))) == [(0, 60)]


def test_clause_with_nothing_to_say_is_done() -> None:
    spoken = voice("🙂", "One two.")
    assert spoken.take(done(0)) == []
    assert [say.index for say in spoken.unsaid] == [1]


def test_clause_that_nobody_gave_is_an_error() -> None:
    with pytest.raises(DomainError, match="clause 3"):
        voice("One.").take(speech(3, 0, [("One", 0, 10)], 20))


TEXTS = (
    "The capital of France is Paris, I think.",
    'He said "well-known" — and then: nothing!',
    "It costs $5.50 (or 4 euros) at 9:30, doesn't it?",
    "In 1990 Dr. Smith's dogs' tails wagged; “really”, she said… twice.",
    "A a an and, a band of a an.",
    "**Bold** words and `code`, e.g. this, cost -5 degrees--or so.",
    "Ahead: 3/4 of 1,000,000 people @ home & abroad use e-mail!",
)


def written(text: str) -> list[str]:
    """The words of a text as the TTS names them."""
    return [word.written for sentence in read(text) for word in sentence if word.written]


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_left_begins_with_the_next_word_wherever_it_is_cut(text: str) -> None:
    words = written(text)
    assert len(words) > 4
    for count in range(1, len(words)):
        spoken = voice(text)
        spans = [(word, 10 * index, 10 * index + 10) for index, word in enumerate(words)]
        spoken.take(speech(0, 0, spans, 10 * len(words)))
        spoken.take(audio(0, 10 * count))
        spoken.cut()
        assert written(spoken.unsaid[0].text) == words[count:]
