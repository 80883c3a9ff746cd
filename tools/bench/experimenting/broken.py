"""The TTS service with a voice that is well until it meets a user: `python -m tools.bench.experimenting.broken --listen …`.

It passes everything that is tried before a model serves: the greeting of its warm-up and the golden sentence. Every other
clause fails, or every so many of them.
"""

import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc

from services.runtime import host, settings
from services.runtime.engine import Identity
from services.runtime.engine_process import service_in
from services.tts import servicer
from services.tts.engine import Clause, Spoken, SynthesisConfig, TtsEngine
from services.tts.engines.hibari import HibariEngine
from services.tts.validation import SENTENCE

MODULE = "tools.bench.experimenting.broken"
KNOWN = (SENTENCE, "Hello, who are you?")


class Broken(RuntimeError):
    """What the voice fails with."""


class BrokenVoice(HibariEngine):
    """Options are those of a hibari voice, and `fails`: the share of clauses that fail."""

    def __init__(self, source: Path | None, options: Mapping[str, Any]) -> None:
        own = dict(options)
        self._fails = float(own.pop("fails", 1.0))
        super().__init__(source, own)

    async def synthesize(self, config: SynthesisConfig, clauses: AsyncIterator[Clause]) -> AsyncGenerator[Spoken, None]:
        async def checked() -> AsyncIterator[Clause]:
            async for clause in clauses:
                if clause.text not in KNOWN and random.random() < self._fails:
                    raise Broken("this voice is broken on purpose")
                yield clause

        async for part in super().synthesize(config, checked()):
            yield part


def attach(server: grpc.aio.Server, engine: TtsEngine, identity: Identity) -> None:
    """As the TTS service does; an engine process looks for its service where this is."""
    servicer.attach(server, engine, identity)


ENGINES = {**servicer.SERVICE.engines, "broken": f"{MODULE}:BrokenVoice"}
SERVICE = replace(servicer.SERVICE, engines=ENGINES, attach=attach)

if __name__ == "__main__":
    # By its name, for an engine process has to find it too.
    host.run(service_in(MODULE), settings.service_settings("tts"))
