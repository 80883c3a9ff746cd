"""How near an expression is to each key picture, and so how much of the key is shown."""

from collections.abc import Mapping

from services.render.face import Face
from services.render.pixels import Floats

SIDES = ("Right", "Left")
LIDS = ((0.15, 0.6), (0.6, 0.92))
"""Weights of a blink between which the closed lids fade in, upper and lower.

A lid that comes down soon leaves its raised lashes behind; they lie on the lower lid only at the end.
"""


class Presence:
    """The share of each key picture, 0 to 1, in one expression."""

    def __init__(self, face: Face, units: Floats) -> None:
        named = dict(zip(face.portrait.unit_names, units.tolist(), strict=True))
        parted = float(units @ face.lip_gap) / face.open_gap
        self.opened = smooth(parted, 0.02, 0.6)
        self.smiling = smiling(named)
        self.pursed = min(1.0, named.get("mouthFunnel", 0.0) + named.get("mouthPucker", 0.0))
        self._blinks = {side: named.get(f"eyeBlink{side}", 0.0) for side in SIDES}

    def blinking(self, side: str, sheet: int) -> float:
        return smooth(self._blinks[side], *LIDS[sheet])


def smiling(named: Mapping[str, float]) -> float:
    """The smile key also raises the cheeks: a mouth that smiles alone gets half of its folds."""
    mouth, cheeks = (
        sum(named.get(f"{unit}{side}", 0.0) for side in SIDES) / 0.8 for unit in ("mouthSmile", "cheekSquint")
    )
    return smooth(min(mouth, (mouth + cheeks) / 2), 0.0, 1.0)


def smooth(x: float, low: float, high: float) -> float:
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)
