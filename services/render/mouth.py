"""What is seen between parted lips: upper teeth that stay with the skull, tongue and lower teeth that go with the jaw."""

from dataclasses import dataclass

import numpy as np

from services.render.fields import smoothstep
from services.render.landmarks import INNER_LOWER_LIP, INNER_UPPER_LIP
from services.render.pixels import Floats, Image, dilated, floats, rounded
from services.render.portrait import Portrait
from services.render.sheets import curve

CAVITY = (10, 6, 14)


@dataclass(frozen=True)
class MouthInterior:
    """Textures as they lie in the "open" key picture."""

    teeth: Image
    """Upper teeth, BGR premultiplied, with alpha, [h, w, 4]."""
    jaw: Image
    """Everything else, BGR, [h, w, 3]."""
    origin: Floats
    """Pixel position (x, y) of the textures' first pixel in the picture."""


def build_interior(portrait: Portrait, opened: Floats) -> MouthInterior:
    """Cut the inside of the mouth out of the "open" key and continue it under the lips.

    `opened` [468, 2] is where the landmarks lie in that key.
    """
    size = portrait.size
    columns = np.arange(size, dtype=np.float32)
    upper = curve(opened[list(INNER_UPPER_LIP)], columns)
    lower = curve(opened[list(INNER_LOWER_LIP)], columns)
    left, right = opened[INNER_UPPER_LIP[0], 0], opened[INNER_UPPER_LIP[-1], 0]
    width = right - left
    x0, x1 = int(left - 0.2 * width), int(right + 0.2 * width)
    y0, y1 = int(upper.min() - 0.5 * width), int(lower.max() + 0.5 * width)
    picture = portrait.keys["open"][..., :3].astype(np.float32)
    middle = (upper.min() + lower.max()) / 2
    unit = size / 768
    rows = np.arange(size, dtype=np.float32)[:, None]
    corner = 0.07 * width
    hole = (rows > upper + unit) & (rows < lower - 1.5 * unit) & (columns > left + corner) & (columns < right - corner)
    white = teethness(picture) * (rows > upper - unit) * (rows < lower)
    teeth_alpha = (white * (rows < middle)).astype(np.float32)
    teeth = np.dstack([picture * teeth_alpha[..., None], teeth_alpha * 255])
    extend(teeth, upper + unit, int(left) + 1, int(right), direction=-1)
    add_side_teeth(teeth)
    without = dilated((teeth_alpha > 0.05).astype(np.float32), 3)[..., None]
    jaw = np.where(hole[..., None], picture * (1 - without), CAVITY)
    jaw = np.maximum(jaw, CAVITY).astype(np.float32)
    extend(jaw, lower - 1.5 * unit, int(left + corner) + 1, int(right - corner), direction=1)
    cut = slice(y0, y1), slice(x0, x1)
    return MouthInterior(
        rounded(teeth[cut]),
        rounded(jaw[cut]),
        floats(x0, y0),
    )


def teethness(picture: Floats) -> Floats:
    """1 where a pixel is light and colourless, [h, w]."""
    least, most = picture.min(-1), picture.max(-1)
    return smoothstep(75, 125, least) * (1 - smoothstep(0.22, 0.36, (most - least) / np.maximum(most, 1)))


def add_side_teeth(teeth: Floats) -> None:
    """Continue the row beyond its outermost teeth, ever darker, as the key picture shows too few for a broad smile."""
    row = np.flatnonzero((teeth[..., 3] > 200).any(0))
    if len(row) < 8:
        return
    first, last = int(row[0]), int(row[-1])
    tooth = max(2, (last - first) // 5)
    for side, edge in ((-1, first + 1), (1, last - 1)):
        for distance in range(1, 3 * tooth):
            # There and back again: neighbouring teeth are each other's mirror image.
            back = tooth - abs(tooth - distance % (2 * tooth))
            column = teeth[:, edge - side * back] * np.exp(-distance / (1.4 * tooth))
            column[:, 3] = teeth[:, edge - side * back, 3]
            rise = round(0.12 * distance)
            teeth[: len(column) - rise, edge + side * distance] = column[rise:]


def extend(texture: Floats, edge: Floats, left: int, right: int, direction: int) -> None:
    """Continue every column of `texture` beyond `edge` with its brightest pixel near there, in place."""
    near = max(2, round(5 * len(edge) / 768))
    for x in range(left, right):
        start = int(np.ceil(edge[x]) if direction < 0 else np.floor(edge[x]))
        rows = start - direction * np.arange(near)
        best = int(rows[texture[rows, x].sum(-1).argmax()])
        if direction < 0:
            texture[:best, x] = texture[best, x]
        else:
            texture[best + 1 :, x] = texture[best, x]
