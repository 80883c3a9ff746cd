"""What a drawn face shows, measured in its pixels."""

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
import pytest

from services.render.engine import Head
from services.render.face import Face
from services.render.landmarks import INNER_LOWER_LIP, INNER_UPPER_LIP, LOWER_LIDS, UPPER_LIDS
from services.render.pixels import Floats, Image, float32, grey

Draw = Callable[..., Image]
EYES = ("Left", "Right")


def box(face: Face, ids: tuple[int, ...], grow: float) -> tuple[slice, slice]:
    points = face.portrait.landmarks[list(ids), :2]
    low, high = points.min(0), points.max(0)
    margin = (high - low) * grow
    (x0, y0), (x1, y1) = (low - margin).astype(int), (high + margin).astype(int) + 1
    return slice(y0, y1), slice(x0, x1)


def eye(face: Face, side: str, grow: float = 0.0) -> tuple[slice, slice]:
    return box(face, UPPER_LIDS[side] + LOWER_LIDS[side], grow)


def mouth(face: Face, down: float = 0.0) -> tuple[slice, slice]:
    rows, columns = box(face, INNER_UPPER_LIP + INNER_LOWER_LIP, 0.0)
    tall = round(down * (columns.stop - columns.start))
    return slice(rows.start - 2, rows.stop + 2 + tall), columns


def redness(image: Image) -> Floats:
    """How far a pixel is from the white and black of teeth and cavity, towards lips and skin."""
    values = image.astype(np.float32)
    return values[..., 2] - values[..., 0]


def opening(face: Face, image: Image) -> int:
    """Pixels inside the mouth that are neither lip nor skin."""
    return int((redness(image[mouth(face, down=0.6)]) < 25).sum())


def white(face: Face, image: Image, side: str) -> int:
    """Pixels of an eye that are as light as its white and as colourless."""
    values = image[eye(face, side)].astype(np.float32)
    return int(((values.min(-1) > 120) & (values.max(-1) - values.min(-1) < 30)).sum())


def iris_centre(face: Face, image: Image, side: str) -> Floats:
    """Mean position (x, y) of the dark pixels of an eye."""
    rows, columns = np.nonzero(grey(image[eye(face, side)]) < 60)
    return np.array([columns.mean(), rows.mean()], np.float32)


def changed(a: Image, b: Image) -> Floats:
    return float32(np.abs(a.astype(np.float32) - b).max(-1))


def test_rest_is_the_portrait(face: Face, draw: Draw) -> None:
    difference = changed(draw(), face.still)
    assert difference.mean() < 0.3
    assert (difference > 24).sum() < 60


def test_no_weight_opens_nothing(face: Face, draw: Draw) -> None:
    assert opening(face, draw()) == 0


def test_an_opening_jaw_opens_the_mouth_further_and_further(face: Face, draw: Draw) -> None:
    openings = [opening(face, draw(jawOpen=weight)) for weight in (0.0, 0.15, 0.3, 0.45, 0.6)]
    assert openings == sorted(openings)
    assert openings[-1] > 0.1 * (face.portrait.size / 8) ** 2
    assert openings[1] > 0


@pytest.mark.parametrize("press", [0.0, 0.3, 0.6])
def test_lips_that_press_while_the_jaw_drops_stay_shut(face: Face, draw: Draw, press: float) -> None:
    closed = draw(jawOpen=0.12, mouthClose=0.12, mouthPressLeft=press, mouthPressRight=press)
    assert opening(face, closed) <= 3


def test_the_open_key_is_reached_exactly(face: Face, draw: Draw) -> None:
    opened = draw(**face.portrait.key_weights["open"])
    key = face.portrait.keys["open"][..., :3]
    part = mouth(face, down=0.6)
    assert changed(opened[part], key[part]).mean() < 6


def test_the_blink_key_is_reached_exactly(face: Face, draw: Draw) -> None:
    closed = draw(**face.portrait.key_weights["blink"])
    key = face.portrait.keys["blink"][..., :3]
    for side in EYES:
        part = eye(face, side, grow=0.3)
        assert changed(closed[part], key[part]).mean() < 3


@pytest.mark.parametrize("side", EYES)
def test_each_eye_closes_by_itself(face: Face, draw: Draw, side: str) -> None:
    other = EYES[1 - EYES.index(side)]
    rest, wink = draw(), draw(**{f"eyeBlink{side}": 1.0})
    assert white(face, rest, side) > 10
    assert white(face, wink, side) == 0
    assert changed(rest[eye(face, other)], wink[eye(face, other)]).max() <= 2


@pytest.mark.parametrize(
    ("weights", "direction"),
    [
        ({"eyeLookOutLeft": 0.6, "eyeLookInRight": 0.6}, (1, 0)),
        ({"eyeLookInLeft": 0.6, "eyeLookOutRight": 0.6}, (-1, 0)),
        ({"eyeLookUpLeft": 0.6, "eyeLookUpRight": 0.6}, (0, -1)),
        ({"eyeLookDownLeft": 0.6, "eyeLookDownRight": 0.6}, (0, 1)),
    ],
)
def test_both_eyes_look_where_they_are_told(
    face: Face, draw: Draw, weights: dict[str, float], direction: tuple[int, int]
) -> None:
    rest, looking = draw(), draw(**weights)
    for side in EYES:
        moved = iris_centre(face, looking, side) - iris_centre(face, rest, side)
        assert moved @ np.array(direction) > 0.4


