"""A candidate gets a copy of what live streams are told, before any user sees it: its answers are measured and thrown away.

What is measured: streams by how they ended, the time to the first answer beside that of the live stream, and how much the
answers differ. Of what was said only figures are kept. A copy never holds the live stream up: one that falls behind is given
up, and so are copies that would be too many at a time.
"""

import asyncio
import contextlib
import difflib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import grpc

from gateway.experiments.statistics import Interval, Moments, mean_difference

MOST_WAITING = 512
"""Messages that a copy may be behind."""
MOST_COPIES = 4
LINGER_S = 10.0
"""How long a copy may go on after its live stream has ended well."""
MOST_WORDS = 400
ALPHA = 0.05
Ended = Literal["ok", "failed", "left", "behind", "too many"]
"""`left`: with its live stream; `behind`: it could not keep up; `too many`: never begun."""


@dataclass
class Answers:
    """What one side of a pair has answered: when first, and how much. Of text, the words, as long as the stream lasts."""

    asked_at: float = 0.0
    first_ms: float | None = None
    responses: int = 0
    size: int = 0
    words: list[str] = field(default_factory=list)

    def asked(self) -> None:
        """Something was told to it. The first message only says what is to come."""
        self.asked_at = self.asked_at or time.perf_counter()

    def answered(self, response: Any) -> None:
        """It has answered. The first response only says who answers."""
        self.responses += 1
        if self.responses == 1:
            return
        if self.first_ms is None and self.asked_at:
            self.first_ms = 1000 * (time.perf_counter() - self.asked_at)
        self.size += response.ByteSize()
        if len(self.words) < MOST_WORDS and (text := text_of(response)):
            self.words.append(text)


def text_of(response: Any) -> str:
    """The words of a response of the services that answer in words."""
    kind = response.WhichOneof("response") if "response" in response.DESCRIPTOR.oneofs_by_name else ""
    if kind == "delta":
        return str(response.delta.text)
    is_final = kind == "transcript" and response.transcript.is_final
    return f"{response.transcript.text} " if is_final else ""


@dataclass
class Figures:
    """What is known of one candidate at one service."""

    signature: str = ""
    ended: Counter[str] = field(default_factory=Counter)
    live_ms: Moments = field(default_factory=Moments)
    shadow_ms: Moments = field(default_factory=Moments)
    unlike: Moments = field(default_factory=Moments)
    """Of pairs that both ended: how much the answers differ, from 0 to 1."""

    def add(self, ended: Ended, live: Answers, shadow: Answers) -> None:
        self.ended[ended] += 1
        if live.first_ms is not None and shadow.first_ms is not None:
            self.live_ms.add(live.first_ms)
            self.shadow_ms.add(shadow.first_ms)
        if ended == "ok" and live.responses > 1 and shadow.responses > 1:
            self.unlike.add(difference(live, shadow))

    @property
    def later(self) -> Interval:
        """By how many milliseconds the candidate's first answer comes later, with limits that hold at all times."""
        return mean_difference(self.shadow_ms, self.live_ms, ALPHA)


def difference(live: Answers, shadow: Answers) -> float:
    """Of texts, the share of words that are not alike; of all else, by how much one answer is larger than the other."""
    one, other = "".join(live.words).split(), "".join(shadow.words).split()
    if one or other:
        matcher = difflib.SequenceMatcher(None, one[:MOST_WORDS], other[:MOST_WORDS], autojunk=False)
        return 1 - matcher.ratio()
    return abs(live.size - shadow.size) / max(live.size, shadow.size, 1)


