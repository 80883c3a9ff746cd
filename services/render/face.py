"""Everything that is computed once for a portrait at a size, shared by all its streams and never changed after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.render.eyes import Eyeball, GazeUnits, build_eyeball, gaze_units
from services.render.fields import Grid, smoothstep
from services.render.landmarks import CHIN, FOREHEAD, INNER_LOWER_LIP, INNER_UPPER_LIP, UPPER_LIDS
from services.render.layers import HOLE_OUTER, Layers, build_layers, hole_ellipses
from services.render.mouth import MouthInterior, build_interior
from services.render.pixels import Floats, Image, floats, over, premultiplied, sampled
from services.render.portrait import Portrait
from services.render.pose import Pose
from services.render.sheets import SheetMasks, lid_seam, lip_seam, sheet_masks

JAW = ("jawOpen", "jawLeft", "jawRight", "jawForward")


@dataclass(frozen=True)
class Key:
    """A key picture: how it is reached from the neutral one, and where it may replace it."""

    picture: Image
    """BGR, [size, size, 3]."""
    flow: tuple[Floats, Floats]
    """Displacement in nodes from neutral to the key, of the upper and the lower sheet, [h, w, 2] on the layers' window."""
    region: Floats
    """0 to 1 at every pixel of the neutral portrait."""
    parts: Sequence["Part"]
    """Around the parts of the region: one, or one an eye in the order of UPPER_LIDS."""


@dataclass(frozen=True)
class Part:
    """A part of the face, by its rim: the mouth, an eye, the region of a key picture."""

    rim: Floats
    """Node positions around it in the neutral portrait, in the window of the layers, [n, 1, 2]."""
    reach: Floats
    """How the rim moves with each unit, in nodes, [units, 2 n, 2]: with the upper sheet, then with the lower."""


@dataclass(frozen=True)
class Face:
    portrait: Portrait
    grid: Grid
    layers: Layers
    pose: Pose
    masks: SheetMasks
    matte: Image
    """The neutral picture, BGR premultiplied, with alpha."""
    still: Image
    """The neutral picture over its background, BGR."""
    keys: Mapping[str, Key]
    mouth: Part
    eyes: Mapping[str, Part]
    interior: MouthInterior
    eyeballs: Mapping[str, Eyeball]
    jaw: Floats
    """Displacement in pixels of the lower teeth by each unit, [units, 2]."""
    lip_gap: Floats
    """How far each unit parts the inner lips in their middle, in pixels, [units]."""
    open_units: Floats
    """The weights of the "open" key, [units]."""
    gaze_units: Mapping[str, GazeUnits]

    @property
    def open_gap(self) -> float:
        """How far the "open" key parts the inner lips, in pixels."""
        return float(self.open_units @ self.lip_gap)

    def weights(self, named: Mapping[str, float]) -> Floats:
        return np.array([named.get(name, 0.0) for name in self.portrait.unit_names], np.float32)


def build_face(portrait: Portrait) -> Face:
    """Prepare `portrait` for drawing; takes one or two seconds."""
    grid = Grid(portrait.size, next(step for step in (4, 2) if step == 2 or portrait.size >= 384))
    layers = build_layers(portrait, grid)
    lids = {side: lid_seam(portrait, side) for side in UPPER_LIDS}
    mouth, right, left = (
        part_of(layers, grid, centre, HOLE_OUTER * radii) for centre, radii in hole_ellipses(portrait.landmarks)
    )
    neutral = portrait.keys["neutral"]
    matte = premultiplied(neutral)
    jaw = np.zeros((len(portrait.unit_names), 2), np.float32)
    for name in JAW:
        unit = portrait.unit_names.index(name)
        jaw[unit] = 0.9 * portrait.units[unit, CHIN, :2]
    gap = portrait.units[:, INNER_LOWER_LIP[5], 1] - portrait.units[:, INNER_UPPER_LIP[5], 1]
    return Face(
        portrait=portrait,
        grid=grid,
        layers=layers,
        pose=Pose(portrait, grid),
        masks=sheet_masks(portrait.size, [lip_seam(portrait), *lids.values()]),
        matte=matte,
        still=over(matte, portrait.background),
        keys=build_keys(portrait, layers, grid),
        mouth=mouth,
        eyes={"Right": right, "Left": left},
        interior=build_interior(portrait, landmarks_of(portrait, "open")),
        eyeballs={side: build_eyeball(portrait, seam) for side, seam in lids.items()},
        jaw=jaw,
        lip_gap=gap,
        open_units=dialled(portrait, "open"),
        gaze_units={side: gaze_units(portrait.unit_names, side) for side in UPPER_LIDS},
    )


def landmarks_of(portrait: Portrait, key: str) -> Floats:
    """Where the landmarks lie in a key picture, [468, 2]."""
    moved: Floats = np.tensordot(dialled(portrait, key), portrait.units[..., :2], axes=1)
    return portrait.landmarks[:, :2] + moved


def dialled(portrait: Portrait, key: str) -> Floats:
    """The weights of a key, [units]."""
    weights = portrait.key_weights[key]
    return np.array([weights.get(name, 0.0) for name in portrait.unit_names], np.float32)


def build_keys(portrait: Portrait, layers: Layers, grid: Grid) -> dict[str, Key]:
    found = {}
    for name, ellipses in regions(portrait).items():
        picture = np.ascontiguousarray(portrait.keys[name][..., :3])
        region = np.maximum.reduce([inside(portrait.size, *ellipse) for ellipse in ellipses])
        parts = [part_of(layers, grid, *ellipse) for ellipse in ellipses]
        found[name] = Key(picture, layers.flow(dialled(portrait, name)), region, parts)
    return found


def regions(portrait: Portrait) -> dict[str, list[tuple[Floats, Floats]]]:
    """Centres and radii of where each key picture is trusted: mouth and chin, most of the face, the right and left eye."""
    marks = portrait.landmarks
    height = marks[CHIN, 1] - marks[FOREHEAD, 1]
    (mouth, _), *eyes = hole_ellipses(marks)
    jaw = mouth + floats(0, 0.06 * height)
    cheeks = floats(marks[CHIN, 0], marks[FOREHEAD, 1] + 0.62 * height)
    return {
        "open": [(jaw, floats(0.30, 0.27) * height)],
        "smile": [(cheeks, floats(0.40, 0.42) * height)],
        "blink": [(centre, 2.0 * radii) for centre, radii in eyes],
    }


def inside(size: int, centre: Floats, radii: Floats) -> Floats:
    """1 well inside an ellipse, 0 outside, at every pixel."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    distance = np.hypot((columns - centre[0]) / radii[0], (rows - centre[1]) / radii[1])
    return 1 - smoothstep(0.75, 1.0, distance)


def part_of(layers: Layers, grid: Grid, centre: Floats, radii: Floats) -> Part:
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    nodes = grid.to_nodes((centre + ring * radii).astype(np.float32))
    rim = (nodes - layers.window.origin)[:, None]
    units = np.eye(len(layers.upper), dtype=np.float32)
    reach = [np.concatenate([sampled(sheet, rim)[:, 0] for sheet in layers.flow(unit)]) for unit in units]
    return Part(rim, np.stack(reach))
