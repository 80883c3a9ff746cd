"""Sounds in the spelling of espeak-ng's American English, with which Piper voices were trained.

espeak marks length where misaki does not; the rules are those of its en-us voice. espeak itself is not needed.
"""

from collections.abc import Sequence

from services.tts.phonemes import VOWELS
from services.tts.pronunciation import PRIMARY, SECONDARY, Sound

LONG = {"u": "uː", "ɑ": "ɑː", "ɔ": "ɔː"}
OWN_LETTER = {"ᵻ": "ᵻ", "ɐ": "ɐ"}
"""Reduced vowels that misaki took over from espeak as they are."""
MARKS = {"—": ",", "…": "."}
STRESS = {0: "", 1: SECONDARY, 2: PRIMARY}


def spelled(sounds: Sequence[Sound]) -> list[str]:
    """The symbols of each sound, one string for each."""
    lone = lone_vowels(sounds)
    return [spelling(sound, index in lone) for index, sound in enumerate(sounds)]


def spelling(sound: Sound, is_only_vowel: bool) -> str:
    if not sound.phoneme:
        return MARKS.get(sound.letters, sound.letters)
    bare = sound.letters.lstrip(PRIMARY + SECONDARY)
    if bare in OWN_LETTER:
        letters = OWN_LETTER[bare]
    elif sound.phoneme == "i":
        # Fleece is long, the end of "happy" is not.
        letters = "iː" if sound.stress or is_only_vowel else "i"
    else:
        letters = LONG.get(sound.phoneme, sound.phoneme)
    return STRESS[sound.stress] + letters


def lone_vowels(sounds: Sequence[Sound]) -> set[int]:
    """Indices of the vowels that are the only one of their word."""
    places: dict[int, list[int]] = {}
    for index, sound in enumerate(sounds):
        if sound.phoneme in VOWELS:
            places.setdefault(sound.word, []).append(index)
    return {found[0] for found in places.values() if len(found) == 1}
