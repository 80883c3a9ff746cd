"""From spelling to the phonemes of the wire, and on to the symbols of a Piper voice."""

import pytest

from services.tts import text
from services.tts.espeak import spelled
from services.tts.phonemes import CONSONANTS, PHONEMES, VOWELS
from services.tts.pronunciation import MISAKI, R_COLOURED, Pronouncer, Sound, heard, tidied


@pytest.fixture(scope="module")
def pronounce() -> Pronouncer:
    return Pronouncer()


def sounds_of(pronounce: Pronouncer, clause: str) -> list[Sound]:
    (sentence,) = text.read(clause)
    return pronounce(sentence)


def test_every_letter_of_the_g2p_has_a_phoneme_of_the_alphabet() -> None:
    assert {*MISAKI.values(), *R_COLOURED.values()} <= {*PHONEMES}
    assert len(set(PHONEMES)) == len(PHONEMES) == len(VOWELS) + len(CONSONANTS)


@pytest.mark.parametrize(
    ("word", "phonemes"),
    [
        ("judge", ["dʒ", "ʌ", "dʒ"]),
        ("church", ["tʃ", "ɜː", "tʃ"]),
        ("water", ["w", "ɔ", "ɾ", "ɚ"]),
        ("hurry", ["h", "ɜː", "ɹ", "i"]),
        ("choice", ["tʃ", "ɔɪ", "s"]),
        ("think", ["θ", "ɪ", "ŋ", "k"]),
        ("vision", ["v", "ɪ", "ʒ", "ə", "n"]),
        ("now", ["n", "aʊ"]),
    ],
)
def test_phonemes_of_words(pronounce: Pronouncer, word: str, phonemes: list[str]) -> None:
    assert [sound.phoneme for sound in sounds_of(pronounce, word)] == phonemes


def test_stress_is_a_number_on_vowels(pronounce: Pronouncer) -> None:
    sounds = sounds_of(pronounce, "understanding")
    assert {sound.stress for sound in sounds} == {0, 1, 2}
    assert all(sound.phoneme in VOWELS for sound in sounds if sound.stress)


def test_every_sound_belongs_to_a_word_and_words_come_in_order(pronounce: Pronouncer) -> None:
    sounds = sounds_of(pronounce, "On Nov. 22 O'Brien's well-known co-op paid $3.50, didn't it?")
    owners = [sound.word for sound in sounds if sound.phoneme]
    assert owners == sorted(owners)
    assert set(owners) == set(range(10))
    assert sounds[-1].letters == "?"


def test_pauses_and_seams_are_tidied() -> None:
    sounds = list(heard(" , a , — b ; . "))
    assert "".join(sound.letters for sound in tidied(sounds)) == "a, b;"


def test_unknown_letters_are_dropped() -> None:
    assert [sound.phoneme for sound in heard("k(1ˈæ)t")] == ["k", "æ", "t"]


def test_piper_spelling_marks_length_and_stress(pronounce: Pronouncer) -> None:
    assert spelled(sounds_of(pronounce, "He sees happy moons")) == (
        ["h", "ˌiː", " ", "s", "ˈiː", "z", " ", "h", "ˈæ", "p", "i", " ", "m", "ˈuː", "n", "z"]
    )


def test_piper_spelling_of_marks_that_its_voices_do_not_know(pronounce: Pronouncer) -> None:
    assert spelled(sounds_of(pronounce, "No — so…"))[-1] == "."
    assert "," in spelled(sounds_of(pronounce, "No — so…"))
