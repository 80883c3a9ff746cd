"""The face as two sheets of skin: one carries the upper lip and lids, the other the lower. Where they part, a hole opens."""

from dataclasses import dataclass

import numpy as np

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
from services.render.pixels import Floats, float32, floats
from services.render.portrait import Portrait

ANCHORS = 48
HOLE_OUTER = 1.6
"""Where the two sheets have become one, in radii of `hole_ellipses`."""
LID_UNITS = ("eyeBlink", "eyeLook", "eyeWide")


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


@dataclass(frozen=True)
class Layers:
    """How every place of both sheets moves with each unit, in nodes."""

    window: Window
    basis: Floats
    """[units, h, w, 4]: x and y of the upper sheet, x and y of the lower."""

    def flow(self, weights: Floats) -> Floats:
        """[h, w, 4] for the weights [units]."""
        active = np.flatnonzero(weights)
        flat = self.basis.reshape(len(self.basis), -1)
        moved = weights[active] @ flat[active] if len(active) else np.zeros(flat.shape[1], np.float32)
        return moved.reshape(self.basis.shape[1:])


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
    own = holes(portrait, positions).reshape(-1, 1)
    fade = frame.fade(positions).reshape(-1, 1)
    sheets = [(common + (sheet - common) * own) * fade / grid.step for sheet in (upper, lower)]
    basis = np.concatenate(sheets, axis=-1).astype(np.float32)
    near_eyes = around_eyes(portrait, positions).reshape(-1, 1)
    for unit, name in enumerate(portrait.unit_names):
        if name.startswith(LID_UNITS):
            basis[unit] *= near_eyes
    return Layers(window, np.ascontiguousarray(basis.reshape(len(basis), *window.shape, 4)))


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


def holes(portrait: Portrait, positions: Floats) -> Floats:
    """1 where the sheets move on their own (around lips and lids), 0 where they are one, [h, w]."""
    own = np.zeros(positions.shape[:2], np.float32)
    for centre, radii in hole_ellipses(portrait.landmarks):
        distance = np.linalg.norm((positions - centre) / radii, axis=-1)
        own = np.maximum(own, 1 - smoothstep(1.0, HOLE_OUTER, distance))
    return own


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
