"""Eyeballs: cut out of the portrait, completed under the lids, and shifted to look around."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.render.pixels import Floats, Image, blurred, float32, floats, grey, rounded, sampled
from services.render.portrait import Portrait
from services.render.sheets import Seam

Mask = NDArray[np.bool_]
GazeUnits = tuple[int, int, int, int]
GAZE_REACH = (0.014, 0.011)
"""How far an iris goes at weight 1, as a fraction of the picture's width: aside and up or down."""


@dataclass(frozen=True)
class Eyeball:
    texture: Image
    """BGR, [h, w, 3], as if there were no lids."""
    shade: Floats
    """What the lids of the portrait do to its light, [h, w]; goes with the upper lid."""
    origin: Floats
    """Pixel position (x, y) of the texture's first pixel in the picture."""


def build_eyeball(portrait: Portrait, seam: Seam) -> Eyeball:
    """Paint sclera and iris on where the lids of the portrait hide or shade them."""
    unit = portrait.size / 768
    margin = int(0.35 * (seam.right - seam.left))
    x0, x1 = int(seam.left) - margin, int(seam.right) + margin
    y0, y1 = int(seam.upper.min()) - margin, int(seam.lower.max()) + margin
    crop = np.ascontiguousarray(portrait.keys["neutral"][y0:y1, x0:x1, :3])
    rows, columns = np.arange(y0, y1, dtype=np.float32)[:, None], np.arange(x0, x1)
    upper, lower = seam.upper[x0:x1], seam.lower[x0:x1]
    open_eye = (rows > upper) & (rows < lower) & (columns > seam.left) & (columns < seam.right)
    lit = open_eye & (rows > upper + 4 * unit) & (rows < lower - 2.5 * unit)
    centre, radius = find_iris(crop, lit)
    light = grey(crop)
    # The window's reflection may reach into the lid's shade.
    lit |= open_eye & inside(crop.shape, centre, 0.7 * radius) & (light > np.quantile(light[lit], 0.5))
    white = painted_white(crop, lit & ~inside(crop.shape, centre, radius * 1.15))
    known = blurred(lit.astype(np.float32), 1.2 * unit)[..., None]
    iris = crop * known + rotated(crop, centre) * (1 - known)
    rim = np.clip((radius * 1.04 - distances(crop.shape, centre)) / (2 * unit) + 0.5, 0, 1)[..., None]
    texture = np.clip(white * (1 - rim) + iris * rim, 0, 255)
    ratio = blurred(crop.astype(np.float32), unit) / np.maximum(blurred(texture, unit), 8)
    shade = np.where(open_eye, np.clip(ratio.mean(-1), 0.3, 1.15), 0.7).astype(np.float32)
    shade = blurred(shade, 0.7 * unit)
    return Eyeball(rounded(texture), shade, floats(x0, y0))


def painted_white(crop: Image, white: Mask) -> Floats:
    """The white of the eye everywhere, from the lightest and least coloured of the pixels in `white`."""
    values = crop.astype(np.float32)
    least, most = values.min(-1), values.max(-1)
    if not white.any():
        white = least >= np.quantile(least, 0.9)
    pale = least - 0.5 * (most - least)
    sure = white & (pale >= 0.85 * np.quantile(pale[white], 0.8))
    weight = blurred(sure.astype(np.float32), 0.08 * crop.shape[1])[..., None] + np.float32(1e-4)
    spread = blurred(values * sure[..., None], 0.08 * crop.shape[1])
    found: Floats = (spread + np.float32(1e-4) * values[sure].mean(0)) / weight
    return found


def distances(shape: tuple[int, ...], centre: Floats) -> Floats:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return float32(np.hypot(x - centre[0], y - centre[1]))


def inside(shape: tuple[int, ...], centre: Floats, radius: float) -> Mask:
    return distances(shape, centre) < radius


def rotated(crop: Image, centre: Floats) -> Floats:
    """For what the lids hide above and below: the iris as it is at its side, away from the window's reflection."""
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]].astype(np.float32)
    dx, dy = x - centre[0], y - centre[1]
    maps = np.dstack([centre[0] + np.abs(dy), centre[1] + dx * np.sign(-dy) * 0.6]).astype(np.float32)
    return sampled(crop, maps).astype(np.float32)


def find_iris(crop: Image, seen: Mask) -> tuple[Floats, float]:
    """Centre (x, y) and radius in pixels, from the columns that are darker than the white of the eye."""
    light = grey(crop)
    white = np.quantile(light[seen], 0.8)
    dark = seen & (light < 0.72 * white)
    count = seen.sum(0)
    share = np.where(count > 3, dark.sum(0) / np.maximum(count, 1), 0)
    solid = largest_run(share > 0.6)
    x = (solid.start + solid.stop - 1) / 2
    pupil = seen & (light < 0.25 * white)
    rows = np.nonzero(pupil[:, solid])[0]
    y = rows.mean() if len(rows) else np.nonzero(seen)[0].mean()
    return floats(x, y), (solid.stop - solid.start) / 2


def largest_run(flags: Mask) -> slice:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    starts, stops = edges[::2], edges[1::2]
    if not len(starts):
        return slice(len(flags) // 3, 2 * len(flags) // 3)
    longest = int((stops - starts).argmax())
    return slice(int(starts[longest]), int(stops[longest]))


def gaze_units(names: Sequence[str], side: str) -> GazeUnits:
    """What the units of an eye do: look right and left in the picture, down and up."""
    towards = ("eyeLookOut", "eyeLookIn") if side == "Left" else ("eyeLookIn", "eyeLookOut")
    right, left, down, up = (names.index(f"{look}{side}") for look in (*towards, "eyeLookDown", "eyeLookUp"))
    return right, left, down, up


def gaze(weights: Floats, units: GazeUnits) -> Floats:
    """How far an iris goes to the right and down, as fractions of the picture's width, [2]."""
    right, left, down, up = weights[list(units)]
    return floats((right - left) * GAZE_REACH[0], (down - up) * GAZE_REACH[1])
