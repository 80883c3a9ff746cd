"""Abbreviations, and symbols that stand for a word."""

import re

from services.tts.reading import moments
from services.tts.reading.context import Context

TITLES = {
    **{"Dr": "Doctor", "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Prof": "Professor", "St": "Saint", "Mt": "Mount"},
    **{"Gen": "General", "Gov": "Governor", "Sen": "Senator", "Rep": "Representative", "Capt": "Captain"},
    **{"Lt": "Lieutenant", "Col": "Colonel", "Sgt": "Sergeant", "Rev": "Reverend", "Pres": "President", "Ft": "Fort"},
}
"""Before a name."""
ABBREVIATIONS = {
    **{"etc": "et cetera", "vs": "versus", "approx": "approximately", "dept": "department", "univ": "university"},
    **{"apt": "apartment", "hwy": "highway", "bros": "brothers", "govt": "government", "assn": "association"},
    **{"e.g": "for example", "i.e": "that is", "a.k.a": "also known as", "cf": "compare"},
    **{"ph.d": "P H D", "b.sc": "B S C", "m.sc": "M S C"},
}
"""With a point after them."""
CAPITALISED = {
    **{
        "Jr": "junior",
        "Sr": "senior",
        "St": "street",
        "Ave": "avenue",
        "Blvd": "boulevard",
        "Rd": "road",
        "Ln": "lane",
    },
    **{"Dr": "drive", "Inc": "incorporated", "Ltd": "limited", "Corp": "corporation", "Co": "company"},
}
"""With a point after them, after a name."""
BEFORE_FIGURES = {
    **{"no": "number", "nos": "numbers", "vol": "volume", "fig": "figure", "figs": "figures", "ch": "chapter"},
    **{"p": "page", "pp": "pages", "sec": "section", "tel": "telephone", "ca": "circa"},
}
"""With a point after them and a figure after that; else they are words."""
BARE = {
    **{"vs": "versus", "w/": "with", "w/o": "without", "and/or": "and or", "aka": "also known as", "etc": "et cetera"},
    **{"c++": "C plus plus", "c#": "C sharp", "f#": "F sharp", "n/a": "not applicable", "ok": "okay", "mr": "mister"},
    **{"mrs": "missus", "ms": "miz", "dr": "doctor", "btw": "by the way", "wi-fi": "why fye", "wifi": "why fye"},
}
SYMBOLS = {
    **{
        "&": "and",
        "+": "plus",
        "=": "equals",
        "@": "at",
        "#": "number",
        "%": "percent",
        "<": "less than",
        "*": "times",
    },
    **{
        ">": "greater than",
        "±": "plus or minus",
        "×": "times",
        "÷": "divided by",
        "→": "to",
        "≈": "about",
        "~": "about",
    },
    **{
        "≤": "at most",
        "≥": "at least",
        "≠": "is not",
        "°": "degrees",
        "§": "section",
        "−": "minus",
        "√": "the root of",
    },
    **{
        "/": "slash",
        "$": "dollars",
        "€": "euros",
        "£": "pounds",
        "∞": "infinity",
        "^": "to the power of",
        "©": "copyright",
    },
}
DOTTED_LETTERS = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]?\.?")


def named(word: str, context: Context) -> str | None:
    """An abbreviation or a symbol with a fixed reading."""
    if word in SYMBOLS:
        return symbol(word, context)
    if word in ("-", "–") and between_figures(context):
        return "to" if word == "–" else "minus"
    bare = word.removesuffix(".")
    if bare in TITLES and context.following[:1].isupper():
        return TITLES[bare]
    if word.endswith("."):
        pointed = ABBREVIATIONS.get(bare.lower()) or CAPITALISED.get(bare)
        if context.following[:1].isdigit():
            pointed = BEFORE_FIGURES.get(bare.lower(), pointed)
        return pointed
    return BARE.get(word.lower()) if not context.previous[-1:].isdigit() else None


def takes_point(word: str, following: str) -> bool:
    """Whether a point after `word` belongs to it."""
    lower = word.lower()
    return (
        bool(DOTTED_LETTERS.fullmatch(f"{word}.") and "." in word)
        or lower in ABBREVIATIONS
        or word in CAPITALISED
        or (word in TITLES and following[:1].isupper())
        or (lower in BEFORE_FIGURES and following[:1].isdigit())
        or (word[:1].isupper() and lower in moments.MONTHS and following[:1].isdigit())
        or (word[:1].isupper() and lower in moments.DAYS and bool(following))
    )


def may_end_sentence(word: str) -> bool:
    """Whether an abbreviation is as likely at a sentence's end as before a name."""
    return word.lower() in ("etc", "a.m", "p.m")


def between_figures(context: Context) -> bool:
    return context.previous[-1:].isdigit() and context.following[:1].isdigit()


def symbol(mark: str, context: Context) -> str:
    return "over" if mark == "/" and between_figures(context) else SYMBOLS[mark]
