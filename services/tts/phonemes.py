"""The one phoneme alphabet of the wire: IPA of General American, the same from every engine.

A diphthong or an affricate is one phoneme. Stress is a number beside the phoneme, never a mark in it. Length is written
in `ɜː` alone, where it tells NURSE from the strut vowel's neighbours; `ɚ` is its unstressed fellow (the end of "letter").
Silence is the empty string and is not listed here.
"""

VOWELS: tuple[str, ...] = (
    "i",  # fleece, happy
    "ɪ",  # kit
    "eɪ",  # face
    "ɛ",  # dress
    "æ",  # trap
    "ɑ",  # lot, palm
    "ɔ",  # thought, north
    "oʊ",  # goat
    "ʊ",  # foot
    "u",  # goose
    "ʌ",  # strut
    "ə",  # comma, about
    "ɚ",  # letter
    "ɜː",  # nurse
    "aɪ",  # price
    "aʊ",  # mouth
    "ɔɪ",  # choice
)

CONSONANTS: tuple[str, ...] = (
    *("p", "b", "t", "d", "k", "ɡ"),
    "ɾ",  # the tapped t of "water"
    *("tʃ", "dʒ"),  # church, judge
    *("f", "v", "θ", "ð", "s", "z", "ʃ", "ʒ", "h"),
    *("m", "n", "ŋ"),
    *("l", "ɹ", "w", "j"),
)

PHONEMES: tuple[str, ...] = VOWELS + CONSONANTS
"""Everything that a span may carry."""

SILENCE = ""
