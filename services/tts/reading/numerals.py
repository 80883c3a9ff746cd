"""Numbers as American English says them. Digits in, words out."""

import re

from hibari.g2p import numbers

NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
"""12, 1,234, 3.14 or .5: no sign."""
SIGN = "[-−+]?"
LONGEST = 33
"""Digits of the largest number that has a name here; longer ones are read digit by digit."""
LARGE = {"k": "thousand", "m": "million", "b": "billion", "bn": "billion", "t": "trillion", "tn": "trillion"}
LARGE_WORDS = frozenset({"hundred", "thousand", "million", "billion", "trillion", "dozen"})
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def cardinal(number: int) -> str:
    """1234: "one thousand two hundred thirty-four"."""
    return american(numbers.cardinal(number)) if number < 10**LONGEST else digits(str(number))


def ordinal(number: int) -> str:
    """22: "twenty-second"."""
    return american(numbers.ordinal(number)) if number < 10**LONGEST else digits(str(number))


def american(words: str) -> str:
    return words.replace(",", "").replace(" and ", " ")


def year(number: int) -> str:
    """1905: "nineteen oh five", 2009: "two thousand nine", 2026: "twenty twenty-six"."""
    return american(numbers.year(number)).replace("oh-", "oh ")


def digits(text: str) -> str:
    """Each digit by itself, whatever stands between them."""
    return " ".join(DIGITS[int(digit)] for digit in re.findall(r"\d", text))


def number(text: str) -> str:
    """A NUMBER with or without a sign: cardinal, decimal, or digit by digit if it begins with a zero or is too long."""
    sign = {"-": "minus ", "−": "minus ", "+": "plus "}.get(text[:1], "")
    whole, _, fraction = text.lstrip("-−+").replace(",", "").partition(".")
    point = f" point {digits(fraction)}" if fraction else ""
    if (len(whole) > 1 and whole[0] == "0") or len(whole) > LONGEST:
        return f"{sign}{digits(whole)}{point}"
    return f"{sign}{cardinal(int(whole or 0))}{point}"


def plain(text: str) -> str:
    """A bare integer as it is likely to be meant: 1100 to 2099 as a year, ten digits and more as a telephone number."""
    if text.isdigit() and len(text) == 4 and 1100 <= int(text) <= 2099:
        return year(int(text))
    if text.isdigit() and len(text) >= 10 and not text.endswith("000"):
        return digits(text)
    return number(text)


def is_one(text: str) -> bool:
    return text.lstrip("-−+").replace(",", "") == "1"
