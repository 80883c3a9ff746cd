"""A bell: rung when something has changed, heard by whoever waits for it."""

import asyncio
from collections.abc import Callable


class Bell:
    """`ring` wakes everybody who waits; who does not wait misses nothing but the ringing."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()
        self._rung = asyncio.Event()

    @property
    def next(self) -> asyncio.Event:
        """What the next ring sets: taken before a look at things, it misses no ring between look and wait."""
        return self._rung

    async def heard(self) -> None:
        """Wait for the next ring."""
        await self._rung.wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, looking at it now and after each ring."""
        while not condition():
            await self.heard()
