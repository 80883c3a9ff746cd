"""The detection curve as SVG: how often a variant fails, against how many of its sessions it takes until that is known."""

import math
from collections.abc import Mapping, Sequence

from tools.bench.living.curve import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, drawn, page, text

LINES = {"hold": ("held, alpha 0.05", "#2b6cb0"), "guard": ("off, alpha 0.001", "#c05621")}
SESSIONS = (5, 20, 100, 500, 2_000, 10_000)
Row = Mapping[str, float]


def svg(rows: Sequence[Row]) -> str:
    """`rows`: `rate` of failures, and median sessions an arm for each of LINES. Both axes are logarithmic."""
    parts = [text(LEFT, 22, "Sessions an arm until a failing variant is found (control 1 %)", "#222", "start", 14)]
    for count in SESSIONS:
        parts.append(f'<path d="M{LEFT} {up(count):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(text(LEFT - 8, up(count) + 4, f"{count:,}", "#555", "end"))
    for row in rows:
        parts.append(text(across(row["rate"]), HEIGHT - BOTTOM + 18, f"{row['rate']:.0%}", "#555", "middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "sessions of the variant that fail", "#555", "middle"))
    for key, (name, colour) in LINES.items():
        places = [(across(row["rate"]), up(row[key])) for row in rows]
        parts += [*drawn(places, colour, ""), text(places[-1][0] + 8, places[-1][1] + 4, name, colour)]
    return page(parts)


def across(rate: float) -> float:
    """0.02 to 1."""
    return LEFT + 24 + (WIDTH - LEFT - RIGHT - 24) * math.log(rate / 0.02) / math.log(1 / 0.02)


def up(count: float) -> float:
    least, most = SESSIONS[0], SESSIONS[-1]
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * math.log(count / least) / math.log(most / least)
