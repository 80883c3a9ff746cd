"""A microphone and a loudspeaker at the pace of real time, as a transport of pipecat, in one process with it.

Runs in pipecat's own environment: see pipecat_runtime.
"""

import asyncio
import time
from typing import Any

from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    StartFrame,
)
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams

from tools.bench.living.loudspeaker import Loudspeaker, heard
from tools.bench.living.microphone import RATE_HZ, Microphone

PLAYER_S = 0.02
"""What the sound card holds: it takes the next chunk so long before the last one has been played."""


class MicrophoneInput(BaseInputTransport):  # type: ignore[misc]
    """The microphone is on from the start of the pipeline."""

    def __init__(self, silence: bytes) -> None:
        super().__init__(TransportParams(audio_in_enabled=True))
        self.microphone = Microphone(self._take, silence)
        self._feeding: Any = None

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        self._feeding = self.create_task(self.microphone.run())

    async def cleanup(self) -> None:
        if self._feeding:
            await self.cancel_task(self._feeding)
            self._feeding = None
        await super().cleanup()

    async def _take(self, data: bytes) -> None:
        await self.push_audio_frame(InputAudioRawFrame(audio=data, sample_rate=RATE_HZ, num_channels=1))


class LoudspeakerOutput(BaseOutputTransport):  # type: ignore[misc]
    """Plays chunk after chunk, and notes when each one is heard."""

    def __init__(self) -> None:
        super().__init__(TransportParams(audio_out_enabled=True))
        self.loudspeaker = Loudspeaker()
        self._played_until = 0.0

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        now = time.monotonic()
        at = max(now, self._played_until)
        chunk = heard(frame.audio, frame.sample_rate, at)
        self.loudspeaker.chunks.append(chunk)
        self._played_until = at + chunk.lasts_s
        await asyncio.sleep(max(0.0, self._played_until - PLAYER_S - now))
        return True

    async def process_frame(self, frame: Frame, direction: Any) -> None:
        await super().process_frame(frame, direction)
