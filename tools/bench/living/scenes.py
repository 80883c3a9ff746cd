"""What a person does in a session, and what they wait for: the same for us and for peers.

Used in the environments of peers too: nothing but the standard library and numpy may be imported here.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from tools.bench.living.loudspeaker import Loudspeaker
from tools.bench.living.microphone import Microphone, Said
from tools.bench.living.speech import Speech

POLL_S = 0.02
"""Moments are taken from what was recorded, so looking seldom costs no precision."""
ANSWER_S = 15.0
"""Longest wait for an answer after the last word."""
STOPPED_S = 5.0
SETTLED_S = 0.5


class Party(Protocol):
    """Whoever answers, seen from the person's side. Moments are seconds of time.monotonic."""

    @property
    def microphone(self) -> Microphone: ...

    @property
    def loudspeaker(self) -> Loudspeaker: ...

    @property
    def draws(self) -> bool:
        """Whether there is a face."""

    @property
    def turn(self) -> str:
        """Which turn's reply is being heard, or was last; empty if replies are not told apart."""

    def committed(self, since: float) -> list[tuple[float, str]]:
        """When a turn of the person was taken to be over since a moment, and what they were made out to say in it."""

    def first_picture(self, since: float) -> float | None:
        """When the face was first seen to speak."""

    def check(self) -> None:
        """Raises what has ended the session."""

    async def stop_reply(self) -> None:
        """End the reply in progress by other means than speech; returns when it is over."""


@dataclass(frozen=True)
class Turn:
    """A question and how long its answer took, in ms after the last voiced sample; None where there was none."""

    speech: str
    ttfa_ms: float | None
    ttfv_ms: float | None
    cut_off: bool
    """The turn was taken to be over in the middle of the question."""
    understood: str
    """What the answer answers."""
    error: str = ""

    @property
    def timely(self) -> bool:
        """Whether it counts as an answer to the question."""
        return not self.error and not self.cut_off and self.ttfa_ms is not None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class BargeIn:
    """An interruption, in ms after its first voiced sample."""

    silent_ms: float | None
    """Until the old reply was last heard; None if it made a pause just then."""
    began: float
    """When the interruption's voice began."""
    ended: float
    turn: str
    """Whose reply was interrupted."""
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def until(party: Party, condition: Callable[[], bool], limit_s: float) -> bool:
    """Wait for a condition; False when it has not come about in time. Raises what has ended the session."""
    deadline = time.monotonic() + limit_s
    while not condition():
        party.check()
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


async def spoken(party: Party, speech: Speech) -> Said:
    said = party.microphone.say(speech.data)
    await said.over.wait()
    return said


async def ask(party: Party, speech: Speech, listen_s: float) -> Turn:
    """Ask, and listen to the answer for a while. It is stopped then, so that the next question finds silence."""
    began = time.monotonic()
    said = await spoken(party, speech)
    ended = said.at(speech.last_voiced)
    # What was heard before the last word is no answer to the question: wait for one that comes later, too.
    answered = await until(party, lambda: party.loudspeaker.first_audible(ended) is not None, ANSWER_S)
    if answered and party.draws:
        await until(party, lambda: party.first_picture(began) is not None, STOPPED_S)
    await asyncio.sleep(listen_s)
    await party.stop_reply()
    turn = seen(party, speech, began, ended)
    await asyncio.sleep(SETTLED_S)
    return turn


def seen(party: Party, speech: Speech, began: float, ended: float) -> Turn:
    """What became of a question."""
    audio, picture = party.loudspeaker.first_audible(began), party.first_picture(began)
    committed = party.committed(began)
    understood = committed[-1][1] if committed else ""
    if audio is None:
        return Turn(speech.name, None, None, False, understood, "no answer")
    return Turn(
        speech.name,
        ttfa_ms=1000 * (audio - ended),
        ttfv_ms=1000 * (picture - ended) if picture is not None else None,
        cut_off=audio < ended or was_cut_off(speech, committed, ended),
        understood=understood,
    )


def was_cut_off(speech: Speech, committed: list[tuple[float, str]], ended: float) -> bool:
    """Whether the end was seen where there was none: before it, or so that the rest is missing, or is a turn of its own."""
    early = any(at < ended or speech.lacks_rest(text) for at, text in committed)
    return early or len(committed) > 1


async def interrupt(party: Party, question: Speech, interruption: Speech, after_s: float) -> BargeIn:
    """Ask, let the answer sound for a while, and speak into it."""
    began = time.monotonic()
    said = await spoken(party, question)
    ended = said.at(question.last_voiced)
    if not await until(party, lambda: party.loudspeaker.first_audible(ended) is not None, ANSWER_S):
        return BargeIn(None, began, began, party.turn, "no answer")
    first = party.loudspeaker.first_audible(ended) or ended
    await asyncio.sleep(first + after_s - time.monotonic())
    turn = party.turn
    said = await spoken(party, interruption)
    start, end = said.at(interruption.first_voiced), said.at(interruption.last_voiced)
    last = party.loudspeaker.last_audible(start, end, turn)
    await until(party, lambda: party.loudspeaker.first_audible(end) is not None, ANSWER_S)
    await party.stop_reply()
    silent_ms = 1000 * (last - start) if last is not None else None
    return BargeIn(silent_ms, start, end, turn)
