"""Words to sounds: English spelling through hibari's G2P into the alphabet of `phonemes`.

hibari writes misaki's letters (https://github.com/hexgrad/misaki/blob/main/EN_PHONES.md): one letter a phoneme, a stress
mark right before its vowel.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hibari.g2p import G2P

from services.tts.phonemes import SILENCE, VOWELS
from services.tts.text import SpokenWord

PRIMARY, SECONDARY = "ˈ", "ˌ"
NO_WORD = -1

MISAKI: dict[str, str] = {
    **{letter: letter for letter in "bdfhjklmnpstvwzðŋɡɹɾʃʒθiuæɑɔəɛɪʊʌ"},
    **{"A": "eɪ", "I": "aɪ", "O": "oʊ", "Q": "oʊ", "W": "aʊ", "Y": "ɔɪ", "ɜ": "ɜː", "ᵊ": "ə", "ɐ": "ə", "ᵻ": "ɪ"},
    **{"ʤ": "dʒ", "ʧ": "tʃ", "T": "ɾ", "ʔ": "t"},
    # Rare letters that the net for unknown words has learnt from foreign names.
    **{"a": "ɑ", "o": "oʊ", "e": "eɪ", "ɒ": "ɑ", "y": "i", "ʀ": "ɹ", "r": "ɹ", "g": "ɡ", "x": "k"},
}
R_COLOURED = {"ɜ": "ɜː", "ə": "ɚ"}
PAUSES = frozenset(",.;:!?—…")


@dataclass(frozen=True)
class Sound:
    """A phoneme, a pause (a punctuation mark) or the seam between two words (a space)."""

    phoneme: str
    """As in `phonemes.PHONEMES`; empty for pauses and seams."""
    letters: str
    """The misaki letters that make it, with the stress mark."""
    stress: int = 0
    word: int = NO_WORD
    """Index of the word that it belongs to."""

    @property
    def is_pause(self) -> bool:
        return self.letters in PAUSES

    @property
    def is_seam(self) -> bool:
        return self.letters == " "


class Pronouncer:
    """English text to sounds. Loading takes about 0.4 s; calls may come from many threads."""

    def __init__(self) -> None:
        self._g2p = G2P()
        # Loads the net for unknown words, which is otherwise made at its first use by whichever thread comes first.
        self._g2p("zxqv")

    def __call__(self, words: Sequence[SpokenWord]) -> list[Sound]:
        """The sounds of one sentence, whose words `text.read` has made. No seam or pause at its beginning."""
        line = " ".join(word.spoken for word in words)
        owners = [index for index, word in enumerate(words) for _ in range(len(word.spoken) + 1)]
        sounds: list[Sound] = []
        at = 0
        for token in self._g2p.phonemize_tokens(self._g2p.tokenize(line)):
            owner = owners[min(at, len(owners) - 1)]
            sounds += [replace(sound, word=owner) if sound.phoneme else sound for sound in heard(token.phonemes or "")]
            if token.whitespace:
                sounds.append(Sound(SILENCE, " "))
            at += len(token.text) + len(token.whitespace)
        return tidied(sounds)


def heard(misaki: str) -> Iterator[Sound]:
    """The sounds of a misaki string; letters of no meaning here are dropped."""
    mark = ""
    stress = 0
    position = 0
    while position < len(misaki):
        letter = misaki[position]
        position += 1
        if letter in (PRIMARY, SECONDARY):
            mark, stress = letter, 2 if letter == PRIMARY else 1
        elif letter in PAUSES or letter == " ":
            yield Sound(SILENCE, letter)
        elif letter in MISAKI:
            phoneme, letters = MISAKI[letter], mark + letter
            if (
                letter in R_COLOURED
                and misaki[position : position + 1] == "ɹ"
                and not before_vowel(misaki, position + 1)
            ):
                phoneme, letters = R_COLOURED[letter], letters + "ɹ"
                position += 1
            mark = ""
            if phoneme in VOWELS:
                yield Sound(phoneme, letters, stress)
                stress = 0
            else:
                yield Sound(phoneme, letters)


def before_vowel(misaki: str, position: int) -> bool:
    """Whether a vowel comes next, so that an r belongs to it."""
    following = misaki[position:].lstrip(PRIMARY + SECONDARY)[:1]
    return MISAKI.get(following, "") in VOWELS


def tidied(sounds: Sequence[Sound]) -> list[Sound]:
    """Without what is silent at either end, but for the last pause; of several pauses in a row only the first stays."""
    kept: list[Sound] = []
    for sound in sounds:
        last = kept[-1] if kept else None
        if sound.phoneme or (last and (last.phoneme or (last.is_pause and sound.is_seam))):
            kept.append(sound)
        elif last and last.is_seam and sound.is_pause and kept[-2].phoneme:
            kept[-1] = sound
    while kept and kept[-1].is_seam:
        kept.pop()
    return kept
