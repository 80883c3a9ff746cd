"""A microphone that is always on: chunks at the pace of real time, silence between what is said.

Used in the environments of peers too: nothing but the standard library and numpy may be imported here.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

RATE_HZ = 16_000
CHUNK_MS = 20
CHUNK = RATE_HZ * CHUNK_MS // 1000
BYTES_A_SAMPLE = 2
Send = Callable[[bytes], Awaitable[None]]


@dataclass
class Said:
    """Something that is being said, mono PCM_S16LE of RATE_HZ; moments are seconds of time.monotonic."""

    data: bytes
    sent: int = 0
    """Samples so far."""
    chunks: list[tuple[int, float]] = field(default_factory=list)
    """For each chunk where it ends, in samples, and when it left: as its last sample would have been spoken."""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def at(self, sample: int) -> float:
        """When a sample was spoken. Raises LookupError while it was not."""
        for end, left in self.chunks:
            if sample <= end:
                return left - (end - sample) / RATE_HZ
        raise LookupError(f"sample {sample} has not been spoken")

    def take(self) -> bytes:
        """The next chunk; the last one may be short."""
        at = self.sent * BYTES_A_SAMPLE
        data = self.data[at : at + CHUNK * BYTES_A_SAMPLE]
        self.sent += len(data) // BYTES_A_SAMPLE
        return data


class Microphone:
    """Give it `send`, have `run` run, and `say` things one after another."""

    def __init__(self, send: Send, silence: bytes = bytes(CHUNK * BYTES_A_SAMPLE)) -> None:
        """`silence` is the noise of the room, repeated for ever; at least a chunk of it."""
        self._send = send
        self._silence = silence
        self._silent_at = 0
        self._saying: Said | None = None
        self.most_behind_ms = 0.0
        """How late chunks have left: the pace was not kept by whoever measures."""

    def say(self, data: bytes) -> Said:
        """Begin with the next chunk; what is being said is cut off."""
        if self._saying:
            self._saying.over.set()
        self._saying = Said(data)
        return self._saying

    async def run(self) -> None:
        """Send until cancelled. The schedule is absolute, so being late once does not add up."""
        began, number = time.monotonic(), 0
        while True:
            number += 1
            due = began + number * CHUNK / RATE_HZ
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.most_behind_ms = max(self.most_behind_ms, 1000 * (time.monotonic() - due))
            await self._next(due)

    async def _next(self, due: float) -> None:
        said, data = self._saying, b""
        if said:
            data = said.take()
            said.chunks.append((said.sent, due - (CHUNK - len(data) // BYTES_A_SAMPLE) / RATE_HZ))
            if said.sent * BYTES_A_SAMPLE >= len(said.data):
                self._saying = None
        await self._send(data + self._quiet(CHUNK * BYTES_A_SAMPLE - len(data)))
        if said and self._saying is not said:
            said.over.set()

    def _quiet(self, size: int) -> bytes:
        """More of the room's noise."""
        at = self._silent_at
        while len(self._silence) - at < size:
            at = 0
        self._silent_at = at + size
        return self._silence[at : at + size]
