"""Where every place of a picture comes from, for one expression and pose. All on nodes; pixels come last."""

from functools import cached_property

import numpy as np

from services.render.engine import Head
from services.render.face import Face, Key, Part
from services.render.fields import invert
from services.render.layers import LOWER, UPPER, Place, Window, bounds
from services.render.pixels import Floats, enlarged, float32, sampled

SKULL = -1
"""Shown instead of a sheet of skin of the neutral portrait: a face without expression."""


class Bending:
    """The geometry of one picture.

    It knows, for every node of the moving part of the picture, which node position it would show of a face without
    expression and of either sheet of skin; of the lower one where it may be seen alone, in the windows `mouth` and `eyes`.
    """

    def __init__(self, face: Face, units: Floats, head: Head) -> None:
        self._face = face
        self._units = units
        self._head = head
        self._maps: dict[tuple[int, Window], Floats] = {}
        self.window = face.pose.window
        skull = face.pose.rest if head == Head() else face.pose.sources(self._head_flow)
        upper, lower = face.layers.flow(units)
        sheet = skull.copy()
        self._nodes = {SKULL: skull, UPPER: sheet}
        touched = self._touched_part()
        sheet[touched] = self._inverted(upper, touched)
        self.mouth = self.around(face.mouth)
        self.eyes = {side: self.around(eye) for side, eye in face.eyes.items()}
        self._nodes[LOWER] = sheet.copy()
        for window in (self.mouth, *self.eyes.values()):
            place = self._rows_and_columns(window)
            self._nodes[LOWER][place] = self._inverted(lower, place)

    def _touched_part(self) -> Place:
        """The nodes that show something of the window of the layers."""
        h, w = self._face.layers.window.shape
        x, y = np.moveaxis(self._nodes[SKULL] - self._face.layers.window.origin, -1, 0)
        return bounds((x > 0) & (x < w - 1) & (y > 0) & (y < h - 1))

    def _inverted(self, flow: Floats, place: Place) -> Floats:
        """What a sheet that has flowed like this shows at a place."""
        origin = self._face.layers.window.origin
        return invert(np.ascontiguousarray(self._nodes[SKULL][place] - origin), flow) + origin

    def _rows_and_columns(self, window: Window) -> Place:
        """A window, counted from the moving part of the picture."""
        rows, columns = window.slices
        top, left = self.window.top, self.window.left
        return slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)

    def maps(self, shown: int, window: Window) -> Floats:
        """Pixel positions for `sampled`, at every pixel of `place(window)`; `shown` is SKULL, UPPER or LOWER."""
        found = self._maps.get((shown, window))
        if found is None:
            found = self._maps[shown, window] = self._enlarged(self._nodes[shown][self._rows_and_columns(window)])
        return found

    def maps_in_key(self, key: Key, sheet: int, window: Window) -> Floats:
        """The same for a key picture: where in it lies what the upper (0) or lower (1) sheet shows of the neutral one."""
        nodes = self._nodes[sheet][self._rows_and_columns(window)]
        local = np.ascontiguousarray(nodes - self._face.layers.window.origin)
        return self._enlarged(nodes + sampled(key.flow[sheet], local))

    def _enlarged(self, nodes: Floats) -> Floats:
        grid = self._face.grid
        return enlarged(grid.to_pixels(nodes), grid.step)[grid.step : -grid.step, grid.step : -grid.step]

    def place(self, window: Window) -> Place:
        """The pixels of a window of nodes, whose outermost nodes only serve the interpolation."""
        rows, columns = window.slices
        step = self._face.grid.step
        return slice(rows.start * step, (rows.stop - 2) * step), slice(columns.start * step, (columns.stop - 2) * step)

    def around(self, part: Part) -> Window:
        """The nodes of the picture that a part of the face may cover."""
        rim = part.rim[:, 0] + self._face.layers.window.origin
        moved = self._units @ part.reach.reshape(len(part.reach), -1)
        points = float32(np.concatenate([rim, rim]) + moved.reshape(-1, 2))
        if self._head != Head():
            local = (points - self.window.origin)[:, None]
            points += float32(sampled(self._head_flow, local)[:, 0] / self._face.grid.step)
        low, high = np.floor(points.min(0)).astype(int) - 2, np.ceil(points.max(0)).astype(int) + 3
        return self.window.cut(int(low[1]), int(high[1]), int(low[0]), int(high[0]))

    @cached_property
    def _head_flow(self) -> Floats:
        return self._face.pose.flow(self._head)
