"""A portrait pack: key pictures of one face, its landmarks, and how each blendshape moves them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from services.render.pixels import Floats, Image, floats, rounded
from services.runtime.errors import InvalidInput, LoadFailed

POINTS = 468
KEYS = ("neutral", "open", "blink", "smile")


@dataclass(frozen=True)
class Portrait:
    """A face at one size. Lengths are in pixels; (0, 0) is the middle of the top left one, z points away from the camera."""

    name: str
    size: int
    keys: Mapping[str, Image]
    """Key name → BGRA with straight alpha, [size, size, 4]; "neutral" is the one that the others were made from."""
    background: Image
    """BGR, [size, size, 3]."""
    landmarks: Floats
    """[468, 3], of "neutral"."""
    units: Floats
    """Displacement of the landmarks by each blendshape at weight 1, [n, 468, 3]."""
    unit_names: tuple[str, ...]
    key_weights: Mapping[str, Mapping[str, float]]
    """Key name → what to dial on top of "neutral" to reach that key."""


def check_size(size: int) -> None:
    """Raises InvalidInput for a size that no portrait can be drawn at."""
    if not 128 <= size <= 768 or size % 16:
        raise InvalidInput("size", f"is {size}", "a multiple of 16 from 128 to 768")


def load_portrait(folder: Path, size: int) -> Portrait:
    """Read a pack and scale it to `size` x `size`. Raises InvalidInput for the size, LoadFailed for the pack."""
    check_size(size)
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        landmarks = np.load(folder / "landmarks.npy", allow_pickle=False)
        with np.load(folder / "arkit.npz", allow_pickle=False) as archive:
            units, names = archive["units"], tuple(map(str, archive["names"]))
        return scaled(folder, manifest, landmarks.astype(np.float32), units.astype(np.float32), names, size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadFailed(f"portrait {folder.name!r}: {error}") from error


def scaled(
    folder: Path, manifest: Mapping[str, Any], landmarks: Floats, units: Floats, names: tuple[str, ...], size: int
) -> Portrait:
    if landmarks.shape != (POINTS, 3) or units.shape != (len(names), POINTS, 3):
        raise ValueError(f"landmarks are {landmarks.shape} and units {units.shape} for {len(names)} names")
    if not (np.isfinite(landmarks).all() and np.isfinite(units).all()):
        raise ValueError("landmarks or units are not finite")
    full = int(manifest["size"][0])
    scale = np.float32(size / full)
    weights = {key: weights_of(manifest, key, names) for key in KEYS}
    placed = landmarks * scale - floats(0.5, 0.5, 0)
    return Portrait(
        name=str(manifest["name"]),
        size=size,
        keys={key: picture(folder / f"{key}.png", full, size, channels=4) for key in KEYS},
        background=picture(folder / "background.png", full, size, channels=3),
        landmarks=placed.astype(np.float32),
        units=units * scale,
        unit_names=names,
        key_weights=weights,
    )


def weights_of(manifest: Mapping[str, Any], key: str, names: tuple[str, ...]) -> dict[str, float]:
    weights = {name: float(weight) for name, weight in manifest["key_weights"][key]["on_top_of_neutral"].items()}
    if unknown := weights.keys() - set(names):
        raise ValueError(f"manifest: key {key!r} dials {sorted(unknown)}, which arkit.npz has not")
    return weights


def picture(path: Path, full: int, size: int, channels: int) -> Image:
    """A PNG of `full` x `full` pixels, scaled. Colours are averaged with their alpha, so that no fringe appears."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint8 or image.shape[:2] != (full, full):
        raise ValueError(f"{path.name} is not a readable {full} x {full} picture")
    if image.ndim != 3 or image.shape[2] < channels:
        raise ValueError(f"{path.name} has not {channels} channels")
    values: Floats = image[..., :channels].astype(np.float32)
    if channels == 4:
        values[..., :3] *= values[..., 3:] / 255
    values = cv2.resize(values, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    if channels == 4:
        values[..., :3] *= 255 / np.maximum(values[..., 3:], 1)
    return rounded(values)
