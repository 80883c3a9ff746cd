"""The text of the utterance in progress: which decodes run for it, and what they have said so far.

Finals are what users wait for, so everything here is arranged around them. While somebody speaks, interims are decoded at a
limited pace. As soon as they pause, the audio so far is decoded whether or not an interim was due, on the worker that the
queue keeps free for finals: an interim that runs has not heard the last word, and is not waited for. A flush then finds the
final's text ready or nearly so; if speech came after what was decoded, the decode that runs is abandoned and the final's own
starts at once.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from services.asr.decodes import DecodeQueue, Priority
from services.asr.hypothesis import Decode, Hypothesis
from services.asr.interims import SETTLED, Pace, Situation, covers, due
from services.asr.utterance import Cut, Snapshot, Utterance


class Attempt:
    """A decode of the open window, waiting for its turn or running."""

    def __init__(self, take: Callable[[], Snapshot], priority: Priority) -> None:
        self._take = take
        self.priority = priority
        self.heard_until: int | None = None
        """What it hears; None until it runs."""
        self.began = time.perf_counter()
        self.task: asyncio.Task[Hypothesis]

    def take(self) -> Snapshot:
        snapshot = self._take()
        self.heard_until, self.began = snapshot.heard_until, time.perf_counter()
        return snapshot

    def covers(self, speech_end: int, heard_until: int) -> bool:
        return self.heard_until is not None and covers(self.heard_until, speech_end, heard_until)

    def misses(self, now: Situation) -> bool:
        """Whether somebody pauses whose last word it has not heard, or will be long in hearing."""
        if now.silence < SETTLED:
            return False
        is_urgent = self.priority is Priority.FINAL
        return not (is_urgent if self.heard_until is None else self.covers(now.speech_end, now.heard_until))


@dataclass(frozen=True)
class Believed:
    """A finished attempt."""

    hypothesis: Hypothesis
    heard_until: int
    decode_s: float
    aligned: asyncio.Future[Hypothesis] | None
    """The same with its words, if it may be the final."""


class Draft:
    """Belongs to one stream. One decode of the open window is waited for at a time, and none beside that of a window just
    ended."""

    def __init__(self, queue: DecodeQueue, decode: Decode, language: str, pace: Pace | None) -> None:
        """Without `pace` only what may become a final is decoded before the flush."""
        self._queue = queue
        self._decode = decode
        self._language = language
        self._pace = pace
        self._ended: list[asyncio.Future[Hypothesis]] = []
        self._attempt: Attempt | None = None
        self._latest: Believed | None = None
        self._rested_since = float("-inf")
        self._decode_s = 0.0

    @property
    def running(self) -> Iterable[asyncio.Future[Hypothesis]]:
        """What to wait for before `take` has something new."""
        return [self._attempt.task] if self._attempt else []

    def start_if_due(self, utterance: Utterance) -> None:
        """Begin a decode of the open window if one is due."""
        window = utterance.window
        if not window.has_speech or not all(future.done() for future in self._ended):
            return
        now = Situation(
            heard_until=utterance.heard_until,
            speech_end=window.speech_end,
            covered_until=self._latest.heard_until if self._latest else window.speech_start or 0,
            silence=utterance.detector.silence,
            since_decode_s=time.perf_counter() - self._rested_since,
            decode_s=self._decode_s,
        )
        if (self._attempt is None or self._attempt.misses(now)) and due(now, self._pace):
            if self._attempt:
                self._attempt.task.cancel()
            priority = Priority.FINAL if now.silence >= SETTLED else Priority.INTERIM
            self._attempt = Attempt(utterance.snapshot, priority)
            self._attempt.task = asyncio.create_task(self._run(priority, self._attempt.take))

    def take(self) -> Believed | None:
        """The attempt that has finished since the last time."""
        attempt = self._attempt
        if attempt is None or not attempt.task.done():
            return None
        self._attempt = None
        hypothesis, heard_until = attempt.task.result(), attempt.heard_until
        assert heard_until is not None, "a decode that has a result has taken its audio"
        self._rested_since = time.perf_counter()
        self._decode_s = self._rested_since - attempt.began
        self._forget_latest()
        aligned = self._aligned(attempt.task) if attempt.priority is Priority.FINAL else None
        self._latest = Believed(hypothesis, heard_until, self._decode_s, aligned)
        return self._latest

    def so_far(self) -> list[Hypothesis]:
        """The latest hypothesis about each window of the utterance."""
        before = [future.result() for future in self._ended if future.done()]
        return [*before, self._latest.hypothesis] if self._latest else before

    def end_window(self, cut: Cut) -> None:
        """A window has ended within the utterance: settle its text, from what was decoded if that has heard all of it."""
        snapshot = cut.snapshot
        if snapshot is not None:
            reusable = self._covering(cut.speech_end, snapshot.heard_until) if cut.in_pause else None
            self._ended.append(reusable or self._final(lambda: snapshot))
        self._forget_attempt()

    async def complete(self, utterance: Utterance) -> list[Hypothesis]:
        """The final hypotheses, window by window, with the least that is left to do; the draft is empty afterwards."""
        window = utterance.window
        if window.has_speech:
            reusable = self._covering(window.speech_end, utterance.heard_until)
            self._ended.append(reusable or self._final(utterance.snapshot))
        return await self.ended()

    async def ended(self) -> list[Hypothesis]:
        """The final hypotheses about the windows that have ended; they are forgotten."""
        self._forget_attempt()
        hypotheses = [await future for future in self._ended]
        self._ended.clear()
        return hypotheses

    async def close(self) -> None:
        """Abandon everything."""
        self._forget_attempt()
        await abandoned(self._ended)

    def _covering(self, speech_end: int, heard_until: int) -> asyncio.Future[Hypothesis] | None:
        """A decode, finished or running, that has heard all there is to hear. It is no attempt any more then."""
        if self._attempt and self._attempt.covers(speech_end, heard_until):
            task, self._attempt = self._attempt.task, None
            return self._aligned(task)
        if self._latest and covers(self._latest.heard_until, speech_end, heard_until):
            latest, self._latest = self._latest, None
            return latest.aligned or self._aligned(ready(latest.hypothesis))
        return None

    def _forget_attempt(self) -> None:
        if self._attempt:
            self._attempt.task.cancel()
        self._attempt = None
        self._forget_latest()

    def _forget_latest(self) -> None:
        if self._latest and self._latest.aligned:
            self._latest.aligned.cancel()
        self._latest = None

    def _final(self, take: Callable[[], Snapshot]) -> asyncio.Future[Hypothesis]:
        return self._aligned(asyncio.create_task(self._run(Priority.FINAL, take)))

    def _aligned(self, decode: asyncio.Future[Hypothesis]) -> asyncio.Future[Hypothesis]:
        """What a decode says, with its words. Cancelling this one abandons both."""

        async def align() -> Hypothesis:
            hypothesis = await decode
            return await self._queue.run(Priority.FINAL, lambda: hypothesis.aligned) if hypothesis.align else hypothesis

        return asyncio.create_task(align())

    async def _run(self, priority: Priority, take: Callable[[], Snapshot]) -> Hypothesis:
        taken: list[Snapshot] = []

        def prepare() -> Callable[[], Hypothesis]:
            taken.append(take())
            return partial(self._decode, taken[0].audio, self._language, taken[0].voice_s)

        hypothesis = await self._queue.run(priority, prepare)
        return hypothesis.placed(taken[0].start, taken[0].speech_start)


def ready(hypothesis: Hypothesis) -> asyncio.Future[Hypothesis]:
    made: asyncio.Future[Hypothesis] = asyncio.get_running_loop().create_future()
    made.set_result(hypothesis)
    return made


async def abandoned(futures: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel `futures` and wait until they are through."""
    pending = list(futures)
    for future in pending:
        future.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
