"""How one written word is read aloud."""

import re
import unicodedata

from services.tts.reading import moments, quantities
from services.tts.reading.abbreviations import DOTTED_LETTERS, SYMBOLS, named
from services.tts.reading.addresses import address
from services.tts.reading.context import Context
from services.tts.reading.numerals import cardinal, digits, ordinal

ROMAN = re.compile(r"(?=[IVX]{2,})X{0,3}(?:IX|IV|V?I{0,3})")
NUMBERED = frozenset(
    ("chapter", "part", "act", "scene", "section", "volume", "book", "war", "phase", "article", "type", "level")
)
RUN = re.compile(r"(\w)\1{2,}")


def read(word: str, context: Context) -> str:
    """A word without its punctuation, as it is spoken: letters, apostrophes and hyphens only. Empty if it is silent."""
    plain = compatible(word)
    for reader in (address, named, moments.read, quantities.read, numeral, tagged):
        if (said := reader(plain, context)) is not None:
            return said
    return spelt(plain)


def compatible(word: str) -> str:
    """Full width and mathematical letters, circled digits and the like as the characters that they stand for."""
    return "".join(c if ord(c) < 0x2100 or c in "ⅠⅡ½→−≈≤≥≠√∞⅓⅔" else unicodedata.normalize("NFKC", c) for c in word)


def numeral(word: str, context: Context) -> str | None:
    """A Roman numeral after what is counted ("Chapter IV") or after a name ("Henry VIII")."""
    if not ROMAN.fullmatch(word) or not context.previous[:1].isupper():
        return None
    values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in word]
    value = sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))
    return cardinal(value) if context.previous.lower() in NUMBERED else f"the {ordinal(value)}"


def tagged(word: str, context: Context) -> str | None:
    """@name and #topic."""
    if re.fullmatch(r"[@#][^\W\d]\w*", word):
        return f"{'at' if word[0] == '@' else 'hashtag'} {spelt(word[1:])}"
    return None


def spelt(word: str) -> str:
    """Letters as they are, digits and symbols in words."""
    if DOTTED_LETTERS.fullmatch(word):
        return word
    said = []
    word = word.replace("²", " squared ").replace("³", " cubed ")
    for piece in re.findall(r"[^\W\d_]+(?:['’-]+[^\W\d_]+)*['’]?|\d+(?:[.,]\d+)*|[^\w\s]", word):
        if piece[0].isdigit():
            said.append(quantities.read(piece, Context()) or digits(piece))
        elif piece[0].isalpha():
            initials = len(piece) < len(word) <= 5 and not re.search("[aeiouy]", piece.lower())
            said.append(piece.upper() if initials else letters(piece))
        elif piece in SYMBOLS and len(word) > 1 and piece != "~":
            said.append(SYMBOLS[piece])
    return " ".join(said)


def letters(piece: str) -> str:
    if len(piece) == 1 and (name := unicodedata.name(piece, "")).startswith("GREEK"):
        return name.split(" WITH ")[0].rsplit(" ", 1)[-1].lower()
    return RUN.sub(r"\1\1", piece.replace("’", "'"))
