"""Stretches of time with swaps and without, by turns, so that what changes with the hour weighs on both alike."""

import asyncio
import math
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["base", "swap"]
ORDER: tuple[Kind, ...] = ("base", "swap", "swap", "base")
"""ABBA: what drifts steadily cancels out."""
SETTLE_S = 1.0
PAUSE_S = 3.0


@dataclass(frozen=True)
class Block:
    """From `began` to `ended`, in seconds of time.monotonic."""

    kind: Kind
    began: float
    ended: float


@dataclass
class Blocks:
    """All stretches of a run. What lies between them belongs to neither kind."""

    found: list[Block] = field(default_factory=list)

    @contextmanager
    def block(self, kind: Kind) -> Iterator[None]:
        """Count the time of the body as of this kind."""
        began = time.monotonic()
        yield
        self.found.append(Block(kind, began, time.monotonic()))

    def kind_at(self, at: float) -> Kind | None:
        """The kind of the block that a moment lies in."""
        index = bisect_right(self.found, at, key=lambda block: block.began) - 1
        return self.found[index].kind if index >= 0 and at <= self.found[index].ended else None

    def seconds(self, kind: Kind) -> float:
        return sum(block.ended - block.began for block in self.found if block.kind == kind)


async def alternate(
    blocks: Blocks, swaps: int, block_s: float, swap: Callable[[int], Awaitable[None]], base_s: float = 0.0
) -> None:
    """Swap `swaps` times, one after the other as fast as they complete, in blocks of about `block_s`; `base_s` without, or
    as long if that is 0.

    `swap` is given the number of the swap, from 0. Blocks of swaps end SETTLE_S after their last swap, and base blocks begin
    PAUSE_S later: what a swap leaves behind is let go of in time that counts as swapping, or not at all.
    """
    done = 0
    while done < swaps:
        most = min(done + math.ceil(swaps / 2), swaps) if done == 0 else swaps
        for kind in ORDER:
            if kind == "base":
                with blocks.block(kind):
                    await asyncio.sleep(base_s or block_s)
            elif done < swaps:
                with blocks.block(kind):
                    done = await swap_for(block_s, done, most, swap)
                    await asyncio.sleep(SETTLE_S)
                most = swaps
                await asyncio.sleep(PAUSE_S)


async def swap_for(block_s: float, done: int, most: int, swap: Callable[[int], Awaitable[None]]) -> int:
    """Swap until the block is over or `most` swaps are done; returns how many are."""
    until = time.monotonic() + block_s
    while done < most and time.monotonic() < until:
        await swap(done)
        done += 1
    return done
