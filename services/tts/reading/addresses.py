"""Email addresses, web addresses and file names, as one would dictate them."""

import re

from services.tts.reading.abbreviations import DOTTED_LETTERS, named
from services.tts.reading.context import Context
from services.tts.reading.numerals import digits, number

IN_ADDRESS = {
    **{".": "dot", "/": "slash", "@": "at", "-": "dash", "_": "underscore", ":": "colon", "?": "question mark"},
    **{"=": "equals", "&": "and", "#": "hash", "%": "percent", "+": "plus", "~": "tilde"},
}
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
ADDRESS = re.compile(r"(?:(?:https?|ftp)://)?(?:www\.)?((?:[\w-]+\.)+[A-Za-z]{2,}(?::\d+)?(?:[/?#]\S*)?)")


def address(word: str, context: Context) -> str | None:
    """An email address, a web address or a file name."""
    if EMAIL.fullmatch(word):
        return dictated(word)
    match = ADDRESS.fullmatch(word)
    if not match or DOTTED_LETTERS.fullmatch(word) or named(word, context) is not None:
        return None
    return dictated(match[1].rstrip("/"))


def dictated(text: str) -> str:
    said = []
    for piece in re.findall(r"[^\W\d_]+|\d+|[^\w\s]|_", text):
        if piece.isdigit():
            said.append(number(piece) if len(piece) <= 2 else digits(piece))
        elif piece.isalpha():
            said.append(
                piece.upper() if len(piece) == 2 and piece not in ("co", "me", "my", "go", "to", "in") else piece
            )
        elif piece in IN_ADDRESS:
            said.append(IN_ADDRESS[piece])
    return " ".join(said)
