"""The golden input of the render service, with an engine that encodes pictures of a known kind."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from services.render import servicer
from services.render.encoder import H264Encoder
from services.render.engine import FaceFrame, Input, RenderConfig, VideoFrame
from services.render.servicer import SERVICE
from services.runtime.errors import LoadFailed

SIZE = 128
Picture = NDArray[np.uint8]
Drawn = Callable[[float], Picture]
Sent = Callable[[list[VideoFrame]], list[VideoFrame]]


def board(opened: float) -> Picture:
    """A chess board; the more a mouth is open, the larger the grey square in its middle."""
    rows, columns = np.indices((SIZE, SIZE)) // 16
    picture = np.repeat((40 + 170 * ((rows + columns) % 2))[..., None], 3, axis=2).astype(np.uint8)
    reach = round(30 * opened)
    picture[SIZE // 2 - reach : SIZE // 2 + reach, SIZE // 2 - reach : SIZE // 2 + reach] = 128
    return picture


def flat(opened: float) -> Picture:
    return np.full((SIZE, SIZE, 3), round(128 + 60 * opened), np.uint8)


class Painter:
    """Encodes what `draw` makes of the jaw's weight, and sends what `send` makes of that."""

    portraits = ("mei", "leo")
    sizes = (SIZE, 256)

    def __init__(self, draw: Drawn = board, send: Sent = lambda frames: frames, jaw: str = "jawOpen") -> None:
        self.draw = draw
        self.send = send
        self.blendshape_names = ("cheekPuff", jaw)
        self.config: RenderConfig | None = None

    async def load(self) -> None: ...

    async def unload(self) -> None: ...

    async def prepare(self, config: RenderConfig) -> None: ...

    async def render(self, config: RenderConfig, inputs: AsyncIterator[Input]) -> AsyncGenerator[VideoFrame, None]:
        self.config = config
        encoder, drawn = H264Encoder(SIZE, SIZE, Fraction(25)), []
        async for face in inputs:
            assert isinstance(face, FaceFrame)
            unit = encoder.encode(self.draw(float(face.weights[1])))
            drawn.append(VideoFrame("", 0, face.start_sample, unit.data, unit.keyframe, 0.0))
        for frame in self.send(drawn):
            yield frame


def undecodable(frames: list[VideoFrame]) -> list[VideoFrame]:
    return [VideoFrame("", 0, 0, b"no picture at all", True, 0.0) for _ in frames]


async def measured(engine: Painter) -> dict[str, str | float]:
    assert SERVICE.measure
    return {**await SERVICE.measure(engine)}


async def test_a_face_is_drawn_at_rest_and_with_its_mouth_open() -> None:
    engine = Painter()
    found = await measured(engine)
    # Half of the board is 85 above its mean, half 85 below; the square, 42 wide, takes away just that.
    assert found == {"size": SIZE, "contrast": pytest.approx(85, abs=1), "motion": pytest.approx(9.2, abs=1)}
    assert engine.config == RenderConfig("mei", SIZE, ("cheekPuff", "jawOpen"))


async def test_a_face_with_other_names_moves_all_it_has() -> None:
    assert float((await measured(Painter(jaw="schnabel")))["motion"]) > 1


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        (Painter(flat), r"contrast is 0\.\d+, at least 4 is sound"),
        (Painter(lambda _: board(0.0)), r"motion is 0\.000, at least 0\.02 is sound"),
        (Painter(send=lambda frames: frames[:1]), "two faces became 1 pictures"),
        (Painter(send=lambda frames: []), "two faces became 0 pictures"),
        (Painter(send=lambda frames: frames[::-1]), "2 beginning with a keyframe are sound"),
        (Painter(send=undecodable), "can be decoded|were decoded to 0 pictures"),
    ],
)
async def test_pictures_of_no_sound_model_are_refused(engine: Painter, told: str) -> None:
    with pytest.raises(LoadFailed, match=told):
        await measured(engine)


async def test_pictures_of_another_size_are_refused() -> None:
    engine = Painter()
    engine.sizes = (256, SIZE)
    with pytest.raises(LoadFailed, match="size is 128 x 128, 256 x 256 was asked for"):
        await measured(engine)


def test_the_interface_tells_what_can_be_drawn_and_the_ends_of_the_rates_taken() -> None:
    told = SERVICE.interface(Painter())
    assert told.sample_rates_hz == (servicer.RATES_HZ[0], servicer.RATES_HZ[-1])
    assert (told.sizes, told.portraits) == ((SIZE, 256), ("mei", "leo"))
    assert told.blendshape_names == ("cheekPuff", "jawOpen")
