"""Whether an animation model is sound: what it knows, and whether the mouth opens for a vowel and closes for /p/."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from itertools import accumulate, pairwise

import numpy as np

from services.animation.engine import (
    Advance,
    AnimationConfig,
    AnimationEngine,
    Frame,
    Input,
    PhonemeSpan,
    Speech,
    SpeechAudio,
)
from services.runtime.errors import LoadFailed
from services.runtime.interface import Interface

LEAST_RATE_HZ, MOST_RATE_HZ = 8_000, 48_000
RATE_HZ = 24_000
FRAMES = 25
FRAME = RATE_HZ // FRAMES
CLOSURE, VOWEL = "p", "ɑ"
PLAN = (("", 5), (CLOSURE, 3), (VOWEL, 8), (CLOSURE, 3), ("", 6))
"""The second that is spoken: sounds, and how many frames each lasts."""
TONE_HZ = 160
JAW = "jawOpen"
SLACK = 1e-6


def interface(engine: AnimationEngine) -> Interface:
    """Rates are [least, most]: a clock of every rate between them is taken."""
    return Interface(
        sample_rates_hz=(LEAST_RATE_HZ, MOST_RATE_HZ),
        phonemes=tuple(engine.phonemes),
        blendshape_names=tuple(engine.blendshape_names),
        styles=tuple(engine.styles),
    )


async def measure(engine: AnimationEngine) -> Mapping[str, str | float]:
    """Say /pɑp/ in a second of 25 frames; an engine that does not know these phonemes hears a tone in place of the vowel.

    frames          made
    jaw_open_vowel  weight of jawOpen where the vowel is, at its widest
    closure         the same where the first /p/ is, at its narrowest

    Raises LoadFailed for a wrong number of frames or weights, weights that are not from 0 to 1, and a jaw that is not
    opened wider by the vowel than by the closure.
    """
    frames = await animated(engine)
    starts = [frame.start for frame in frames]
    if starts != list(range(0, FRAMES * FRAME, FRAME)):
        raise LoadFailed(f"golden input: frames is {len(frames)}, {FRAMES} that follow one another are sound")
    weights = checked(frames, len(engine.blendshape_names))
    if JAW not in engine.blendshape_names:
        raise LoadFailed(
            f"golden input: no blendshape {JAW!r} among {len(engine.blendshape_names)}, without it no face speaks"
        )
    jaw = weights[:, list(engine.blendshape_names).index(JAW)]
    closed, opened = (slice(start, end) for start, end in list(pairwise(starts_of_plan()))[1:3])
    vowel, closure = float(jaw[opened].max()), float(jaw[closed].min())
    if not vowel > closure:
        raise LoadFailed(f"golden input: jaw_open_vowel is {vowel:.3f}, more than closure ({closure:.3f}) is sound")
    return {
        "frames": len(frames),
        "jaw_open_vowel": round(vowel, 3),
        "closure": round(closure, 3),
    }


async def animated(engine: AnimationEngine) -> Sequence[Frame]:
    spoken = speech() if {CLOSURE, VOWEL} <= set(engine.phonemes) else tone()

    async def second() -> AsyncGenerator[Input, None]:
        yield spoken
        yield Advance(FRAMES * FRAME)

    config = AnimationConfig(RATE_HZ, style=engine.default_style)
    async with aclosing(engine.animate(config, second())) as frames:
        return [frame async for frame in frames]


def starts_of_plan() -> list[int]:
    """The frame at which each sound of the plan begins, and the one after the last."""
    return list(accumulate((frames for _, frames in PLAN), initial=0))


def speech() -> Speech:
    edges = [frame * FRAME for frame in starts_of_plan()]
    sounds = zip(PLAN, pairwise(edges), strict=True)
    spans = tuple(PhonemeSpan(phoneme, start, end) for (phoneme, _), (start, end) in sounds)
    return Speech("golden", 0, 0, edges[-1], spans)


def tone() -> SpeechAudio:
    """A tone where the vowel is in PLAN, silence elsewhere."""
    start, end = (frame * FRAME for frame in starts_of_plan()[2:4])
    samples = np.zeros(FRAMES * FRAME, np.float32)
    samples[start:end] = 0.4 * np.sin(2 * np.pi * TONE_HZ / RATE_HZ * np.arange(end - start))
    return SpeechAudio("golden", 0, 0, samples)


def checked(frames: Sequence[Frame], count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """All weights, shape [frames, blendshapes]. Raises LoadFailed for a wrong number of them, or one that is not 0 to 1."""
    for frame in frames:
        if len(frame.weights) != count:
            raise LoadFailed(
                f"golden input: a frame has {len(frame.weights)} weights, {count} is sound, one a blendshape"
            )
    weights = np.stack([frame.weights for frame in frames])
    # A comparison with NaN is false, so this finds those too.
    wrong = weights[~((weights >= -SLACK) & (weights <= 1 + SLACK))]
    if len(wrong):
        raise LoadFailed(f"golden input: a weight is {wrong[0]:g}, 0 to 1 is sound")
    return weights
