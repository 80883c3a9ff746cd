"""Several people in sessions of their own at once: until when pictures keep their deadlines, and how long answers take."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from talkmesh import SessionConfig
from tools.bench.figures import percentile
from tools.bench.living import line, scenes, truth
from tools.bench.living.arms import LEAD_S, Tell
from tools.bench.living.line import Line
from tools.bench.living.speech import Speech

MOST_LATE_PCT = 5.0
"""With more pictures late, or missing, than this, the deadlines are broken and no more people are let in."""
MOST_TTFV_MS = 3000.0
PAUSE_S = 2.0
"""Between an answer and the next question."""
QUESTIONS = ("What is the capital of France?", "Why is the sky blue?", "Tell me about the sea.", "How do birds fly?")


@dataclass
class Guest:
    """One of them."""

    ttfv_ms: list[float] = field(default_factory=list)
    frames: truth.Frames = field(default_factory=lambda: truth.Frames(0, 0, 0))
    unanswered: int = 0
    error: str = ""


@dataclass(frozen=True)
class Crowd:
    """How they are."""

    address: str
    speeches: Sequence[Speech]
    typed: bool
    lasts_s: float
    config: SessionConfig

    async def row(self, count: int) -> dict[str, Any]:
        """What so many people at once experience."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._guest(number, count)) for number in range(count)]
        return summary(count, self.config.size, [task.result() for task in tasks])

    async def _guest(self, number: int, count: int) -> Guest:
        guest = Guest()
        try:
            async with line.opened(
                self.address, self.config, self.speeches[0].silence, speaks=not self.typed
            ) as opened:
                # They come one after the other, so that they do not all speak in the same moment.
                await asyncio.sleep(LEAD_S + number * self.lasts_s / count / 3)
                await self._converse(opened, number, guest)
        except line.SessionEnded as error:
            guest.error = str(error)
        return guest

    async def _converse(self, opened: Line, number: int, guest: Guest) -> None:
        since = time.monotonic()
        turn = 0
        while time.monotonic() < since + self.lasts_s or not turn:
            waited = await self._question(opened, number + turn)
            if waited is None:
                guest.unanswered += 1
            else:
                guest.ttfv_ms.append(waited)
            turn += 1
            await asyncio.sleep(PAUSE_S)
        fps = opened.started.fps_numerator / max(1, opened.started.fps_denominator)
        guest.frames = truth.frames(opened.record, opened.rate_hz, fps, since)

    async def _question(self, opened: Line, number: int) -> float | None:
        """Ask, hear the answer to its end, and return the ms to the first picture of it; None if none came."""
        if self.typed:
            asked = ended = time.monotonic()
            await opened.type(QUESTIONS[number % len(QUESTIONS)])
        else:
            speech = self.speeches[number % len(self.speeches)]
            asked = time.monotonic()
            ended = (await scenes.spoken(opened, speech)).at(speech.last_voiced)
        seen = await scenes.until(opened, lambda: opened.first_picture(asked) is not None, scenes.ANSWER_S)
        if not seen:
            return None
        await scenes.until(opened, lambda: not opened.is_replying(), self.lasts_s)
        return 1000 * ((opened.first_picture(asked) or ended) - ended)


def summary(count: int, size: int, guests: Sequence[Guest]) -> dict[str, Any]:
    """One row of the curve."""
    waits = [wait for guest in guests for wait in guest.ttfv_ms]
    expected = sum(guest.frames.expected for guest in guests)
    late = sum(guest.frames.late + guest.frames.missing for guest in guests)
    row: dict[str, Any] = {"n": count, "size": size, "turns": len(waits)}
    for key, percent in (("p50", 50), ("p95", 95), ("p99", 99)):
        row[f"ttfv_{key}_ms"] = round(percentile(waits, percent), 1) if waits else None
    row["late_frames_pct"] = round(100 * late / expected, 2) if expected else 100.0
    row["unanswered"] = sum(guest.unanswered for guest in guests)
    if errors := sorted({guest.error for guest in guests if guest.error}):
        row["errors"] = errors
    return row


def is_broken(row: dict[str, Any]) -> bool:
    """Whether people would complain."""
    slow = row["ttfv_p95_ms"] is None or row["ttfv_p95_ms"] > MOST_TTFV_MS
    return bool(slow or row["late_frames_pct"] > MOST_LATE_PCT or row.get("errors"))


async def curve(crowds: Sequence[Crowd], most: int, tell: Tell) -> list[dict[str, Any]]:
    """A row for 1, 2, … people, for each kind of crowd, up to the first one that is too many."""
    rows = []
    for crowd in crowds:
        for count in range(1, most + 1):
            row = await crowd.row(count)
            rows.append(row)
            tell(f"{count} at {crowd.config.size}: {row}")
            if is_broken(row):
                break
    return rows
