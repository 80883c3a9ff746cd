"""The fake model as a runtime of MLServer, and MLServer itself: `python -m tools.bench.peers.mlserver_runtime FOLDER`.

Runs in MLServer's own environment, which has neither our packages nor our versions: only what imports the standard library
may be imported here.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.cli import main as mlserver_main  # type: ignore[import-not-found]
from mlserver.codecs import StringCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceResponse  # type: ignore[import-not-found]

from services.runtime.lifeline import die_with_parent_if_asked
from tools.bench.swapping.burning import imitated_weights


class FakeRuntime(MLModel):  # type: ignore[misc]
    """Answers each tensor of a stream by "MODEL/PROCESS NUMBER".

    Its model-settings.json says in `parameters.extra` which model it is, what loading costs, and whether it loads
    `inline`, on the event loop, or in a `thread`.
    """

    async def load(self) -> bool:
        extra = self.settings.parameters.extra
        self._maker = f"{extra['model']}/{os.getpid()}.{id(self)}"
        cost = extra["load_cpu_s"], extra["load_mb"]
        if extra["load"] == "thread":
            self._weights = await asyncio.to_thread(imitated_weights, *cost)
        else:
            self._weights = imitated_weights(*cost)
        return True

    async def unload(self) -> bool:
        self._weights = bytearray()
        return True

    async def predict_stream(self, payloads: AsyncIterator[Any]) -> AsyncIterator[Any]:
        number = 0
        async for _ in payloads:
            told = StringCodec.encode_output("output", [f"{self._maker} {number}"])
            yield InferenceResponse(model_name=self.name, outputs=[told])
            number += 1


if __name__ == "__main__":
    die_with_parent_if_asked()
    sys.argv = ["mlserver", "start", sys.argv[1]]
    mlserver_main()
