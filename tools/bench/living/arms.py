"""Who answers: we ourselves, with and without a face, and peers; each question in a session of its own.

The arms take turns in an order that turns round each time (A B C, C B A, …), so that what changes slowly on the machine, or
is left over from the one before, falls on all of them alike. Each session begins when the one before has ended.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from talkmesh import SessionConfig
from tools.bench.living import line, scenes
from tools.bench.living.line import Line, Record
from tools.bench.living.scenes import BargeIn, Turn
from tools.bench.living.speech import Speech
from tools.bench.swapping.processes import NotReady

OURS, VOICE, PAUSES = "ours", "ours_voice", "ours_pauses"
LISTEN_S = 2.0
"""How long an answer is listened to."""
INTO_ANSWER_S = 1.2
"""When somebody speaks into an answer, counted from its first sound."""
LEAD_S = 1.0
"""Silence before the first word: the session gets to know the room."""


class Talker(Protocol):
    """A session with somebody."""

    async def ask(self, speech: Speech, listen_s: float) -> Turn: ...

    async def interrupt(self, question: Speech, interruption: Speech, after_s: float) -> BargeIn: ...


STORY = "You tell long stories. Whatever you are told, answer with a story of at least ten sentences."
STORY_TOKENS = 96
TRIES = 2
"""Replies may be over before anybody can interrupt them: so many attempts at most for each interruption wanted."""


@dataclass(frozen=True)
class Wanted:
    """What replies are to be like: the same from everybody."""

    max_reply_tokens: int = 48
    seed: int = 7
    system_prompt: str = ""

    @property
    def story(self) -> "Wanted":
        """Something to interrupt."""
        return replace(self, system_prompt=STORY, max_reply_tokens=STORY_TOKENS)


FAILURES = (line.SessionEnded, NotReady)
"""Of one side: the other one is measured on."""
Open = Callable[[Speech, "Wanted"], AbstractAsyncContextManager[Talker]]
"""A session in the room of a recording."""


@dataclass
class Ours:
    """A session of ours as a Talker; its record is kept."""

    line: Line
    kept: "Kept"

    async def ask(self, speech: Speech, listen_s: float) -> Turn:
        return await scenes.ask(self.line, speech, listen_s)

    async def interrupt(self, question: Speech, interruption: Speech, after_s: float) -> BargeIn:
        barge_in = await scenes.interrupt(self.line, question, interruption, after_s)
        self.kept.barge_ins.append((self.line.record, barge_in))
        return barge_in


@dataclass
class Kept:
    """What our sessions have left."""

    records: list[tuple[Record, int, float]] = field(default_factory=list)
    """With the rate of the media clock and the pictures a second."""
    behind_ms: float = 0.0
    barge_ins: list[tuple[Record, BargeIn]] = field(default_factory=list)

    def keep(self, line: Line) -> None:
        fps = line.started.fps_numerator / max(1, line.started.fps_denominator)
        self.records.append((line.record, line.rate_hz, fps))
        self.behind_ms = max(self.behind_ms, line.microphone.most_behind_ms)


def ours(address: str, config: SessionConfig, kept: Kept) -> Open:
    """Sessions of ours; `kept` takes their records."""

    @asynccontextmanager
    async def open(speech: Speech, wanted: Wanted) -> AsyncIterator[Talker]:
        async with line.opened(address, configured(config, wanted), speech.silence) as opened:
            await asyncio.sleep(LEAD_S)
            yield Ours(opened, kept)
            kept.keep(opened)

    return open


@dataclass
class Outcome:
    """All turns and interruptions of one arm, in the order of the blocks."""

    turns: list[Turn] = field(default_factory=list)
    barge_ins: list[BargeIn] = field(default_factory=list)


Tell = Callable[[str], None]


async def take_turns(
    arms: Mapping[str, Open], speeches: Sequence[Speech], wanted: Wanted, turns: int, tell: Tell
) -> dict[str, Outcome]:
    """`turns` questions for each arm, after one each that warms up."""
    found = {name: Outcome() for name in arms}
    for number in range(-1, turns):
        speech = speeches[number % len(speeches)]
        for name in in_order(list(arms), number):
            turn = await one_turn(arms[name], speech, wanted)
            if number >= 0:
                found[name].turns.append(turn)
                tell(f"turn {number + 1} {name}: {turn}")
    return found


async def interrupt(
    arms: Mapping[str, Open],
    speeches: Sequence[Speech],
    wanted: Wanted,
    found: Mapping[str, Outcome],
    most: int,
    tell: Tell,
) -> None:
    """Have answers of each arm interrupted until `most` were: by speech without a pause, in which nobody can answer."""
    for number in range(TRIES * most):
        question, interruption = speeches[number % len(speeches)], speeches[(number + 1) % len(speeches)]
        for name in in_order(list(arms), number):
            if sum(one.silent_ms is not None for one in found[name].barge_ins) < most:
                barge_in = await one_barge_in(arms[name], question, interruption, wanted)
                found[name].barge_ins.append(barge_in)
                tell(f"interruption {number + 1} {name}: {barge_in}")


def configured(config: SessionConfig, wanted: Wanted) -> SessionConfig:
    """A session's config with the replies wanted."""
    return replace(
        config,
        max_reply_tokens=wanted.max_reply_tokens,
        seed=wanted.seed,
        system_prompt=wanted.system_prompt,
        temperature=0.0,
    )


def in_order(names: list[str], number: int) -> list[str]:
    """The names, backwards every other time."""
    return names if number % 2 else names[::-1]


async def one_turn(open: Open, speech: Speech, wanted: Wanted) -> Turn:
    """A session that fails is a turn without an answer: the others go on."""
    try:
        async with open(speech, wanted) as talker:
            return await talker.ask(speech, LISTEN_S)
    except FAILURES as error:
        return Turn(speech.name, None, None, False, "", str(error))


async def one_barge_in(open: Open, question: Speech, interruption: Speech, wanted: Wanted) -> BargeIn:
    with contextlib.suppress(*FAILURES):
        async with open(question, wanted.story) as talker:
            return await talker.interrupt(question, interruption, INTO_ANSWER_S)
    return BargeIn(None, 0.0, 0.0, "", "the session ended")
