"""The face as two sheets of skin: one carries the upper lip and lids, the other the lower. Where they part, a hole opens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.render.fields import Grid, smoothstep, thin_plate
from services.render.landmarks import (
    ABOVE_LIDS,
    BELOW_LIDS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    LOWER_LIDS,
    LOWER_LIP,
    MOUTH_CORNERS,
    UPPER_LIDS,
    UPPER_LIP,
)
from services.render.pixels import Floats, add_scaled, float32, floats
from services.render.portrait import Portrait

ANCHORS = 48
HOLE_OUTER = 1.6
"""Where the two sheets have become one, in radii of `hole_ellipses`."""
LID_UNITS = ("eyeBlink", "eyeLook", "eyeWide")
UPPER, LOWER = 0, 1
"""The sheets."""
Place = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True)
class Window:
    """A block of nodes of a grid."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def origin(self) -> Floats:
        """(x, y) of the first node."""
        return floats(self.left, self.top)

    def cut(self, top: int, bottom: int, left: int, right: int) -> "Window":
        """The part of this window that lies within the given bounds, and at least three nodes of it."""
        top, left = min(max(top, self.top), self.bottom - 3), min(max(left, self.left), self.right - 3)
        bottom, right = max(min(bottom, self.bottom), top + 3), max(min(right, self.right), left + 3)
        return Window(top, bottom, left, right)


def summed(weights: Floats, basis: Floats) -> Floats:
    """`basis` [units, h, w, 2] by `weights` [units]: a product of matrices would wake up threads, and wait for them."""
    total = np.zeros(basis.shape[1:], np.float32)
    for unit in np.flatnonzero(weights):
        add_scaled(total, basis[unit], float(weights[unit]))
    return total


@dataclass(frozen=True)
class Layers:
    """How every place of both sheets moves with each unit, in nodes."""

    window: Window
    upper: Floats
    """x and y of the upper sheet, [units, h, w, 2]."""
    lower: Sequence[tuple[Place, Floats]]
    """Where the lower sheet moves on its own, and how there, [units, rows, columns, 2]; it goes with the upper elsewhere."""

    def flow(self, weights: Floats) -> tuple[Floats, Floats]:
        """Of the upper sheet and of the lower, each [h, w, 2], for the weights [units]."""
        upper = summed(weights, self.upper)
        lower = upper.copy()
        for place, basis in self.lower:
            lower[place] = summed(weights, basis)
        return upper, lower


@dataclass(frozen=True)
class FaceFrame:
    """An upright ellipse around the face, outside which no unit moves anything."""

    centre: Floats
    radii: Floats

    def fade(self, positions: Floats) -> Floats:
        distance = np.linalg.norm((positions - self.centre) / self.radii, axis=-1)
        return 1 - smoothstep(0.72, 1.0, distance)

    def anchors(self, size: int) -> Floats:
        """Points on the ellipse, as fractions of the picture, [ANCHORS, 2]."""
        angles = np.linspace(0, 2 * np.pi, ANCHORS, endpoint=False)
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        return float32((self.centre + ring * self.radii) / size)


def build_layers(portrait: Portrait, grid: Grid) -> Layers:
    """Spread the units of `portrait` over the face. Takes about a second."""
    frame = face_frame(portrait.landmarks)
    window = window_of(grid, frame)
    positions = grid.positions()[window.slices]
    queries = (positions.reshape(-1, 2) / portrait.size).astype(np.float32)
    lower_lids = {i for ids in LOWER_LIDS.values() for i in ids[1:-1]}
    upper_lids = {i for ids in UPPER_LIDS.values() for i in ids[1:-1]}
    seams = {*INNER_UPPER_LIP[1:-1], *INNER_LOWER_LIP[1:-1]}
    upper = spread(portrait, queries, frame, {*LOWER_LIP, *lower_lids, *BELOW_LIDS})
    lower = spread(portrait, queries, frame, {*UPPER_LIP, *upper_lids, *ABOVE_LIDS})
    common = spread(portrait, queries, frame, {*seams, *lower_lids, *upper_lids})
    apart = holes(portrait, positions)
    own = np.maximum.reduce(apart)
    fade = frame.fade(positions)[..., None]
    near_eyes = around_eyes(portrait, positions)[..., None]
    sheets = []
    for sheet in (upper, lower):
        moved = (common + (sheet - common) * own.reshape(-1, 1)).reshape(-1, *window.shape, 2) * fade / grid.step
        for unit, name in enumerate(portrait.unit_names):
            if name.startswith(LID_UNITS):
                moved[unit] *= near_eyes
        sheets.append(np.ascontiguousarray(moved, np.float32))
    places = [bounds(hole) for hole in apart]
    return Layers(window, sheets[0], [(place, np.ascontiguousarray(sheets[1][:, *place])) for place in places])


