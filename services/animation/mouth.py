"""How far a mouth is meant to be open."""

import numpy as np

from services.animation.blendshapes import BLENDSHAPES, INDEX, PAIRS
from services.animation.shapes import Weights

PARTING = {
    "jawOpen": 1.0,
    "mouthFunnel": 0.38,
    "mouthShrugUpper": 0.1,
    "mouthUpperUp": 0.07,
    "mouthLowerDown": 0.055,
    "jawForward": 0.04,
    "mouthClose": -1.0,
    "mouthShrugLower": -0.14,
    "mouthRollLower": -0.09,
    "mouthPucker": -0.07,
    "mouthSmile": -0.04,
    "mouthPress": -0.035,
    "mouthRollUpper": -0.035,
}
"""What each unit (of a pair: each side) adds to the gap of the inner lips, in parts of what jawOpen adds.

Measured on the CC0 ARKit units on the face mesh's 468 points: the distance of points 13 and 14 with the unit at 1.
"""
GAPS = np.zeros(len(BLENDSHAPES), np.float32)
for _name, _gap in PARTING.items():
    for _side in ("Left", "Right") if _name in PAIRS else ("",):
        GAPS[INDEX[_name + _side]] = _gap


def opening(face: Weights) -> float:
    """The gap of the lips, 0 (they touch) to 1 (as by jawOpen alone at 1), that ARKit weights `face` [52] stand for."""
    return float(np.clip(face @ GAPS, 0.0, 1.0))
