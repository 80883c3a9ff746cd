"""Which faces and voices users may choose from, asked of the services and remembered for a moment."""

import time

from gateway.http.page_routes import Offerings
from gateway.mesh import Mesh, opened
from gateway.settings import GatewaySettings
from services.runtime.errors import DomainError
from talkmesh.render.v1 import render_pb2
from talkmesh.tts.v1 import tts_pb2

FRESH_S = 5.0


class Offered:
    """Called for what there is to choose from; of a service that is away, nothing."""

    def __init__(self, mesh: Mesh, settings: GatewaySettings) -> None:
        self._mesh = mesh
        self._settings = settings
        self._known = Offerings()
        self._asked_at = -FRESH_S

    async def __call__(self) -> Offerings:
        if time.monotonic() - self._asked_at > FRESH_S:
            self._known = Offerings(await self._portraits(), await self._voices())
            self._asked_at = time.monotonic()
        return self._known

    async def _portraits(self) -> tuple[str, ...]:
        fps = self._settings.fps
        config = render_pb2.RenderConfig(
            fps_numerator=fps.numerator,
            fps_denominator=fps.denominator,
            sample_rate_hz=self._settings.sample_rate_hz,
        )
        try:
            call = self._mesh.seats({}).render.Render()
            async with opened("render", call, render_pb2.RenderRequest(config=config)) as (_, started):
                return tuple(started.portraits)
        except DomainError:
            return ()

    async def _voices(self) -> tuple[str, ...]:
        config = tts_pb2.SynthesisConfig(sample_rate_hz=self._settings.sample_rate_hz)
        try:
            call = self._mesh.seats({}).tts.Synthesize()
            async with opened("tts", call, tts_pb2.SynthesizeRequest(config=config)) as (_, started):
                return tuple(started.voices)
        except DomainError:
            return ()