@pytest.mark.parametrize(
    ("head", "direction"),
    [
        (Head(yaw=8), (1, 0)),
        (Head(yaw=-8), (-1, 0)),
        (Head(pitch=6), (0, -1)),
        (Head(pitch=-6), (0, 1)),
        (Head(x=0.02), (1, 0)),
        (Head(y=0.02), (0, 1)),
        (Head(roll=5), (1, 0)),
        (Head(roll=-5), (-1, 0)),
    ],
)
def test_a_head_turns_the_way_it_is_told(face: Face, draw: Draw, head: Head, direction: tuple[int, int]) -> None:
    shift = shift_between(grey(draw())[nose(face)], grey(draw(head))[nose(face)])
    assert shift @ np.array(direction) > 1.0


def nose(face: Face) -> tuple[slice, slice]:
    x, y = face.portrait.landmarks[1, :2].astype(int)
    reach = face.portrait.size // 8
    return slice(y - reach, y + reach), slice(x - reach, x + reach)


def shift_between(a: Floats, b: Floats) -> Floats:
    window = cv2.createHanningWindow(a.shape[::-1], cv2.CV_32F)
    return np.array(cv2.phaseCorrelate(a, b, window)[0], np.float32)


def test_scale_makes_the_head_larger(face: Face, draw: Draw) -> None:
    def crown(image: Image) -> int:
        return int(np.flatnonzero((changed(image, face.portrait.background) > 40).any(1))[0])

    assert crown(draw(Head(scale=1.04))) < crown(draw()) - 3


def test_what_is_no_head_never_changes(face: Face, draw: Draw) -> None:
    size = face.portrait.size
    moved = draw(Head(yaw=8, pitch=4, roll=-4, x=0.02, y=0.01), jawOpen=0.6, mouthSmileLeft=0.4)
    backdrop = np.ones((size, size), bool)
    alpha = face.portrait.keys["neutral"][..., 3]
    around = round(0.12 * size)
    backdrop[cv2.dilate((alpha > 0).astype(np.uint8), np.ones((2 * around, 2 * around), np.uint8)) > 0] = False
    assert backdrop.sum() > 0.02 * size * size
    np.testing.assert_array_equal(moved[backdrop], face.portrait.background[backdrop])
    np.testing.assert_array_equal(moved[-size // 32 :], face.still[-size // 32 :])


SWEEPS: dict[str, dict[str, float]] = {
    "jaw": {"jawOpen": 0.7},
    "blink": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "smile": {"mouthSmileLeft": 0.5, "mouthSmileRight": 0.5, "cheekSquintLeft": 0.4, "cheekSquintRight": 0.4},
    "round": {"jawOpen": 0.3, "mouthFunnel": 0.6, "mouthPucker": 0.5},
    "gaze": {"eyeLookOutLeft": 0.8, "eyeLookInRight": 0.8},
    "brows": {"browInnerUp": 0.8, "browOuterUpLeft": 0.8, "browOuterUpRight": 0.8, "eyeWideLeft": 0.6},
}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_nothing_pops_when_a_weight_is_turned_up(draw: Draw, sweep: str) -> None:
    frames = [
        draw(Head(yaw=step * 0.2), **{name: weight * step / 20 for name, weight in SWEEPS[sweep].items()})
        for step in range(21)
    ]
    steps = [float(changed(a, b).mean()) for a, b in pairwise(frames)]
    assert max(steps) < 3.5 * np.median(steps)


def test_drawing_is_as_sharp_as_the_portrait(face: Face, draw: Draw) -> None:
    def sharpness(image: Image) -> float:
        size = len(image)
        return float(cv2.Laplacian(grey(image)[size // 8 : 3 * size // 4, size // 4 : 3 * size // 4], cv2.CV_32F).var())

    moved = draw(Head(yaw=2.3, pitch=1.2, roll=0.7, x=0.003, y=0.002), jawOpen=0.05, mouthSmileLeft=0.1)
    assert sharpness(moved) > 0.7 * sharpness(face.still)


def test_the_same_face_is_the_same_picture(draw: Draw) -> None:
    first = draw(Head(yaw=3), jawOpen=0.3)
    draw(Head(roll=4), mouthPucker=0.5)
    np.testing.assert_array_equal(draw(Head(yaw=3), jawOpen=0.3), first)


def test_extremes_are_drawn(face: Face, draw: Draw) -> None:
    for head in (Head(45, 45, 45, 0.5, 0.5, 2.0), Head(-45, -45, -45, -0.5, -0.5, 0.5)):
        assert draw(head, **dict.fromkeys(face.portrait.unit_names, 1.0)).shape == face.still.shape
