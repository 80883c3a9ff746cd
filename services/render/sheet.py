"""A contact sheet of one portrait: visemes, expressions, blinks, gaze and head turns. For looking at, not for serving."""

import argparse
from pathlib import Path

import cv2
import numpy as np

from services.render.engine import Head
from services.render.face import build_face
from services.render.pixels import Image
from services.render.portrait import load_portrait
from services.render.warp import WarpRenderer

PORTRAITS = Path(__file__).parent / "portraits"


def both(name: str, weight: float) -> dict[str, float]:
    return {f"{name}Left": weight, f"{name}Right": weight}


POSES: dict[str, tuple[dict[str, float], Head]] = {
    "rest": ({}, Head()),
    "AA": ({"jawOpen": 0.5, **both("mouthLowerDown", 0.2), **both("mouthUpperUp", 0.15)}, Head()),
    "E": (
        {"jawOpen": 0.25, **both("mouthStretch", 0.3), **both("mouthLowerDown", 0.3), **both("mouthUpperUp", 0.2)},
        Head(),
    ),
    "I": (
        {"jawOpen": 0.12, **both("mouthSmile", 0.25), **both("mouthLowerDown", 0.3), **both("mouthUpperUp", 0.2)},
        Head(),
    ),
    "O": ({"jawOpen": 0.4, "mouthFunnel": 0.6, "mouthPucker": 0.2}, Head()),
    "U": ({"jawOpen": 0.15, "mouthFunnel": 0.3, "mouthPucker": 0.7}, Head()),
    "PP": ({"jawOpen": 0.08, "mouthClose": 0.1, **both("mouthPress", 0.5)}, Head()),
    "FF": ({"jawOpen": 0.08, "mouthRollLower": 0.45, **both("mouthUpperUp", 0.25)}, Head()),
    "TH": ({"jawOpen": 0.2, **both("mouthLowerDown", 0.2), **both("mouthUpperUp", 0.1)}, Head()),
    "smile": ({**both("mouthSmile", 0.4), **both("cheekSquint", 0.4), **both("eyeSquint", 0.1)}, Head()),
    "grin": (
        {"jawOpen": 0.1, **both("mouthSmile", 0.5), **both("mouthUpperUp", 0.3), **both("cheekSquint", 0.3)},
        Head(),
    ),
    "sad": ({"browInnerUp": 0.7, **both("mouthFrown", 0.6), "mouthShrugLower": 0.3}, Head()),
    "surprise": (
        {"browInnerUp": 0.8, **both("browOuterUp", 0.8), **both("eyeWide", 0.7), "jawOpen": 0.35, "mouthFunnel": 0.2},
        Head(),
    ),
    "anger": (
        {**both("browDown", 0.9), **both("noseSneer", 0.5), **both("mouthPress", 0.4), **both("eyeSquint", 0.4)},
        Head(),
    ),
    "puff": ({"cheekPuff": 0.8}, Head()),
    "blink": (both("eyeBlink", 1.0), Head()),
    "half": (both("eyeBlink", 0.5), Head()),
    "3/4": (both("eyeBlink", 0.75), Head()),
    "wink": ({"eyeBlinkLeft": 1.0}, Head()),
    "gaze left": ({"eyeLookOutLeft": 0.7, "eyeLookInRight": 0.7}, Head()),
    "gaze right": ({"eyeLookInLeft": 0.7, "eyeLookOutRight": 0.7}, Head()),
    "gaze up": (both("eyeLookUp", 0.7), Head()),
    "gaze down": (both("eyeLookDown", 0.7), Head()),
    "yaw +8": ({}, Head(yaw=8)),
    "yaw -8": ({}, Head(yaw=-8)),
    "pitch +6": ({}, Head(pitch=6)),
    "pitch -6": ({}, Head(pitch=-6)),
    "roll +5": ({}, Head(roll=5)),
    "all": (
        {"jawOpen": 0.4, **both("mouthSmile", 0.2), "eyeLookOutLeft": 0.4, "eyeLookInRight": 0.4},
        Head(6, 3, -3, 0.01, 0.01, 1.02),
    ),
    "wide AA": ({"jawOpen": 0.9, **both("mouthLowerDown", 0.3)}, Head()),
}


def contact_sheet(portrait: str, size: int, columns: int = 5) -> Image:
    """All POSES of a built-in portrait, each with its name."""
    face = build_face(load_portrait(PORTRAITS / portrait, size))
    names = face.portrait.unit_names
    renderer = WarpRenderer(face, names)
    tiles = []
    for label, (weights, head) in POSES.items():
        tile = renderer.draw(face.weights(weights), head)
        cv2.putText(tile, label, (8, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (60, 60, 60), 1, cv2.LINE_AA)
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--portrait", default="mei")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cv2.imwrite(str(arguments.out), contact_sheet(arguments.portrait, arguments.size))


if __name__ == "__main__":
    main()
