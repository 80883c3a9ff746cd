"""The warp engine: its options, its portraits, and streams that live side by side."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.render.engine import FaceFrame, Head, Input, KeyframeRequest, RenderConfig, VideoFrame
from services.render.engines.warp import WarpEngine
from services.runtime.errors import InvalidInput, LoadFailed, NotFound

NAMES = ("jawOpen", "eyeBlinkLeft")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sizes": []}, "options.sizes"),
        ({"sizes": [100]}, "options.sizes"),
        ({"crf": 0}, "options.crf"),
        ({"preset": "placebo"}, "options.preset"),
        ({"colour": "red"}, "options.colour"),
    ],
)
def test_a_bad_option_is_named(packs: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput) as error:
        WarpEngine(packs, options)
    assert error.value.field == named


def test_an_engine_needs_portraits() -> None:
    with pytest.raises(InvalidInput, match="source"):
        WarpEngine(None, {})


async def test_a_folder_without_the_default_portrait_does_not_load(packs: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="none"):
        await WarpEngine(tmp_path, {}).load()
    with pytest.raises(LoadFailed, match="leo, mei"):
        await WarpEngine(packs, {"portrait": "zoe"}).load()


@pytest.fixture
async def engine(packs: Path) -> AsyncGenerator[WarpEngine, None]:
    engine = WarpEngine(packs, {"portrait": "mei", "sizes": [128]})
    await engine.load()
    yield engine
    await engine.unload()


async def faces(weights: list[float], keyframes: tuple[int, ...] = ()) -> AsyncGenerator[Input, None]:
    for index, weight in enumerate(weights):
        if index in keyframes:
            yield KeyframeRequest()
        yield FaceFrame("turn", 3, index * 1920, np.array([weight, 0], np.float32), Head(yaw=weight))


async def drawn(engine: WarpEngine, portrait: str, inputs: AsyncGenerator[Input, None]) -> list[VideoFrame]:
    async with aclosing(engine.render(RenderConfig(portrait, 128, NAMES), inputs)) as pictures:
        return [picture async for picture in pictures]


async def test_each_face_becomes_one_picture_in_order(engine: WarpEngine) -> None:
    pictures = await drawn(engine, "mei", faces([0.1, 0.2, 0.3, 0.4], keyframes=(2,)))
    assert [picture.start_sample for picture in pictures] == [0, 1920, 3840, 5760]
    assert {(picture.turn_id, picture.generation) for picture in pictures} == {("turn", 3)}
    assert [picture.keyframe for picture in pictures] == [True, False, True, False]
    assert all(picture.render_ms > 0 for picture in pictures)


async def test_streams_do_not_touch_each_other(engine: WarpEngine) -> None:
    rising, falling = [0.0, 0.2, 0.4], [0.5, 0.3, 0.1]
    alone = [await drawn(engine, "mei", faces(rising)), await drawn(engine, "leo", faces(falling))]
    together = await asyncio.gather(drawn(engine, "mei", faces(rising)), drawn(engine, "leo", faces(falling)))
    assert [[p.data for p in pictures] for pictures in together] == [[p.data for p in pictures] for pictures in alone]


async def test_a_stream_that_goes_away_while_its_portrait_is_prepared_hurts_no_other(engine: WarpEngine) -> None:
    leaving = asyncio.create_task(drawn(engine, "leo", faces([0.1])))
    staying = asyncio.create_task(drawn(engine, "leo", faces([0.1])))
    await asyncio.sleep(0.01)
    leaving.cancel()
    assert len(await staying) == 1
    assert leaving.cancelled()


async def test_nothing_is_drawn_ahead_of_its_reader(engine: WarpEngine) -> None:
    taken = []

    async def watched() -> AsyncGenerator[Input, None]:
        async for item in faces([0.1] * 5):
            taken.append(item)
            yield item

    async with aclosing(engine.render(RenderConfig("mei", 128, NAMES), watched())) as pictures:
        await anext(pictures)
        await anext(pictures)
    assert len(taken) == 2


async def test_an_unknown_portrait_is_told_with_the_known_ones(engine: WarpEngine) -> None:
    with pytest.raises(NotFound, match="mei, leo"):
        await drawn(engine, "zoe", faces([0.1]))
