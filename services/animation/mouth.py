"""How far a mouth is meant to be open."""

import numpy as np

from services.animation.blendshapes import INDEX
from services.animation.shapes import Weights, weights

PART = weights({"jawOpen": 1.0, "mouthLowerDown": 0.18, "mouthUpperUp": 0.14, "mouthFunnel": 0.12})


def opening(face: Weights) -> float:
    """Parting of the lips, 0 (closed) to 1 (wide open), that ARKit weights `face` [52] stand for.

    A weighted sum of the units that part the lips, less mouthClose, which brings them together again.
    """
    return float(np.clip(face @ PART - face[INDEX["mouthClose"]], 0.0, 1.0))
