"""The golden input of the animation service: the real engine, by phonemes and by audio, and faces that are broken."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from services.animation import servicer
from services.animation.engine import AnimationConfig, Frame, Input, Speech, SpeechAudio
from services.animation.engines.visemes import VisemeEngine
from services.animation.servicer import SERVICE
from services.animation.shapes import Weights
from services.runtime.errors import LoadFailed

Change = Callable[[Sequence[Frame]], Sequence[Frame]]


class Changed(VisemeEngine):
    """The real engine, its frames changed before they are given."""

    known: Sequence[str] = ("p", "ɑ")
    names: Sequence[str] | None = None

    def __init__(self, change: Change = lambda frames: frames) -> None:
        super().__init__(None, {})
        self.change = change
        self.given: list[Input] = []

    @property
    def phonemes(self) -> Sequence[str]:
        return self.known

    @property
    def blendshape_names(self) -> Sequence[str]:
        return self.names or super().blendshape_names

    async def animate(self, config: AnimationConfig, inputs: AsyncIterator[Input]) -> AsyncGenerator[Frame, None]:
        async def noted() -> AsyncGenerator[Input, None]:
            async for given in inputs:
                self.given.append(given)
                yield given

        frames = [frame async for frame in super().animate(config, noted())]
        for frame in self.change(frames):
            yield frame


def reweighted(change: Callable[[Weights], Weights]) -> Change:
    return lambda frames: [replace(frame, weights=change(frame.weights.copy())) for frame in frames]


def spoilt(value: float) -> Callable[[Weights], Weights]:
    def change(weights: Weights) -> Weights:
        weights[7] = value
        return weights

    return change


async def measured(engine: VisemeEngine) -> dict[str, str | float]:
    assert SERVICE.measure
    return {**await SERVICE.measure(engine)}


async def test_the_mouth_opens_for_a_vowel_and_closes_for_a_plosive() -> None:
    engine = Changed()
    found = await measured(engine)
    assert list(found) == ["frames", "jaw_open_vowel", "closure"]
    assert found["frames"] == 25
    assert float(found["jaw_open_vowel"]) > float(found["closure"]) + 0.2
    assert [type(given).__name__ for given in engine.given] == ["Speech", "Advance"]
    assert found == await measured(Changed())


async def test_an_engine_that_knows_no_phonemes_hears_a_tone() -> None:
    engine = Changed()
    engine.known = ()
    found = await measured(engine)
    assert isinstance(engine.given[0], SpeechAudio)
    assert not isinstance(engine.given[0], Speech)
    assert float(found["jaw_open_vowel"]) > float(found["closure"]) + 0.05


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (reweighted(np.zeros_like), r"jaw_open_vowel is 0\.000, more than closure \(0\.000\) is sound"),
        (lambda frames: frames[::-1], "frames is 25, 25 that follow one another"),
        (lambda frames: frames[:-1], "frames is 24, 25 that follow one another"),
        (lambda frames: (), "frames is 0, 25 that follow one another"),
        (reweighted(spoilt(float("nan"))), "a weight is nan, 0 to 1 is sound"),
        (reweighted(spoilt(1.2)), r"a weight is 1\.2, 0 to 1 is sound"),
        (reweighted(spoilt(-0.2)), r"a weight is -0\.2, 0 to 1 is sound"),
        (reweighted(lambda weights: weights[:-1]), "a frame has 51 weights, 52 is sound"),
    ],
)
async def test_a_face_that_no_sound_model_makes_is_refused(change: Change, told: str) -> None:
    with pytest.raises(LoadFailed, match=told):
        await measured(Changed(change))


async def test_a_face_without_a_jaw_is_refused() -> None:
    engine = Changed()
    engine.names = [f"shape{index}" for index in range(52)]
    with pytest.raises(LoadFailed, match="no blendshape 'jawOpen' among 52"):
        await measured(engine)


def test_the_interface_tells_what_the_engine_knows_and_the_ends_of_the_rates_taken() -> None:
    told = SERVICE.interface(Changed())
    assert told.sample_rates_hz == (servicer.RATES_HZ[0], servicer.RATES_HZ[-1])
    assert told.phonemes == ("p", "ɑ")
    assert (len(told.blendshape_names), set(told.styles)) == (52, {"natural", "calm", "lively"})
