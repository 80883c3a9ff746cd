"""Head rotation, shift and scale as a flow that fades out over neck and shoulders."""

import numpy as np

from services.render.engine import Head
from services.render.fields import Grid, smoothstep, thin_plate
from services.render.landmarks import CHIN
from services.render.layers import Window, face_frame
from services.render.pixels import Floats, Image, float32, floats, sampled
from services.render.portrait import Portrait

CAMERA_DISTANCE = 4.0
"""In picture widths; the packs are rendered with a 14.4 degree lens."""

FURTHEST = Head(yaw=15, pitch=12, roll=12, x=0.06, y=0.06)
LEAST_SCALE, GREATEST_SCALE = 0.85, 1.15


def drawable(head: Head) -> Head:
    """The nearest pose that one picture can be bent into."""
    near = {name: float(np.clip(getattr(head, name), -limit, limit)) for name, limit in vars(FURTHEST).items()}
    return Head(**near | {"scale": float(np.clip(head.scale, LEAST_SCALE, GREATEST_SCALE))})


class Pose:
    """What a head does to one portrait. Works on the nodes of `window`."""

    def __init__(self, portrait: Portrait, grid: Grid) -> None:
        self._size = portrait.size
        self._step = grid.step
        marks = portrait.landmarks
        self._pivot = floats(portrait.size / 2, marks[CHIN, 1], 0.14 * portrait.size)
        alpha = portrait.keys["neutral"][..., 3]
        self._bottom = marks[CHIN, 1] + 0.26 * portrait.size
        self.window = moving_window(grid, alpha, self._bottom)
        positions = grid.positions()[self.window.slices]
        self._positions = positions
        self._depth = depth_of(portrait, positions)
        self._share = share_of(positions, marks[CHIN, 1], self._bottom, portrait.size)
        rows, columns = self.window.slices
        index_x, index_y = np.meshgrid(np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop))
        self.rest = np.stack([index_x, index_y], axis=-1).astype(np.float32)

    def sources(self, flow: Floats) -> Floats:
        """For every node of the window of the drawn picture, the node position in the unmoved portrait that it shows.

        `flow`: what `flow` gives for the pose.
        """
        flow = float32(flow / self._step)
        local = self.rest - self.window.origin
        found = float32(local - flow)
        for _ in range(4):
            found = float32(local - sampled(flow, found))
        return float32(found + self.window.origin)

    def flow(self, head: Head) -> Floats:
        """Forward displacement of every node of the window, in pixels."""
        x, y = np.moveaxis(self._positions - self._pivot[:2], -1, 0)
        z = self._depth - self._pivot[2]
        r = rotation(head) * np.float32(head.scale)
        moved_x = r[0, 0] * x + r[0, 1] * y + r[0, 2] * z
        moved_y = r[1, 0] * x + r[1, 1] * y + r[1, 2] * z
        moved_z = r[2, 0] * x + r[2, 1] * y + r[2, 2] * z
        camera = CAMERA_DISTANCE * self._size
        nearer = (camera + z) / (camera + moved_z)
        flow = np.dstack([moved_x * nearer - x + head.x * self._size, moved_y * nearer - y + head.y * self._size])
        return float32(flow * self._share[..., None])


def rotation(head: Head) -> Floats:
    """Roll after pitch after yaw, for x right, y down, z away from the camera. [3, 3]"""
    yaw, pitch, roll = np.radians([head.yaw, head.pitch, head.roll])
    turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    tilt = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return float32(tilt @ nod @ turn)


def moving_window(grid: Grid, alpha: Image, bottom: float) -> Window:
    """The nodes of everything that may move: the head, and room around it to move into."""
    room = 0.09 * grid.size
    head = alpha[: int(bottom - 0.14 * grid.size)] > 0
    columns = np.flatnonzero(head.any(0))
    rows = np.flatnonzero(head.any(1))
    low = np.floor(grid.to_nodes(floats(columns[0] - room, rows[0] - room))).astype(int)
    high = np.ceil(grid.to_nodes(floats(columns[-1] + room, bottom))).astype(int) + 2
    low, high = np.clip(low, 0, grid.nodes), np.clip(high, 0, grid.nodes)
    return Window(int(low[1]), int(high[1]), int(low[0]), int(high[0]))


def share_of(positions: Floats, chin: float, bottom: float, size: int) -> Floats:
    """1 on the head, 0 on the shoulders."""
    x, y = positions[..., 0], positions[..., 1]
    low = smoothstep(chin - 0.01 * size, bottom - 0.02 * size, y)
    wide = smoothstep(0.24 * size, 0.38 * size, np.abs(x - size / 2)) * smoothstep(chin, chin + 0.12 * size, y)
    return (1 - low) * (1 - wide)


def depth_of(portrait: Portrait, positions: Floats) -> Floats:
    """Depth in pixels of every position: the face from its landmarks, hair and ears as far back as the face's rim."""
    marks, frame = portrait.landmarks, face_frame(portrait.landmarks)
    rim = frame.anchors(portrait.size)
    back = float(np.quantile(marks[:, 2], 0.97))
    points = float32(np.concatenate([marks[:, :2] / portrait.size, rim]))
    values = np.concatenate([marks[:, 2], np.full(len(rim), back, np.float32)])[:, None]
    found = thin_plate(points, values, float32(positions.reshape(-1, 2) / portrait.size), smoothing=1e-3)
    depth = found.reshape(positions.shape[:2])
    away = np.linalg.norm((positions - frame.centre) / frame.radii, axis=-1)
    return float32(depth + (back - depth) * smoothstep(0.85, 1.05, away))
