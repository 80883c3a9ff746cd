"""Units of measure."""

import re

from services.tts.reading.numerals import is_one, number

UNITS = {
    **{"km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "nm": "nanometer", "mi": "mile"},
    **{"kg": "kilogram", "g": "gram", "mg": "milligram", "lb": "pound", "lbs": "pound", "oz": "ounce", "t": "ton"},
    **{"l": "liter", "L": "liter", "ml": "milliliter", "mL": "milliliter", "gal": "gallon", "yd": "yard"},
    **{"ms": "millisecond", "s": "second", "sec": "second", "secs": "second", "min": "minute", "mins": "minute"},
    **{"h": "hour", "hr": "hour", "hrs": "hour", "KB": "kilobyte", "kB": "kilobyte", "MB": "megabyte"},
    **{"GB": "gigabyte", "TB": "terabyte", "W": "watt", "kW": "kilowatt", "MW": "megawatt", "V": "volt", "A": "amp"},
    **{"kWh": "kilowatt hour", "dB": "decibel", "Mbps": "megabit per second", "Gbps": "gigabit per second"},
    **{"km/h": "kilometer per hour", "kph": "kilometer per hour", "mph": "mile per hour", "m/s": "meter per second"},
    **{"m²": "square meter", "m2": "square meter", "km²": "square kilometer", "km2": "square kilometer"},
    **{"m³": "cubic meter", "m3": "cubic meter", "fps": "frame per second", "rpm": "revolution per minute"},
}
UNCOUNTED = {"ft": ("foot", "feet"), "Hz": ("hertz",) * 2, "kHz": ("kilohertz",) * 2, "MHz": ("megahertz",) * 2}
UNCOUNTED |= {"GHz": ("gigahertz",) * 2, "°C": ("degree Celsius", "degrees Celsius"), "°": ("degree", "degrees")}
UNCOUNTED |= {"°F": ("degree Fahrenheit", "degrees Fahrenheit"), "sq": ("square",) * 2, "%": ("percent",) * 2}
ANY = "|".join(map(re.escape, sorted({*UNITS, *UNCOUNTED} - {"sq"}, key=len, reverse=True)))
"""A pattern of every unit that may be written right after its number."""


def named(name: str, one: bool) -> str:
    """A unit's name, for one or for many: only its first noun changes ("miles per hour")."""
    if name in UNCOUNTED:
        return UNCOUNTED[name][0 if one else 1]
    words = UNITS[name]
    if one:
        return words
    first, per, rest = words.partition(" per ")
    return f"{first}s{per}{rest}"


def suffixed(figure: str, unit: str) -> str:
    """5, km: "five kilometers"."""
    return f"{number(figure)} {named(unit, is_one(figure))}"
