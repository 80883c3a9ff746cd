"""From what blendshapes do to 468 points to what they do to every place of the picture: smooth fields on a coarse grid."""

from dataclasses import dataclass

import numpy as np

from services.render.pixels import Floats, float32, sampled


@dataclass(frozen=True)
class Grid:
    """Nodes over a square picture, in the middle of cells of `step` pixels, with one ring of nodes outside."""

    size: int
    step: int

    @property
    def nodes(self) -> int:
        return self.size // self.step + 2

    def positions(self) -> Floats:
        """Pixel position (x, y) of every node, [nodes, nodes, 2]."""
        axis = (np.arange(self.nodes) - 1) * self.step + (self.step - 1) / 2
        return np.stack(np.meshgrid(axis, axis), axis=-1).astype(np.float32)

    def to_nodes(self, pixels: Floats) -> Floats:
        """Pixel positions in units of nodes."""
        return float32((pixels - (self.step - 1) / 2) / self.step + 1)

    def to_pixels(self, nodes: Floats) -> Floats:
        return float32((nodes - 1) * self.step + (self.step - 1) / 2)


def thin_plate(points: Floats, values: Floats, queries: Floats, smoothing: float = 1e-5) -> Floats:
    """Thin-plate spline through `values` [k, m] at `points` [k, 2], evaluated at `queries` [n, 2]: [n, m].

    Bookstein, Principal Warps (1989). Positions should be of order 1.
    """
    count = len(points)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = radial(points, points) + smoothing * np.eye(count)
    system[:count, count:] = affine(points)
    system[count:, :count] = affine(points).T
    right = np.zeros((count + 3, values.shape[1]))
    right[:count] = values
    coefficients = np.linalg.solve(system, right).astype(np.float32)
    found = np.empty((len(queries), values.shape[1]), np.float32)
    for start in range(0, len(queries), 4096):
        part = queries[start : start + 4096]
        basis = np.hstack([radial(part, points), affine(part)]).astype(np.float32)
        found[start : start + 4096] = basis @ coefficients
    return found


def affine(points: Floats) -> Floats:
    return np.hstack([np.ones((len(points), 1), np.float32), points])


def radial(a: Floats, b: Floats) -> Floats:
    """r² log r² of all pairs."""
    squared = ((a[:, None, :] - b[None, :, :]) ** 2).sum(-1)
    return float32(squared * np.log(np.maximum(squared, 1e-12)))


def smoothstep(low: float, high: float, x: Floats) -> Floats:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    return float32(t * t * (3 - 2 * t))


ROUNDS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0)
"""Share of the flow in each round of `invert`."""


def invert(target: Floats, flow: Floats) -> Floats:
    """Where a forward flow comes from: positions p with p + flow(p) = `target`, all in units of the flow's nodes.

    Newton with the diagonal of the Jacobian: lids and lips stretch the skin too much for plain fixed-point iteration,
    and the flow is turned up round by round, since from too far away Newton jumps to and fro.
    """
    both = np.dstack([flow, np.gradient(flow[..., 0], axis=1), np.gradient(flow[..., 1], axis=0)]).astype(np.float32)
    found = target.copy()
    for share in ROUNDS:
        there = sampled(both, found) * np.float32(share)
        found -= (found + there[..., :2] - target) / np.clip(1 + there[..., 2:], 0.35, 3.0)
    return found
