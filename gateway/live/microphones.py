"""The microphones of a live session: each call's has a count of its own, and all of them are heard as one."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import numpy as np

from gateway.live.room import FRAME_MS, decibels
from services.runtime.errors import InvalidInput
from talkmesh.audio.v1 import audio_pb2

LONGEST_GAP_S = 5.0
LEAD_S = 0.3
"""After so long without audio another microphone keeps time."""
WAITING_S = 0.4
"""Most audio of a microphone that waits for the one that keeps time."""
STALLED_S = 1.0
"""Without audio for so long: nobody knows what is said, if anything."""
SILENCE_S = 3.0
"""Then so much silence is heard, which ends whatever was being said."""
STEP_S = 0.1


class Microphones:
    """All of a session. The first one that gives audio keeps time, what others give meanwhile is mixed in."""

    def __init__(
        self, format: audio_pb2.AudioFormat, max_chunk_ms: int, hear: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """`hear` takes audio of `format`, at most `max_chunk_ms` at a time."""
        floats = format.encoding == audio_pb2.ENCODING_PCM_F32LE
        self.kind = np.dtype("<f4" if floats else "<i2")
        self.frame_bytes = self.kind.itemsize * max(1, format.channels)
        self.rate_hz = format.sample_rate_hz
        self.max_chunk_ms = max_chunk_ms
        self._hear = hear
        self.shared = Microphone(self)
        """Of a caller that has none of its own."""
        self._open = [self.shared]
        self._lead: Microphone | None = None
        self._heard_at = float("-inf")

    @contextmanager
    def opened(self) -> Iterator["Microphone"]:
        """One more."""
        made = Microphone(self)
        self._open.append(made)
        try:
            yield made
        finally:
            self._open.remove(made)
            self._lead = None if self._lead is made else self._lead

    def bytes_of(self, seconds: float) -> int:
        return round(seconds * self.rate_hz) * self.frame_bytes

    async def take(self, microphone: "Microphone", data: bytes) -> None:
        """More audio of one of them."""
        now = time.perf_counter()
        if self._lead is None or now - self._lead.heard_at > LEAD_S:
            self._lead = microphone
        microphone.heard_at = now
        if microphone is not self._lead:
            microphone.waiting = (microphone.waiting + data)[-self.bytes_of(WAITING_S) :]
            return
        self._heard_at = now
        for each in filter(None, (microphone.taken(), data)):
            await self._hear(self._mixed(each))

    def levels(self, data: bytes) -> list[float]:
        """How loud audio of this format is, in dB of full scale, FRAME_MS at a time."""
        samples = np.frombuffer(data, self.kind).astype(np.float64) / (1.0 if self.kind.kind == "f" else 32768.0)
        channels = self.frame_bytes // self.kind.itemsize
        return decibels(samples.reshape(-1, channels).mean(axis=1), self.rate_hz * FRAME_MS // 1000)

    async def fall_silent(self) -> None:
        """Hear silence for a while when nothing comes any more, until cancelled."""
        while True:
            await asyncio.sleep(STEP_S)
            if STALLED_S < time.perf_counter() - self._heard_at < STALLED_S + SILENCE_S:
                await self._hear(bytes(self.bytes_of(STEP_S)))

    def _mixed(self, data: bytes) -> bytes:
        others = [each for each in self._open if each is not self._lead and each.waiting]
        if not others:
            return data
        most = 1.0 if self.kind.kind == "f" else 32767
        sound = np.frombuffer(data, self.kind).astype(np.float64)
        for each in others:
            sound += np.frombuffer(each.taken(len(data)).ljust(len(data), b"\0"), self.kind)
        return sound.clip(-most, most).astype(self.kind).tobytes()


class Microphone:
    """Made by `Microphones.opened`."""

    def __init__(self, all_of_them: Microphones) -> None:
        self.heard_at = float("-inf")
        """When it last gave audio, in seconds of perf_counter."""
        self.waiting = b""
        """What came while another one kept time."""
        self._all = all_of_them
        self._samples = 0

    async def hear(self, data: bytes, start_sample: int | None = None) -> None:
        """More audio, as it comes. `start_sample` counts what this microphone gave; a gap is heard as silence.

        Raises InvalidInput for what does not follow or is not of the format; nothing of it was heard then.
        """
        self._check(data)
        missing = self._missing(start_sample)
        self._samples += missing + len(data) // self._all.frame_bytes
        rest, most = missing * self._all.frame_bytes, self._all.bytes_of(self._all.max_chunk_ms / 1000)
        while rest:
            await self._all.take(self, bytes(min(rest, most)))
            rest -= min(rest, most)
        await self._all.take(self, data)

    def taken(self, most: int | None = None) -> bytes:
        """At most so many bytes of what waits, which wait no longer."""
        data, self.waiting = self.waiting[:most], b"" if most is None else self.waiting[most:]
        return data

    def _missing(self, start_sample: int | None) -> int:
        missing = start_sample - self._samples if start_sample is not None else 0
        if missing < 0 or missing > LONGEST_GAP_S * self._all.rate_hz:
            raise InvalidInput("audio.start_sample", f"is {start_sample}", f"{self._samples}, or at most 5 s more")
        return missing

    def _check(self, data: bytes) -> None:
        if not self._all.rate_hz:
            raise InvalidInput("audio", "this session's config names no audio input", "config.input with its format")
        if len(data) % self._all.frame_bytes:
            raise InvalidInput("audio.data", f"{len(data)} bytes", f"whole frames of {self._all.frame_bytes} bytes")
        if len(data) > (most := self._all.bytes_of(self._all.max_chunk_ms / 1000)):
            raise InvalidInput("audio.data", f"{len(data)} bytes", f"at most {most}, {self._all.max_chunk_ms} ms")
        if self._all.kind.kind == "f" and not np.isfinite(np.frombuffer(data, self._all.kind)).all():
            raise InvalidInput("audio.data", "holds NaN or infinity", "finite samples")
