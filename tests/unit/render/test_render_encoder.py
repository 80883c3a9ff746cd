"""One picture in, one access unit out, and a decoder agrees."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from services.render.encoder import AccessUnit, H264Encoder
from services.render.pixels import Image
from services.runtime.errors import InvalidInput

SIZE = 128
IDR, SPS, PPS = 5, 7, 8


def picture(step: int) -> Image:
    """A disc that wanders over a coloured ground."""
    image = np.full((SIZE, SIZE, 3), (200, 90, 40), np.uint8)
    cv2.circle(image, (20 + 3 * step % 90, 64), 16, (30, 60, 220), -1)
    return image


def encoded(count: int, asked: tuple[int, ...] = ()) -> list[AccessUnit]:
    encoder = H264Encoder(SIZE, SIZE, Fraction(25))
    return [encoder.encode(picture(step), step in asked) for step in range(count)]


def decoded(units: list[AccessUnit]) -> list[av.VideoFrame]:
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for unit in units for frame in decoder.decode(av.Packet(unit.data))]
    return frames + decoder.decode(None)


def nal_types(data: bytes) -> list[int]:
    return [part[0] & 31 for part in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]]


def test_every_picture_comes_back_at_once_and_decodes() -> None:
    units = encoded(60)
    frames = decoded(units)
    assert len(units) == len(frames) == 60
    for step, frame in enumerate(frames):
        difference = np.abs(frame.to_ndarray(format="bgr24").astype(int) - picture(step))
        assert difference.mean() < 4


def test_keyframes_come_every_two_seconds_with_their_parameter_sets() -> None:
    units = encoded(120)
    assert [step for step, unit in enumerate(units) if unit.keyframe] == [0, 50, 100]
    for unit in units:
        assert unit.keyframe == ({IDR, SPS, PPS} <= set(nal_types(unit.data)))


def test_a_keyframe_comes_when_asked_and_a_new_viewer_can_start_there() -> None:
    units = encoded(20, asked=(7,))
    assert [step for step, unit in enumerate(units) if unit.keyframe] == [0, 7]
    assert len(decoded(units[7:])) == 13


def test_colours_are_tagged_as_they_are_coded() -> None:
    frame = decoded(encoded(1))[0]
    assert (frame.width, frame.height, frame.format.name) == (SIZE, SIZE, "yuv420p")
    assert (frame.colorspace, frame.color_range) == (1, 1)


@pytest.mark.parametrize("size", [(127, 128), (128, 0), (-2, 128)])
def test_sizes_that_h264_has_not_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match="size"):
        H264Encoder(*size, Fraction(25))


@pytest.mark.parametrize("crf", [0, 52])
def test_a_rate_factor_out_of_range_is_refused(crf: int) -> None:
    with pytest.raises(InvalidInput, match="crf"):
        H264Encoder(SIZE, SIZE, Fraction(25), crf)


def test_a_picture_of_another_size_is_a_defect() -> None:
    with pytest.raises(ValueError, match="64"):
        H264Encoder(SIZE, SIZE, Fraction(25)).encode(np.zeros((64, 64, 3), np.uint8))