def face_frame(landmarks: Floats) -> FaceFrame:
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    width, height = high - low
    centre = floats((low[0] + high[0]) / 2, low[1] + 0.58 * height)
    return FaceFrame(centre, floats(0.75 * width, 0.95 * height))


def window_of(grid: Grid, frame: FaceFrame) -> Window:
    low = np.floor(grid.to_nodes(frame.centre - frame.radii)).astype(int) - 1
    high = np.ceil(grid.to_nodes(frame.centre + frame.radii)).astype(int) + 2
    low, high = np.clip(low, 0, grid.nodes), np.clip(high, 0, grid.nodes)
    return Window(int(low[1]), int(high[1]), int(low[0]), int(high[0]))


def spread(portrait: Portrait, queries: Floats, frame: FaceFrame, without: set[int]) -> Floats:
    """Displacement in pixels of every query by every unit, [units, n, 2], from all landmarks but those in `without`."""
    kept = [i for i in range(len(portrait.landmarks)) if i not in without]
    points = float32(portrait.landmarks[kept, :2] / portrait.size)
    units = portrait.units[:, kept, :2]
    values = units.transpose(1, 0, 2).reshape(len(kept), -1)
    rim = frame.anchors(portrait.size)
    points = np.concatenate([points, rim])
    values = np.concatenate([values, np.zeros((len(rim), values.shape[1]), np.float32)])
    found = thin_plate(points, values, queries)
    return found.reshape(len(queries), -1, 2).transpose(1, 0, 2)


def holes(portrait: Portrait, positions: Floats) -> list[Floats]:
    """1 where the sheets move on their own, 0 where they are one: for the mouth and each eye, [h, w]."""
    distances = (np.linalg.norm((positions - c) / radii, axis=-1) for c, radii in hole_ellipses(portrait.landmarks))
    return [1 - smoothstep(1.0, HOLE_OUTER, distance) for distance in distances]


def bounds(values: NDArray[Any]) -> Place:
    """The block around everything that is not 0."""
    rows, columns = np.flatnonzero(values.any(1)), np.flatnonzero(values.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def around_eyes(portrait: Portrait, positions: Floats) -> Floats:
    """1 around the eyes, 0 from the brows on, [h, w]: a closing lid pulls no brow."""
    near = np.zeros(positions.shape[:2], np.float32)
    for centre, radii in hole_ellipses(portrait.landmarks)[1:]:
        distance = np.linalg.norm((positions - centre) / radii, axis=-1)
        near = np.maximum(near, 1 - smoothstep(1.1, 1.65, distance))
    return near


def hole_ellipses(landmarks: Floats) -> list[tuple[Floats, Floats]]:
    """Centre and radii of an ellipse around the mouth and each eye, the subject's right eye first."""
    outlines = [[*UPPER_LIP, *LOWER_LIP, *MOUTH_CORNERS]]
    outlines += [[*UPPER_LIDS[side], *LOWER_LIDS[side]] for side in UPPER_LIDS]
    found = []
    for outline in outlines:
        points = landmarks[outline, :2]
        low, high = points.min(0), points.max(0)
        found.append(((low + high) / 2, (high - low) / 2 * floats(1.15, 1.3)))
    return found
