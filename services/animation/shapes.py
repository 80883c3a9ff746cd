"""Tables of the face: which units make a viseme and a mood. A pair is written once for both sides."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from services.animation.blendshapes import BLENDSHAPES, INDEX, PAIRS

Weights = NDArray[np.float32]
"""Shape [52], 0 to 1, in the order of BLENDSHAPES."""


def weights(units: Mapping[str, float]) -> Weights:
    """A face from named units; a pair's name without a side sets both."""
    face = np.zeros(len(BLENDSHAPES), np.float32)
    for name, value in units.items():
        for side in ("Left", "Right") if name in PAIRS else ("",):
            face[INDEX[name + side]] = value
    face.setflags(write=False)
    return face


VISEMES: dict[str, Weights] = {
    name: weights(units)
    for name, units in {
        "rest": {},
        "PP": {"mouthPress": 0.3, "mouthRollLower": 0.12, "mouthRollUpper": 0.1},
        "FF": {"mouthRollLower": 0.42, "mouthUpperUp": 0.22, "jawOpen": 0.04, "mouthStretch": 0.06},
        "TH": {"jawOpen": 0.15, "mouthLowerDown": 0.2, "mouthUpperUp": 0.1, "tongueOut": 0.15},
        "DD": {"jawOpen": 0.12, "mouthLowerDown": 0.2, "mouthUpperUp": 0.08, "mouthStretch": 0.06},
        "KK": {"jawOpen": 0.18, "mouthLowerDown": 0.15, "mouthUpperUp": 0.06},
        "SS": {"jawOpen": 0.05, "mouthLowerDown": 0.22, "mouthUpperUp": 0.1, "mouthStretch": 0.2},
        "CH": {"jawOpen": 0.1, "mouthFunnel": 0.42, "mouthPucker": 0.12, "mouthLowerDown": 0.15, "mouthUpperUp": 0.12},
        "RR": {"jawOpen": 0.12, "mouthPucker": 0.28, "mouthFunnel": 0.18, "mouthLowerDown": 0.08},
        "ER": {"jawOpen": 0.2, "mouthPucker": 0.25, "mouthFunnel": 0.15, "mouthLowerDown": 0.1},
        "WW": {"jawOpen": 0.06, "mouthPucker": 0.7, "mouthFunnel": 0.12},
        "HH": {"jawOpen": 0.2, "mouthLowerDown": 0.12, "mouthUpperUp": 0.05},
        "AA": {"jawOpen": 0.5, "mouthLowerDown": 0.22, "mouthUpperUp": 0.12},
        "AE": {"jawOpen": 0.42, "mouthLowerDown": 0.28, "mouthUpperUp": 0.18, "mouthStretch": 0.18},
        "AH": {"jawOpen": 0.3, "mouthLowerDown": 0.2, "mouthUpperUp": 0.1},
        "UH": {"jawOpen": 0.2, "mouthLowerDown": 0.14, "mouthUpperUp": 0.06},
        "EH": {"jawOpen": 0.32, "mouthLowerDown": 0.24, "mouthUpperUp": 0.14, "mouthStretch": 0.14},
        "IH": {"jawOpen": 0.2, "mouthLowerDown": 0.22, "mouthUpperUp": 0.12, "mouthStretch": 0.18},
        "IY": {"jawOpen": 0.12, "mouthLowerDown": 0.24, "mouthUpperUp": 0.14, "mouthStretch": 0.3, "mouthSmile": 0.1},
        "AO": {"jawOpen": 0.42, "mouthFunnel": 0.3, "mouthPucker": 0.1, "mouthLowerDown": 0.1},
        "OW": {"jawOpen": 0.26, "mouthFunnel": 0.42, "mouthPucker": 0.28},
        "OO": {"jawOpen": 0.18, "mouthFunnel": 0.25, "mouthPucker": 0.35},
        "UW": {"jawOpen": 0.1, "mouthFunnel": 0.22, "mouthPucker": 0.68},
    }.items()
}

