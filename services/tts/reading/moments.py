"""Times of day and dates."""

import re

from services.tts.reading.context import Context
from services.tts.reading.numerals import cardinal, number, ordinal, year

MONTHS = {
    "jan": "January",
    "feb": "February",
    "mar": "March",
    "apr": "April",
    "may": "May",
    "jun": "June",
    "jul": "July",
    "aug": "August",
    "sep": "September",
    "sept": "September",
    "oct": "October",
    "nov": "November",
    "dec": "December",
}
NAMES = tuple(dict.fromkeys(MONTHS.values()))
DAYS = {
    **{"mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday", "thu": "Thursday"},
    **{"thurs": "Thursday", "fri": "Friday", "sat": "Saturday", "sun": "Sunday"},
}
MERIDIEM = r"([AaPp])\.?[Mm]\.?"
TIME = re.compile(rf"(\d{{1,2}}):(\d{{2}})(?::(\d{{2}}))?(?:{MERIDIEM})?")
HOURS = re.compile(rf"(\d{{1,2}}(?::\d{{2}})?)[-–](\d{{1,2}}(?::\d{{2}})?{MERIDIEM})")
HOUR = re.compile(rf"(\d{{1,2}}){MERIDIEM}")
ISO = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")
SLASHED = re.compile(r"(\d{1,2})[/.](\d{1,2})[/.](\d{4}|\d{2})")
DAY = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?")


def read(word: str, context: Context) -> str | None:
    """A time, a date, or a part of one, in words; None if `word` is none of these."""
    if (match := TIME.fullmatch(word)) and (said := time_of_day(match, context)):
        return said
    if (match := HOUR.fullmatch(word)) and int(match[1]) <= 12:
        return f"{cardinal(int(match[1]))} {match[2].upper()}M"
    if match := HOURS.fullmatch(word):
        low, high = (read(end, Context(following="pm")) or number(end) for end in match.group(1, 2))
        return f"{low} to {high}"
    if re.fullmatch(MERIDIEM, word) and re.fullmatch(r"\d{1,2}(:\d{2})?", context.previous):
        return f"{word[0].upper()}M"
    if match := ISO.fullmatch(word):
        return date(int(match[1]), int(match[2]), int(match[3]))
    if match := SLASHED.fullmatch(word):
        return slashed(int(match[1]), int(match[2]), match[3])
    return month_name(word, context) or day_of_month(word, context)


def time_of_day(match: re.Match[str], context: Context) -> str | None:
    hour, minute, second, half = int(match[1]), int(match[2]), match[3], match[4]
    if hour > 24 or minute > 59 or int(second or 0) > 59:
        return None
    said = [cardinal(hour)]
    if minute:
        said.append(f"oh {cardinal(minute)}" if minute < 10 else cardinal(minute))
    elif not half and not second and not re.fullmatch(MERIDIEM, context.following):
        said.append("o'clock")
    if second:
        said.append(f"and {cardinal(int(second))} {'second' if int(second) == 1 else 'seconds'}")
    return " ".join([*said, f"{half.upper()}M"] if half else said)


def date(year_number: int, month: int, day: int) -> str | None:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return f"{NAMES[month - 1]} {ordinal(day)}, {year(year_number)}"


def slashed(first: int, second: int, year_text: str) -> str | None:
    """Month first, as in America, unless that cannot be."""
    number = int(year_text)
    if len(year_text) == 2:
        number += 1900 if number > 50 else 2000
    month, day = (first, second) if first <= 12 else (second, first)
    return date(number, month, day)


def month_name(word: str, context: Context) -> str | None:
    """An abbreviated month next to a number; "Sept." also alone. "may", "mar", "sun" are words of their own too."""
    bare = word.rstrip(".").lower()
    beside_day = DAY.fullmatch(context.following) or DAY.fullmatch(context.previous) or context.following.isdigit()
    if bare in MONTHS and word[0].isupper() and (word.endswith(".") or beside_day):
        return MONTHS[bare]
    return DAYS[bare] if bare in DAYS and word.endswith(".") and word[0].isupper() else None


def day_of_month(word: str, context: Context) -> str | None:
    match = DAY.fullmatch(word)
    if not match or not 1 <= int(match[1]) <= 31:
        return None
    if is_month(context.previous):
        return ordinal(int(match[1]))
    if is_month(context.following):
        article = "" if context.previous.lower() == "the" else "the "
        return f"{article}{ordinal(int(match[1]))} of"
    return None


def is_month(word: str) -> bool:
    return word[:1].isupper() and (word.rstrip(".").lower() in MONTHS or word in NAMES)
