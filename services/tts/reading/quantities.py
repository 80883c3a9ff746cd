"""Figures of every kind but times and dates: ranges, fractions, ordinals, decades, telephone numbers, sums of money."""

import re
from collections.abc import Callable

from services.tts.reading import money, units
from services.tts.reading.context import Context
from services.tts.reading.numerals import (
    LARGE,
    LARGE_WORDS,
    NUMBER,
    SIGN,
    cardinal,
    digits,
    is_one,
    number,
    ordinal,
    plain,
    year,
)

FRACTIONS = {"½": "one half", "¼": "one quarter", "¾": "three quarters", "⅓": "one third", "⅔": "two thirds"}
HALF = {"one half": "a half", "one quarter": "a quarter", "one third": "a third"}

OPERATORS = {"*": "times", "×": "times", "÷": "divided by", "=": "equals", "+": "plus", "/": "over"}
OPERATORS |= {"<": "less than", ">": "more than"}

LARGE_SUFFIX = "bn|tn|[kKmMbBtT]"
AMOUNT = rf"(?:[{money.SYMBOLS}]?(?:{NUMBER})(?:{LARGE_SUFFIX}|%|{units.ANY})?)"


def span(low: str, high: str) -> str:
    """10-20, 2019-2021, $10-$20, 10-20%: "… to …", a currency said once, with the upper end."""
    if low[0] in money.CURRENCIES:
        high = high if high[0] in money.CURRENCIES else low[0] + high
        low = low[1:]
    return f"{amount(low)} to {amount(high)}"


def amount(text: str) -> str:
    """An AMOUNT by itself."""
    return read(text, Context()) or plain(text)


def fraction(above: int, below: int) -> str:
    if above == 1 and below == 2:
        return "one half"
    name = {2: "half", 4: "quarter"}.get(below) or ordinal(below)
    plural = "halves" if name == "half" else f"{name}s"
    return f"{cardinal(above)} {name if above == 1 else plural}"


def decade(text: str) -> str:
    """1990: "nineteen nineties"; 90: "nineties"."""
    said = year(int(text)) if len(text) == 4 else cardinal(int(text))
    return f"{said[:-1]}ies" if said.endswith("y") else f"{said}s"


def telephone(text: str) -> str:
    groups = [digits(group) for group in re.findall(r"\d+", text)]
    return ("plus " if text.startswith("+") else "") + ", ".join(groups)


def is_telephone_group(context: Context) -> bool:
    """Whether the digits beside this group make it a part of a telephone number: "0800 123 456", "(555) 123-4567"."""
    neighbours = [context.previous, context.following]
    return any(re.fullmatch(r"\d{2,4}|\d{3}-\d{4}|\+\d{1,3}", neighbour) for neighbour in neighbours)


Rule = tuple[re.Pattern[str], Callable[[re.Match[str], Context], str | None]]
RULES: tuple[Rule, ...] = (
    (
        re.compile(rf"({SIGN})([{money.SYMBOLS}])({SIGN})({NUMBER})({LARGE_SUFFIX})?"),
        lambda m, c: money.said(m[1] or m[3], m[2], m[4], m[5] or "", c.following),
    ),
    (re.compile(rf"({SIGN})({NUMBER})([{money.SYMBOLS}])"), lambda m, c: money.said(m[1], m[3], m[2], "", c.following)),
    (re.compile(r"\+?\d{0,3}[-.]?\(?\d{3}\)?[-.]\d{3}[-.]\d{4}|\d{3}-\d{4}|\+\d{7,15}"), lambda m, c: telephone(m[0])),
    (re.compile(rf"({AMOUNT})[-–—]({AMOUNT})"), lambda m, c: span(m[1], m[2])),
    (re.compile(r"['’](\d0)['’]?s|(\d{3}0)['’]?s"), lambda m, c: decade(m[1] or m[2])),
    (re.compile(rf"({AMOUNT})/([A-Za-z]{{2,}})"), lambda m, c: f"{amount(m[1])} per {m[2]}"),
    (re.compile(rf"({SIGN}(?:{NUMBER}))({units.ANY})"), lambda m, c: units.suffixed(m[1], m[2])),
    (re.compile(r"([\d,]+)(?:st|nd|rd|th)", re.IGNORECASE), lambda m, c: ordinal(int(m[1].replace(",", "")))),
    (re.compile(rf"({SIGN}(?:{NUMBER}))({LARGE_SUFFIX})"), lambda m, c: f"{number(m[1])} {LARGE[m[2].lower()]}"),
    (re.compile(rf"({NUMBER})[xX×]"), lambda m, c: f"{number(m[1])} times"),
    (re.compile(r"24/7"), lambda m, c: "twenty-four seven"),
    (re.compile(r"(\d{1,3})[/⁄](\d{1,3})"), lambda m, c: fraction(int(m[1]), int(m[2])) if int(m[2]) > 1 else None),
    (re.compile(r"([½¼¾⅓⅔])"), lambda m, c: FRACTIONS[m[1]]),
    (
        re.compile(r"(\d+)([½¼¾⅓⅔])"),
        lambda m, c: f"{cardinal(int(m[1]))} and {HALF.get(FRACTIONS[m[2]], FRACTIONS[m[2]])}",
    ),
    (re.compile(r"#(\d+)"), lambda m, c: f"number {cardinal(int(m[1]))}"),
    (re.compile(r"(\d+):(\d+)"), lambda m, c: f"{number(m[1])} to {number(m[2])}"),
    (re.compile(rf"({NUMBER})([*×÷=+/])({NUMBER})"), lambda m, c: f"{number(m[1])} {OPERATORS[m[2]]} {number(m[3])}"),
    (re.compile(rf"[~≈]({NUMBER})"), lambda m, c: f"about {plain(m[1])}"),
    (re.compile(rf"([<>])({NUMBER})"), lambda m, c: f"{OPERATORS[m[1]]} {plain(m[2])}"),
    (re.compile(r"\d+(?:\.\d+){2,}"), lambda m, c: " point ".join(map(number, m[0].split(".")))),
    (re.compile(rf"[-−+](?:{NUMBER})"), lambda m, c: number(m[0])),
    (re.compile(r"\d{2,4}"), lambda m, c: digits(m[0]) if is_telephone_group(c) else None),
    (re.compile(NUMBER), lambda m, c: plain(m[0])),
)


def read(word: str, context: Context) -> str | None:
    """A quantity in words; None if `word` is none."""
    if (unit := after_number(word, context)) is not None:
        return unit
    for pattern, say in RULES:
        if (match := pattern.fullmatch(word)) and (said := say(match, context)) is not None:
            return said
    return None


def after_number(word: str, context: Context) -> str | None:
    """A unit, currency or magnitude whose number is the word before."""
    before = context.previous
    if re.fullmatch(rf"{SIGN}(?:{NUMBER})", before):
        if word in units.UNITS or word in units.UNCOUNTED:
            return units.named(word, is_one(before))
        if word in money.CODES:
            return money.CURRENCIES[money.CODES[word]][0 if is_one(before) else 1]
    if word.lower() in LARGE_WORDS and (match := re.fullmatch(rf"{SIGN}([{money.SYMBOLS}])(?:{NUMBER})", before)):
        return f"{word} {money.CURRENCIES[match[1]][1]}"
    return None
