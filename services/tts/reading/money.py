"""Money."""

from services.tts.reading.numerals import LARGE, LARGE_WORDS, cardinal, is_one, number

CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "", ""),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "₩": ("won", "won", "", ""),
}
CODES = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "KRW": "₩"}
SYMBOLS = "".join(CURRENCIES)


def said(sign: str, symbol: str, amount: str, suffix: str, following: str) -> str:
    """An amount of money; a magnitude that follows ("million") takes the currency with it."""
    one, many, one_part, many_parts = CURRENCIES[symbol]
    minus = "minus " if sign in ("-", "−") else ""
    if suffix:
        return f"{minus}{number(amount)} {LARGE[suffix.lower()]} {many}"
    if following.lower() in LARGE_WORDS:
        return minus + number(amount)
    whole, _, part = amount.replace(",", "").partition(".")
    if not part or len(part) != 2 or not one_part:
        return f"{minus}{number(amount)} {one if is_one(amount) else many}"
    parts = [f"{cardinal(int(whole))} {one if int(whole) == 1 else many}"] if int(whole or 0) or not int(part) else []
    if int(part):
        parts.append(f"{cardinal(int(part))} {one_part if int(part) == 1 else many_parts}")
    return minus + " and ".join(parts)
