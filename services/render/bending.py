"""Where every place of a picture comes from, for one expression and pose. All on nodes; pixels come last."""

from functools import cached_property

import numpy as np

from services.render.engine import Head
from services.render.face import Face, Key, Part
from services.render.fields import invert
from services.render.layers import Window
from services.render.pixels import Floats, enlarged, float32, sampled

Place = tuple[slice, slice]
"""Rows and columns of a picture."""


class Bending:
    """The geometry of one picture.

    `skull` is, for every node of the moving part of the picture, the node position that it would show of a face without
    expression; `upper` and `lower` are what it shows of either sheet of skin of the neutral portrait.
    """

    def __init__(self, face: Face, units: Floats, head: Head) -> None:
        self._face = face
        self._units = units
        self._head = head
        self.window = face.pose.window
        self.skull = face.pose.rest if head == Head() else face.pose.sources(head)
        self.upper, self.lower = self.skull.copy(), self.skull.copy()
        self._touched = self._touched_part()
        flow = face.layers.flow(units)
        target = self._local(self.skull)
        for sheet, moved in ((self.upper, flow[..., :2]), (self.lower, flow[..., 2:])):
            sheet[self._touched] = invert(target, moved) + face.layers.window.origin

    def _touched_part(self) -> Place:
        """The nodes that show something of the window of the layers."""
        h, w = self._face.layers.window.shape
        x, y = np.moveaxis(self.skull - self._face.layers.window.origin, -1, 0)
        within = (x > 0) & (x < w - 1) & (y > 0) & (y < h - 1)
        rows, columns = np.flatnonzero(within.any(1)), np.flatnonzero(within.any(0))
        return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    def _local(self, nodes: Floats) -> Floats:
        """What the layers touch of `nodes`, counted from their own window."""
        return np.ascontiguousarray(nodes[self._touched] - self._face.layers.window.origin)

    def in_key(self, key: Key, sheet: int) -> Floats:
        """Where in a key picture lies what the upper (0) or lower (1) sheet shows of the neutral one."""
        found = (self.upper, self.lower)[sheet].copy()
        flow = np.ascontiguousarray(key.flow[..., 2 * sheet : 2 * sheet + 2])
        found[self._touched] += sampled(flow, self._local(found))
        return found

    def maps(self, nodes: Floats, window: Window) -> Floats:
        """Pixel positions for `sampled`, at every pixel of `place(window)`."""
        grid, rows, columns = self._face.grid, *window.slices
        top, left = self.window.top, self.window.left
        block = nodes[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return enlarged(grid.to_pixels(block), grid.step)[grid.step : -grid.step, grid.step : -grid.step]

    def place(self, window: Window) -> Place:
        """The pixels of a window of nodes, whose outermost nodes only serve the interpolation."""
        rows, columns = window.slices
        step = self._face.grid.step
        return slice(rows.start * step, (rows.stop - 2) * step), slice(columns.start * step, (columns.stop - 2) * step)

    def around(self, part: Part) -> Window:
        """The nodes of the picture that a part of the face may cover."""
        moved = np.tensordot(self._units, part.reach, axes=1)
        rim = part.rim[:, 0] + self._face.layers.window.origin
        points = np.concatenate([rim + moved[:, :2], rim + moved[:, 2:]]).astype(np.float32)
        if self._head != Head():
            local = (points - self.window.origin)[:, None].astype(np.float32)
            points += float32(sampled(self._head_flow, local)[:, 0] / self._face.grid.step)
        low, high = np.floor(points.min(0)).astype(int) - 2, np.ceil(points.max(0)).astype(int) + 3
        return self.window.cut(int(low[1]), int(high[1]), int(low[0]), int(high[0]))

    @cached_property
    def _head_flow(self) -> Floats:
        return self._face.pose.flow(self._head)