PHONEMES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("p", "b", "m"), ("PP",)),
    **dict.fromkeys(("f", "v"), ("FF",)),
    **dict.fromkeys(("θ", "ð"), ("TH",)),
    **dict.fromkeys(("t", "d", "n", "l", "ɾ", "ɫ"), ("DD",)),
    **dict.fromkeys(("k", "ɡ", "g", "ŋ", "ʔ"), ("KK",)),
    **dict.fromkeys(("s", "z"), ("SS",)),
    **dict.fromkeys(("ʃ", "ʒ", "tʃ", "dʒ"), ("CH",)),
    **dict.fromkeys(("ɹ", "r"), ("RR",)),
    **dict.fromkeys(("ɜː", "ɚ", "ɝ", "ɜ"), ("ER",)),
    **dict.fromkeys(("h", "x"), ("HH",)),
    **dict.fromkeys(("ɑ", "ɑː", "a", "aː"), ("AA",)),
    **dict.fromkeys(("ʌ", "ɐ"), ("AH",)),
    **dict.fromkeys(("ə", "ᵊ"), ("UH",)),
    **dict.fromkeys(("ɪ", "ᵻ"), ("IH",)),
    **dict.fromkeys(("i", "iː"), ("IY",)),
    **dict.fromkeys(("ɔ", "ɔː", "ɒ"), ("AO",)),
    **dict.fromkeys(("u", "uː"), ("UW",)),
    "w": ("WW",),
    "j": ("IY",),
    "æ": ("AE",),
    "ɛ": ("EH",),
    "e": ("EH",),
    "o": ("OW",),
    "ʊ": ("OO",),
    "eɪ": ("EH", "IY"),
    "aɪ": ("AA", "IH"),
    "aʊ": ("AA", "UW"),
    "ɔɪ": ("AO", "IH"),
    "oʊ": ("OW", "UW"),
    "əʊ": ("UH", "UW"),
}
VOWEL_VISEMES = frozenset(("AA", "AE", "AH", "UH", "EH", "IH", "IY", "AO", "OW", "OO", "UW", "ER"))
BILABIALS = frozenset(("p", "b", "m"))
LABIODENTALS = frozenset(("f", "v"))
PLOSIVES = frozenset(("t", "d", "k", "ɡ", "g"))

# How strongly a shape asserts itself: lips that round do, a tongue that is hardly seen does not. That lips and teeth meet
# is promised apart from this, so it need not flatten the vowels beside them.
STRENGTH = {"PP": 1.2, "FF": 1.1, "WW": 2.2, "CH": 1.6, "UW": 1.5, "OW": 1.4, "RR": 1.1, "TH": 1.1, "SS": 0.9}
STRENGTH |= {"DD": 0.6, "KK": 0.5, "HH": 0.4, "rest": 0.8}

# Portraits rest in a faint smile, which weights from 0 to 1 cannot take away: moods without a smile frown against it.
MOODS: dict[str, Weights] = {
    name: weights(units)
    for name, units in {
        "neutral": {},
        "happy": {"mouthSmile": 0.42, "cheekSquint": 0.36, "eyeSquint": 0.14, "browOuterUp": 0.12, "mouthDimple": 0.06},
        "sad": {
            "browInnerUp": 0.9,
            "browDown": 0.12,
            "mouthFrown": 1.0,
            "mouthShrugLower": 0.3,
            "eyeSquint": 0.12,
            "eyeBlink": 0.08,
            "eyeLookDown": 0.16,
        },
        "angry": {
            "browDown": 0.9,
            "eyeSquint": 0.4,
            "noseSneer": 0.4,
            "mouthFrown": 0.85,
            "mouthPress": 0.15,
            "mouthShrugLower": 0.15,
        },
        "surprised": {"browInnerUp": 0.75, "browOuterUp": 0.8, "eyeWide": 0.7, "mouthFrown": 0.35, "jawOpen": 0.08},
        "fearful": {
            "browInnerUp": 0.95,
            "browOuterUp": 0.3,
            "browDown": 0.15,
            "eyeWide": 0.6,
            "mouthStretch": 0.3,
            "mouthFrown": 0.65,
        },
        "disgusted": {
            "noseSneer": 0.85,
            "browDown": 0.5,
            "eyeSquint": 0.35,
            "cheekSquint": 0.2,
            "mouthUpperUp": 0.25,
            "mouthFrown": 0.85,
            "mouthShrugUpper": 0.15,
            "mouthShrugLower": 0.3,
        },
    }.items()
}

MOUTH = np.array([name.startswith(("mouth", "jaw", "tongue")) for name in BLENDSHAPES])
"""Units that a viseme may move."""
OPENERS = weights({"jawOpen": 1, "mouthLowerDown": 1, "mouthUpperUp": 1, "mouthFunnel": 1, "tongueOut": 1}) > 0
"""Units that part the lips."""
ROUNDERS = weights({"mouthPucker": 1, "mouthFunnel": 1}) > 0
CORNERS = weights({"mouthSmile": 1, "mouthFrown": 1, "mouthDimple": 1, "mouthStretch": 1}) > 0
"""Units that pull at the corners of the mouth."""
