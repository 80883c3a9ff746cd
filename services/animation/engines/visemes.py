"""Faces from phonemes by rule: no weights, a fraction of a millisecond a frame."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from services.animation.blendshapes import BLENDSHAPES
from services.animation.engine import Advance, AnimationConfig, Frame, Input, Interrupt, Speech
from services.animation.life import STYLES
from services.animation.performance import Performance
from services.animation.shapes import PHONEMES
from services.runtime.errors import NotFound
from services.runtime.options import of_engine

BREATHER = 4
"""Frames after which other streams get a turn of the event loop."""
MANY = 400
"""Phonemes of a clause that are too many to be taken in on the event loop: more than a millisecond or two."""


class Options(BaseModel):
    """What a catalog entry may say."""

    model_config = ConfigDict(extra="forbid")

    style: str = "natural"


class VisemeEngine:
    """Implements AnimationEngine."""

    def __init__(self, source: Path | None, options: Mapping[str, Any]) -> None:
        """Raises InvalidInput for an option it does not know, NotFound for an unknown style."""
        self._options = of_engine(Options, options)
        if self._options.style not in STYLES:
            raise NotFound("style", self._options.style, STYLES)

    @property
    def blendshape_names(self) -> Sequence[str]:
        return BLENDSHAPES

    @property
    def phonemes(self) -> Sequence[str]:
        return tuple(PHONEMES)

    @property
    def styles(self) -> Sequence[str]:
        return tuple(STYLES)

    @property
    def default_style(self) -> str:
        return self._options.style

    async def load(self) -> None:
        """Nothing to load: the tables came with the code."""

    async def unload(self) -> None:
        """Nothing to give back."""

    async def animate(self, config: AnimationConfig, inputs: AsyncIterator[Input]) -> AsyncGenerator[Frame, None]:
        performance = Performance(config)
        async for given in inputs:
            match given:
                case Interrupt():
                    performance.cut(given)
                case Advance(until):
                    for count, frame in enumerate(performance.frames(until), 1):
                        yield frame
                        if count % BREATHER == 0:
                            await asyncio.sleep(0)
                case Speech() if len(given.phonemes) > MANY:
                    await asyncio.to_thread(performance.add, given)
                case _:
                    performance.add(given)
