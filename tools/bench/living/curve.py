"""A curve as SVG, drawn by hand: how long people wait, against how many there are."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 360, 64, 48, 40, 120
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1")
DASHES = {"p50": "", "p95": "6 3", "p99": "2 3"}
Row = Mapping[str, float]


def svg(title: str, lines: Mapping[str, Sequence[Row]], x: str = "n", unit: str = "ms") -> str:
    """`lines`: name → rows with `x` and any of p50, p95, p99. One colour a name, one dash a percentile."""
    rows = [row for line in lines.values() for row in line]
    most_x = max((row[x] for row in rows), default=1)
    most_y = nice(max((row[key] for row in rows for key in DASHES if key in row), default=1))
    parts = [*axes(title, most_x, most_y, unit)]
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        for key, dash in DASHES.items():
            places = [(across(row[x], most_x), up(row[key], most_y)) for row in line if key in row]
            parts += drawn(places, colour, dash)
            if places:
                parts.append(text(places[-1][0] + 8, places[-1][1] + 4, f"{name} {key}", colour))
    return page(parts)


def page(parts: Iterable[str]) -> str:
    """What was drawn, on white, as a file."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )


def nice(value: float) -> float:
    """A round number that is not smaller."""
    step = 10.0 ** (len(str(int(max(value, 1)))) - 1)
    return next(step * factor for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * factor >= value)


def across(value: float, most: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - 1) / max(1, most - 1)


def up(value: float, most: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / most


def axes(title: str, most_x: float, most_y: float, unit: str) -> list[str]:
    parts = [text(LEFT, 22, title, "#222", "start", 14)]
    for number in range(5):
        value = most_y * number / 4
        place = up(value, most_y)
        parts.append(f'<path d="M{LEFT} {place:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(text(LEFT - 8, place + 4, f"{value:g} {unit}", "#555", "end"))
    for number in range(1, int(most_x) + 1):
        parts.append(text(across(number, most_x), HEIGHT - BOTTOM + 18, str(number), "#555", "middle"))
    return [*parts, text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "sessions at once", "#555", "middle")]


def drawn(places: Sequence[tuple[float, float]], colour: str, dash: str) -> list[str]:
    path = " ".join(f"{across:.1f},{up:.1f}" for across, up in places)
    dots = [f'<circle cx="{across:.1f}" cy="{up:.1f}" r="2.5" fill="{colour}"/>' for across, up in places]
    return [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-dasharray="{dash}"/>', *dots]


def text(across: float, up: float, words: str, colour: str, anchor: str = "start", size: int = 11) -> str:
    place = f'x="{across:.1f}" y="{up:.1f}" fill="{colour}" text-anchor="{anchor}" font-size="{size}"'
    return f"<text {place}>{escape(words)}</text>"
