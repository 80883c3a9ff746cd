"""Where in the portrait the upper sheet of skin ends and the lower begins: soft masks along lips and lids."""

from dataclasses import dataclass

import numpy as np

from services.render.fields import smoothstep
from services.render.landmarks import INNER_LOWER_LIP, INNER_UPPER_LIP, LOWER_LIDS, UPPER_LIDS
from services.render.pixels import Floats, Image, blurred, float32, grey
from services.render.portrait import Portrait


@dataclass(frozen=True)
class Seam:
    """A closed or open slit: what is above `upper` belongs to the upper sheet, below `lower` to the lower one."""

    left: float
    right: float
    upper: Floats
    """y of the upper sheet's edge at every column of the picture, [size]."""
    lower: Floats


@dataclass(frozen=True)
class SheetMasks:
    """0 to 1 at every pixel of the portrait, [size, size]. The lower sheet lies under the upper one."""

    upper: Floats
    lower: Floats


def lip_seam(portrait: Portrait) -> Seam:
    """The line on which the closed lips meet: the darkest row between the inner lips' landmarks."""
    marks, size = portrait.landmarks, portrait.size
    columns = np.arange(size, dtype=np.float32)
    above = curve(marks[list(INNER_UPPER_LIP), :2], columns)
    below = curve(marks[list(INNER_LOWER_LIP), :2], columns)
    left, right = (float(marks[i, 0]) for i in (INNER_UPPER_LIP[0], INNER_UPPER_LIP[-1]))
    meeting = darkest(portrait.keys["neutral"], float32((above + below) / 2), left, right)
    slack = 3.0 * size / 768
    return Seam(left, right, meeting, np.clip(below, meeting - slack, meeting - 0.4 * slack))


def darkest(image: Image, near: Floats, left: float, right: float) -> Floats:
    """Per column the darkest row within a few pixels of `near`, smoothed by a symmetric polynomial."""
    size = len(near)
    reach = max(2, round(5 * size / 768))
    light = blurred(grey(image), size / 768)
    columns = np.arange(int(left) + 3, int(right) - 2)
    offsets = np.arange(-reach, reach + 1)
    rows = np.clip(np.rint(near[columns])[:, None].astype(int) + offsets, 0, size - 1)
    cost = light[rows, columns[:, None]] + 0.4 * np.abs(offsets) * 768 / size
    found = np.take_along_axis(rows, cost.argmin(1)[:, None], axis=1)[:, 0]
    inside = (columns - (left + right) / 2) / (right - left) * 2
    correction = np.polynomial.Polynomial.fit(inside, found - near[columns], 4, domain=[-1, 1])
    everywhere = np.clip((np.arange(size) - (left + right) / 2) / (right - left) * 2, -1, 1)
    ends = 1 - smoothstep(0.8, 1.0, np.abs(everywhere))
    return float32(near + correction(everywhere) * ends)


def lid_seam(portrait: Portrait, side: str) -> Seam:
    """The rims of one eye, moved inwards a little so that lashes and wet line stay with the lids."""
    marks, size = portrait.landmarks, portrait.size
    columns = np.arange(size, dtype=np.float32)
    above = smooth_curve(marks[list(UPPER_LIDS[side]), :2], columns)
    below = smooth_curve(marks[list(LOWER_LIDS[side]), :2], columns)
    unit = size / 768
    left, right = marks[UPPER_LIDS[side][0], 0], marks[UPPER_LIDS[side][-1], 0]
    return Seam(float(left), float(right), above + 1.2 * unit, below - 1.0 * unit)


def curve(points: Floats, columns: Floats) -> Floats:
    """y of the line through `points` at every column; level beyond its ends."""
    order = np.argsort(points[:, 0])
    return float32(np.interp(columns, points[order, 0], points[order, 1]))


def smooth_curve(points: Floats, columns: Floats) -> Floats:
    """As `curve`, through a cubic fit: single lid landmarks stray by a few pixels."""
    left, right = points[:, 0].min(), points[:, 0].max()
    fit = np.polynomial.Polynomial.fit(points[:, 0], points[:, 1], 4, w=[4] + [1] * (len(points) - 2) + [4])
    return float32(fit(np.clip(columns, left, right)))


def sheet_masks(size: int, seams: list[Seam]) -> SheetMasks:
    upper, lower = np.ones((size, size), np.float32), np.ones((size, size), np.float32)
    rows = np.arange(size, dtype=np.float32)[:, None]
    columns = np.arange(size, dtype=np.float32)
    for seam in seams:
        reach = round(seam.right - seam.left)
        low, high = max(0, int(seam.left) - reach), min(size, int(seam.right) + reach)
        top = max(0, int(seam.upper.min()) - reach)
        bottom = min(size, int(seam.lower.max()) + reach)
        beyond = np.maximum(np.maximum(seam.left - columns, columns - seam.right), 0)
        soft = 0.6 + 0.35 * beyond
        above = smoothstep(-1, 1, (seam.upper - rows) / soft)
        below = smoothstep(-1, 1, (rows - seam.lower) / 0.6)
        inset = 0.012 * size
        corner = smoothstep(0, 1, np.maximum(seam.left + inset - columns, columns - seam.right + inset) / inset)
        below = np.maximum(below, corner)
        part = slice(top, bottom), slice(low, high)
        upper[part], lower[part] = above[part], below[part]
    return SheetMasks(upper, lower)
