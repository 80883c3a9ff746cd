"""The voices of the catalog, loaded once, and a way to hear them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from services.runtime import sources
from services.runtime.settings import CATALOG_FOLDER, read_catalog
from services.tts.engine import Audio, Clause, Expression, Samples, Speech, SynthesisConfig, TtsEngine
from services.tts.servicer import SERVICE

CATALOG = read_catalog(CATALOG_FOLDER / "tts.json")


@dataclass(frozen=True)
class Heard:
    """What a clause has become."""

    parts: list[Speech]
    audio: Samples
    rate_hz: int

    @property
    def voiced(self) -> Samples:
        """The audio of all phonemes, without the silences."""
        runs, offset = [], 0
        for part in self.parts:
            runs += [self.audio[offset + s.start : offset + s.end] for s in part.phonemes if s.phoneme]
            offset += part.samples
        return np.concatenate(runs)


def open_voice(name: str, **options: Any) -> TtsEngine:
    spec = CATALOG[name].model_copy(update={"options": {**CATALOG[name].options, **options}})
    engine: TtsEngine = SERVICE.engine(spec, sources.resolve(spec.source))
    asyncio.run(engine.load())
    return engine


@pytest.fixture(scope="session", params=list(CATALOG))
def voice(request: pytest.FixtureRequest) -> Iterator[TtsEngine]:
    """Each voice as the catalog has it."""
    engine = open_voice(request.param)
    yield engine
    asyncio.run(engine.unload())


@pytest.fixture(scope="session", params=list(CATALOG))
def even_voice(request: pytest.FixtureRequest) -> Iterator[TtsEngine]:
    """Each voice without chance in it, to measure with."""
    options = {"noise_scale": 0.0, "noise_w": 0.0} if CATALOG[request.param].engine == "vits" else {}
    engine = open_voice(request.param, **options)
    yield engine
    asyncio.run(engine.unload())


Say = Callable[..., Heard]


@pytest.fixture(scope="session")
def say() -> Say:
    """say(engine, text, expression, speaking_rate): one clause, all of it."""

    async def spoken(engine: TtsEngine, clause: Clause, config: SynthesisConfig) -> Heard:
        async def clauses() -> AsyncGenerator[Clause, None]:
            yield clause

        parts, audio = [], [np.zeros(0, np.float32)]
        async with aclosing(engine.synthesize(config, clauses())) as given:
            async for part in given:
                if isinstance(part, Speech):
                    parts.append(part)
                elif isinstance(part, Audio):
                    audio.append(part.samples)
        return Heard(parts, np.concatenate(audio), engine.sample_rate_hz)

    def say(engine: TtsEngine, text: str, expression: Expression | None = None, speaking_rate: float = 1.0) -> Heard:
        clause = Clause(0, text, expression or Expression())
        return asyncio.run(spoken(engine, clause, SynthesisConfig(speaking_rate=speaking_rate)))

    return say
