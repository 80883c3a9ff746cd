"""Draws a portrait with a given expression and head pose: layered image warping with numpy and OpenCV alone.

Two sheets of skin are carried by the blendshapes; where they part, the mouth's inside or an eyeball shows. What warping
cannot invent (closed lids, parted lips, a smile's folds) is cross-faded from key pictures, which the same flow carries
into place. Head and face flows are composed on a coarse grid, so every pixel is resampled once.
"""

from collections.abc import Sequence

import numpy as np

from services.render.bending import SKULL, Bending
from services.render.engine import Head
from services.render.eyes import gaze
from services.render.face import Face
from services.render.layers import LOWER, UPPER, Window
from services.render.pixels import Floats, Image, blurred, float32, floats, lit, mixed, over, sampled
from services.render.pose import drawable
from services.render.presence import SIDES, Presence

SHADE_SIGMA = 0.006
"""How deep lips shade the mouth, as a fraction of the picture's width."""
TEETH_LIFT = 0.012
"""How much of the teeth pursed lips hide, as a fraction of the picture's width: they stand out before them."""
Shares = Sequence[tuple[str, float]]
"""Key pictures, the undermost first, and how much of each is shown."""


class WarpRenderer:
    """One stream's view of a shared face. Not for two threads at once."""

    def __init__(self, face: Face, blendshape_names: Sequence[str]) -> None:
        """`blendshape_names` gives the order of the weights; every one must be a unit of the portrait."""
        self._face = face
        order = {name: unit for unit, name in enumerate(face.portrait.unit_names)}
        self._units = np.array([order[name] for name in blendshape_names], np.intp)

    def draw(self, weights: Floats, head: Head) -> Image:
        """A picture, BGR [size, size, 3]. `weights` are in the order of the names given at the start.

        A head that is turned or moved too far for one picture is drawn as far as it goes (see `pose.drawable`).
        """
        units = np.zeros(len(self._face.portrait.unit_names), np.float32)
        units[self._units] = weights
        return Drawing(self._face, units, drawable(head)).draw()


class Drawing:
    """One picture in the making."""

    def __init__(self, face: Face, units: Floats, head: Head) -> None:
        self._face = face
        self._units = units
        self._bending = Bending(face, units, head)
        self._presence = Presence(face, units)
        self._canvas = face.still.copy()

    def draw(self) -> Image:
        self._draw_upper()
        for name, part, share in self._upper_keys():
            window = self._bending.around(self._face.keys[name].parts[part])
            place = self._bending.place(window)
            self._canvas[place] = self._with_keys(self._canvas[place], UPPER, window, [(name, share)])
        for side in SIDES:
            self._draw_eye(side)
        self._draw_mouth()
        return self._canvas

    def _draw_upper(self) -> None:
        """The whole moving part of the picture as the upper sheet shows it."""
        bending, face = self._bending, self._face
        place = bending.place(bending.window)
        matte = sampled(face.matte, bending.maps(UPPER, bending.window), cubic=True)
        self._canvas[place] = over(matte, np.ascontiguousarray(face.portrait.background[place]))

    def _upper_keys(self) -> list[tuple[str, int, float]]:
        """What replaces the upper sheet, and where: key, part, share."""
        presence = self._presence
        found = [("open", 0, presence.opened), ("smile", 0, presence.smiling)]
        found += [("blink", eye, presence.blinking(side, UPPER)) for eye, side in enumerate(SIDES)]
        return [(name, part, share) for name, part, share in found if share > 0]

    def _with_keys(self, skin: Image, sheet: int, window: Window, shares: Shares) -> Image:
        """`skin`, which shows one sheet of the neutral picture in `window`, with keys faded in."""
        bending = self._bending
        maps = bending.maps(sheet, window)
        for name, share in shares:
            if share > 0:
                key = self._face.keys[name]
                picture = sampled(key.picture, bending.maps_in_key(key, sheet, window), cubic=True)
                skin = mixed(skin, picture, sampled(key.region, maps) * np.float32(share))
        return skin

    def _draw_eye(self, side: str) -> None:
        bending, ball = self._bending, self._face.eyeballs[side]
        window = bending.eyes[side]
        look = gaze(self._units, self._face.gaze_units[side]) * self._face.portrait.size
        inside = sampled(ball.texture, bending.maps(SKULL, window) - ball.origin - look, cubic=True)
        inside = lit(inside, sampled(ball.shade, bending.maps(UPPER, window) - ball.origin))
        gap, skin = self._lower_skin(window, [("blink", self._presence.blinking(side, LOWER))])
        self._close(window, mixed(skin, inside, gap), self._cover(window))

    def _draw_mouth(self) -> None:
        face, bending, pursed = self._face, self._bending, self._presence.pursed
        size = face.portrait.size
        window = bending.mouth
        skull = bending.maps(SKULL, window) - face.interior.origin
        lift = floats(0, TEETH_LIFT * size * pursed)
        jaw = float32((self._units - face.open_units) @ face.jaw + lift / 2)
        inside = sampled(face.interior.jaw, skull - jaw, cubic=True)
        inside = over(sampled(face.interior.teeth, skull + lift, cubic=True), inside)
        gap, skin = self._lower_skin(window, [("open", self._presence.opened), ("smile", self._presence.smiling)])
        cover = self._cover(window)
        seen = gap * (1 - cover)
        light = np.minimum(blurred(seen, SHADE_SIGMA * size) * 1.3 + 0.3, 1) * np.float32(1 - 0.25 * pursed)
        self._close(window, mixed(skin, lit(inside, light), gap), cover)

    def _lower_skin(self, window: Window, shares: Shares) -> tuple[Floats, Image]:
        """Where the lower sheet is not, 0 to 1, and what it shows."""
        maps = self._bending.maps(LOWER, window)
        skin = self._with_keys(sampled(self._face.still, maps, cubic=True), LOWER, window, shares)
        return 1 - sampled(self._face.masks.lower, maps), skin

    def _cover(self, window: Window) -> Floats:
        """Where the upper sheet is, 0 to 1."""
        return sampled(self._face.masks.upper, self._bending.maps(UPPER, window))

    def _close(self, window: Window, below: Image, cover: Floats) -> None:
        """Lay the upper sheet over what is below it."""
        place = self._bending.place(window)
        self._canvas[place] = mixed(below, self._canvas[place], cover)