class Shadows:
    """All copies of a gateway, and what they have told, by flag, variant and service."""

    def __init__(self, told: Callable[["Copying", Ended], None] | None = None, most: int = MOST_COPIES) -> None:
        self.figures: dict[tuple[str, str, str], Figures] = {}
        self._told = told
        self._most = most
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def copied(self, of: "Copying", live: Any, begin: Callable[[], Any]) -> Any:
        """A live call that tells a copy all that it is told; the live call as it is when there are copies enough."""
        if self._running >= self._most:
            self.done(of, "too many", Answers(), Answers())
            return live
        self._running += 1
        made = Copied(live)
        task = asyncio.create_task(self._run(of, made, begin))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return made

    async def _run(self, of: "Copying", live: "Copied", begin: Callable[[], Any]) -> None:
        shadow = Answers()
        ended: Ended = "failed"
        try:
            ended = await mirrored(live, begin(), shadow)
        finally:
            self._running -= 1
            self.done(of, ended, live.answers, shadow)

    def done(self, of: "Copying", ended: Ended, live: Answers, shadow: Answers) -> None:
        """A copy has come to its end. Streams that were only opened, to see whether they would, are none."""
        if ended == "left" and not live.asked_at:
            return
        key = (of.flag, of.variant, of.service)
        if key not in self.figures or self.figures[key].signature != of.signature:
            self.figures[key] = Figures(of.signature)
        self.figures[key].add(ended, live, shadow)
        if self._told:
            self._told(of, ended)

    def of(self, flag: str) -> list[tuple[str, str, Figures]]:
        """Variant, service and figures of a flag, as far as this gateway has any."""
        return [(variant, service, each) for (name, variant, service), each in self.figures.items() if name == flag]


@dataclass(frozen=True)
class Copying:
    """Whose stream is copied for whom."""

    flag: str
    variant: str
    service: str
    signature: str
    """Of what is compared."""


class Copied:
    """A live call, as its owner uses it; what is written to it waits for the copy too."""

    def __init__(self, live: Any) -> None:
        self._live = live
        self._responses: Any = None
        self.answers = Answers()
        self.requests: deque[Any] = deque()
        self.more = asyncio.Event()
        self.is_closed = self.is_behind = False
        self.over = asyncio.Event()
        self._messages = 0
        live.add_done_callback(lambda call: self.over.set())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._live, name)

    async def write(self, request: Any) -> None:
        if self._messages:
            self.answers.asked()
        self._messages += 1
        if len(self.requests) >= MOST_WAITING:
            self.is_behind = True
        else:
            self.requests.append(request)
        self.more.set()
        await self._live.write(request)

    async def done_writing(self) -> None:
        self.is_closed = True
        self.more.set()
        await self._live.done_writing()

    def __aiter__(self) -> "Copied":
        if self._responses is None:
            self._responses = aiter(self._live)
        return self

    async def __anext__(self) -> Any:
        response = await anext(self._responses)
        self.answers.answered(response)
        return response

    @property
    def ended_well(self) -> bool:
        """Whether the live stream was brought to its end, and not left."""
        return self.over.is_set() and self.is_closed and not self._live.cancelled()


async def mirrored(live: Copied, shadow: Any, answers: Answers) -> Ended:
    """Tell a copy what its live call is told, and take its answers, until either is at its end."""
    reading = asyncio.create_task(drained(shadow, answers))
    telling = asyncio.create_task(told(live, shadow, answers))
    over = asyncio.create_task(live.over.wait())
    try:
        await asyncio.wait({reading, over, telling}, return_when=asyncio.FIRST_COMPLETED)
        if telling.done() and not reading.done() and not live.is_behind:
            await asyncio.wait({reading, over}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done() and live.ended_well and not live.is_behind:
            await asyncio.wait({reading}, timeout=LINGER_S)
        if reading.done():
            return "ok" if reading.result() and live.is_closed else "failed"
        return "behind" if live.is_behind or live.ended_well else "left"
    finally:
        for task in (reading, telling, over):
            task.cancel()
        shadow.cancel()
        await asyncio.wait({reading, telling, over})


async def told(live: Copied, shadow: Any, answers: Answers) -> None:
    """Tell a copy what waits for it, until there is no more."""
    count = 0
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        async for request in waiting(live):
            if count:
                answers.asked()
            count += 1
            await shadow.write(request)
        if not live.is_behind:
            await shadow.done_writing()


async def waiting(live: Copied) -> AsyncIterator[Any]:
    """What the live call was told, in order, until it is told no more or the copy is too far behind."""
    while not live.is_behind:
        if live.requests:
            yield live.requests.popleft()
        elif live.is_closed:
            return
        else:
            live.more.clear()
            await live.more.wait()


async def drained(shadow: Any, answers: Answers) -> bool:
    """Take all answers of a copy; whether it ended well."""
    try:
        async for response in shadow:
            answers.answered(response)
    except grpc.aio.AioRpcError:
        return False
    return True
