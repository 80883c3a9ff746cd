"""What a text holds that is not to be read: markdown marks, emoji, control characters; and in which script it is."""

import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from services.runtime.errors import InvalidInput

DELETED = (
    re.compile(r"!?\[(?=[^\]\n]*\]\([^)\s]*\))|(?<=\])\([^)\s]*\)"),  # [text](address), less its second bracket
    re.compile(r"^[ \t]{0,3}#{1,6}[ \t]+", re.MULTILINE),  # headings
    re.compile(r"^[ \t]*(?:[-*+•][ \t]+|>[ \t]?)", re.MULTILINE),  # bullets, quotations
    re.compile(r"^[ \t]*(?:[-*_][ \t]*){3,}$", re.MULTILINE),  # rules
    re.compile(r"`{3,}\w*|`"),
    re.compile(r"(?<![\w*])(?:\*{1,3}|_{1,3}|~~)(?=\S)|(?<=[^\s*])(?:\*{1,3}|_{1,3}|~~)(?![\w*])"),  # emphasis
    re.compile(r"</?[A-Za-z][^<>\n]{0,40}>"),  # tags
    re.compile(r"(?<!\S)[:;8]-?[()DPpO/|](?!\S)|<3"),  # smileys in letters
)
KEPT_SYMBOLS = frozenset("°©")
JOINERS = re.compile("[\u200b-\u200f\u202a-\u202e\u2060\ufeff\ufe00-\ufe0f\u20e3\U000e0000-\U000e007f\u00ad]")
SKIN_TONES = range(0x1F3FB, 0x1F400)

LATIN_LIKE = frozenset(
    {
        *("LATIN", "FULLWIDTH", "MODIFIER", "MICRO", "KELVIN", "ANGSTROM", "OHM", "SCRIPT", "MATHEMATICAL"),
        *("DOUBLE-STRUCK", "MASCULINE", "FEMININE", "BLACK-LETTER", "PLANCK", "ROMAN", "CIRCLED", "SQUARED"),
    }
)
"""First words of the Unicode names of letters that English text may hold."""
LANGUAGES = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}


@dataclass(frozen=True)
class Unmarked:
    """A text less what is not read, which knows where each of its characters came from."""

    original: str
    plain: str
    origins: tuple[int, ...]

    def written(self, start: int, end: int) -> str:
        """What stands in the original where `plain[start:end]` was found."""
        return self.original[self.origins[start] : self.origins[end - 1] + 1]


def unmarked(text: str) -> Unmarked:
    """`text` without markup; emoji and control characters become spaces."""
    gone = {index for pattern in DELETED for match in pattern.finditer(text) for index in range(*match.span())}
    gone |= {match.start() - 1 for match in re.finditer(r"(?<=\])\([^)\s]*\)", text)}
    kept = [
        (index, " " if is_silent(letter) else letter)
        for index, letter in enumerate(text)
        if index not in gone and not JOINERS.match(letter)
    ]
    return Unmarked(text, "".join(letter for _, letter in kept), tuple(index for index, _ in kept))


def is_silent(letter: str) -> bool:
    """Emoji, pictures, control characters."""
    category = unicodedata.category(letter)
    if category in ("So", "Co", "Cs", "Cn"):
        return letter not in KEPT_SYMBOLS
    return (category == "Cc" and letter not in "\n\t") or ord(letter) in SKIN_TONES


def check_script(text: str) -> None:
    """Raises InvalidInput if `text` has words that are not written in Latin letters. A lone Greek letter is a symbol."""
    runs = list(foreign(text))
    for script, length in runs:
        if script == "GREEK" and length == 1:
            continue
        language = LANGUAGES.get(script, script.capitalize())
        if language == "Chinese" and any(LANGUAGES.get(other) == "Japanese" for other, _ in runs):
            language = "Japanese"
        raise InvalidInput("clause.text", f"holds {language} text", "English, in Latin letters")


def foreign(text: str) -> Iterator[tuple[str, int]]:
    """The runs of letters of one script that is not Latin: its name in Unicode's names of letters, and the length."""
    for script, letters in itertools.groupby(text, lambda letter: script_of(letter) if letter.isalpha() else ""):
        if script and script not in LATIN_LIKE:
            yield script, len(list(letters))


def script_of(letter: str) -> str:
    first, _, rest = unicodedata.name(letter, "UNKNOWN").partition(" ")
    if first in ("FULLWIDTH", "HALFWIDTH") and not rest.startswith("LATIN"):
        first = rest.partition(" ")[0]
    return first
