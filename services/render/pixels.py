"""The few picture operations that frames are made of, typed. All are OpenCV's."""

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""[h, w, channels], BGR or BGRA."""
Floats = NDArray[np.float32]
Pixels = TypeVar("Pixels", Image, Floats)

# OpenCV's stubs know neither element types nor that one map may carry both coordinates.
cv: Any = cv2
# One stream is one thread's work: several at a time share the cores better than one frame could.
cv2.setNumThreads(1)


def floats(*values: float) -> Floats:
    return np.array(values, np.float32)


def float32(values: NDArray[Any]) -> Floats:
    found: Floats = np.asarray(values, np.float32)
    return found


def sampled(image: Pixels, maps: Floats, cubic: bool = False) -> Pixels:
    """`image` at the pixel positions `maps` [h, w, 2] (x, y); its rim goes on for ever."""
    kind = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    found: Pixels = cv.remap(image, maps, None, kind, borderMode=cv2.BORDER_REPLICATE)
    return found


def enlarged(values: Floats, step: int) -> Floats:
    """`values` with every cell `step` x `step` times, linear between their middles."""
    h, w = values.shape[:2]
    found: Floats = cv.resize(values, (w * step, h * step), interpolation=cv2.INTER_LINEAR)
    return found


def add_scaled(total: Floats, values: Floats, factor: float) -> None:
    """Add `values` times `factor` to `total`."""
    cv.scaleAdd(values, factor, total, total)


def mixed(below: Image, above: Image, share: Floats) -> Image:
    """`above` where `share` [h, w] is 1, `below` where it is 0."""
    found: Image = cv.blendLinear(np.ascontiguousarray(above), np.ascontiguousarray(below), share, 1 - share)
    return found


def over(matte: Image, background: Image) -> Image:
    """`matte` (BGRA, premultiplied) before `background` (BGR)."""
    clear = cv.bitwise_not(matte[..., 3])
    behind = cv.multiply(background, cv.merge([clear, clear, clear]), scale=1 / 255)
    found: Image = cv.add(cv.cvtColor(matte, cv2.COLOR_BGRA2BGR), behind)
    return found


def lit(image: Image, light: Floats) -> Image:
    """`image` times `light` [h, w]."""
    found: Image = cv.multiply(image, cv.merge([light, light, light]), dtype=cv2.CV_8U)
    return found


def blurred(values: Floats, sigma: float) -> Floats:
    found: Floats = cv.GaussianBlur(values, (0, 0), sigma)
    return found


def dilated(values: Floats, pixels: int) -> Floats:
    found: Floats = cv.dilate(values, np.ones((pixels, pixels), np.uint8))
    return found


def grey(image: Image) -> Floats:
    """Luminance of BGR, [h, w]."""
    found: Floats = cv.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_BGR2GRAY).astype(np.float32)
    return found


def premultiplied(image: Image) -> Image:
    """Straight alpha to premultiplied."""
    values = image.astype(np.float32)
    values[..., :3] *= values[..., 3:] / 255
    return rounded(values)


def rounded(values: NDArray[Any]) -> Image:
    found: Image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return found
