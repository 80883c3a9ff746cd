"""Streams that outlive the models that serve them.

A host ends a stream whose model has been swapped out as DRAINED. The same call, opened again, lands on the model that came
after it, and what the old one left unanswered is told to the new one: nothing is lost, and nothing is said twice. With
patience, a service that has gone is waited for and then told the same. Every other failure is passed on as it is.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2

from gateway.mesh import Place, ServiceFailed, Stream
from services.runtime import statuses
from services.runtime.desired import STABLE
from services.runtime.errors import Drained
from talkmesh.animation.v1 import animation_pb2_grpc
from talkmesh.asr.v1 import asr_pb2_grpc
from talkmesh.llm.v1 import llm_pb2_grpc
from talkmesh.model.v1 import model_pb2
from talkmesh.outcomes import DETAILS_KEY
from talkmesh.render.v1 import render_pb2_grpc
from talkmesh.tts.v1 import tts_pb2_grpc

MOST_REOPENINGS = 5
LEAST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.8
"""Between attempts to open a stream to a service that has gone."""
QUIET_S = 60.0
"""Reopenings of one stream, in one turn and not further apart than that. More are no swap any more."""
DRAINED = statuses.reason(Drained(""))
log = logging.getLogger(__name__)
Item = TypeVar("Item")
Response = TypeVar("Response")
Detail = TypeVar("Detail", error_details_pb2.ErrorInfo, error_details_pb2.ResourceInfo)
Cut = Callable[[], Awaitable[None]]
Opening = Callable[[], AbstractAsyncContextManager[tuple[Stream[Any, Any], Any]]]
"""Opens the stream so that it goes on from here; gives it with the service's first response."""
Begin = Callable[[Any], None]
"""Has a stream that is open, and whose first response this is, go on from here."""


async def nothing() -> None:
    """What most streams do when they are cut."""


class Services(Protocol):
    """The services as a call sees them. A stub is taken for each stream: the next one may have to go elsewhere."""

    @property
    def asr(self) -> "asr_pb2_grpc.AsrServiceAsyncStub": ...

    @property
    def llm(self) -> "llm_pb2_grpc.LlmServiceAsyncStub": ...

    @property
    def tts(self) -> "tts_pb2_grpc.TtsServiceAsyncStub": ...

    @property
    def animation(self) -> "animation_pb2_grpc.AnimationServiceAsyncStub": ...

    @property
    def render(self) -> "render_pb2_grpc.RenderServiceAsyncStub": ...

    def place(self, service: str) -> Place:
        """Where new streams of a service go now."""

    def leave_variants(self) -> bool:
        """Have new streams go where everybody's go; False if they do already."""

    def blame_variants(self) -> None:
        """What was left did not work, and what everybody has does."""


class Backlog(Generic[Item]):
    """What a stream is told, in order: each thing is kept until it is answered, so that it can be told again."""

    def __init__(self) -> None:
        self._kept: list[Item] = []
        self._sent = 0
        self._closed = self._held = False
        self._changed = asyncio.Event()

    @property
    def kept(self) -> list[Item]:
        """What is not answered yet."""
        return self._kept

    @property
    def told(self) -> bool:
        """Whether everything is told."""
        return self._closed and self._sent == len(self._kept)

    @property
    def over(self) -> bool:
        """Whether everything is told and answered."""
        return self._closed and not self._kept

    def add(self, item: Item) -> None:
        self._kept.append(item)
        self._changed.set()

    def close(self) -> None:
        """There is nothing more to tell."""
        self._closed = True
        self._changed.set()

    def hold(self) -> None:
        """Tell this stream nothing more: what comes now is for the next one."""
        self._held = True
        self._changed.set()

    async def next(self) -> Item | None:
        """What to tell next; None when this stream gets nothing more."""
        while not self._held:
            if self._sent < len(self._kept):
                self._sent += 1
                self._changed.set()
                return self._kept[self._sent - 1]
            if self._closed:
                return None
            await self._change()
        return None

    async def room(self, most: int) -> None:
        """Wait until at most so many things are untold."""
        while len(self._kept) - self._sent > most:
            await self._change()

    def keep(self, wanted: Callable[[Item], bool]) -> None:
        """Forget all that has been told and is not wanted any more."""
        told = [item for item in self._kept[: self._sent] if wanted(item)]
        self._kept[: self._sent] = told
        self._sent = len(told)

    def answered(self, count: int) -> int:
        """Forget the oldest `count` things, at most all that have been told; returns how many that were."""
        count = min(count, self._sent)
        del self._kept[:count]
        self._sent -= count
        return count

    def begin_again(self, kept: Iterable[Item]) -> None:
        """Tell a new stream all of `kept`, and then what comes."""
        self._kept = list(kept)
        self._sent, self._held = 0, False
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Ahead:
    """A stream to the next model, opened while the one before it still serves."""

    def __init__(self, place: Place, opening: Opening) -> None:
        self.place = place
        self._opening = opening
        self._opened: tuple[Stream[Any, Any], Any] | None = None
        self._done = asyncio.Event()
        self._left = asyncio.Event()
        self._task = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        try:
            async with self._opening() as self._opened:
                self._done.set()
                await self._left.wait()
        except ServiceFailed as error:
            log.info("%s: its next model's stream did not open ahead: %s", error.service, error)
        finally:
            self._done.set()

    @property
    def ready(self) -> bool:
        """Whether there is no more to wait for: it is open, or it could not be opened."""
        return self._done.is_set()

    async def opened(self) -> tuple[Stream[Any, Any], Any] | None:
        """The stream and its first response; None if it is not to be had any more."""
        await self._done.wait()
        return self._opened if self._opened and not self._opened[0].over else None

    async def close(self) -> None:
        """Cancel the stream if it has not ended."""
        self._left.set()
        if not self.ready:
            self._task.cancel()
        await asyncio.wait((self._task,))


class Continued(Generic[Item, Response]):
    """A stream that goes on with the next model when its model's time is over. Made by `continued`."""

    def __init__(
        self,
        service: str,
        opening: Opening,
        backlog: Backlog[Item],
        cut: Cut,
        patience_s: float,
        begin: Begin | None = None,
        ahead: bool = False,
    ) -> None:
        self.service = service
        self.backlog = backlog
        self.started: Any = None
        """The first response of the stream as it is now."""
        self.models: list[model_pb2.ServingModel] = []
        """Those that have had a part in the turn."""
        self.moving = False
        """Whether the stream is being left for a newer model, of its own accord."""
        self._opening = opening
        self._begin = begin
        self._may_open_ahead = ahead
        self._ahead: Ahead | None = None
        self._left: set[asyncio.Task[None]] = set()
        self._cut = cut
        self._stack = AsyncExitStack()
        self._open = False
        self._drained, self._drained_at = 0, -QUIET_S
        self._patience_s = patience_s

    def begin_turn(self) -> None:
        """What is counted by the turn begins again."""
        self._drained = 0

    def forget_models(self) -> None:
        """All but the one that serves now."""
        del self.models[:-1]

    def prepare(self, active: Place) -> None:
        """Open the stream to a newer model, or to that of another slot, beside this one, which goes on."""
        if self._may_open_ahead and self._is_behind(active) and (self._ahead is None or self._ahead.place != active):
            self._give_up_ahead()
            self._ahead = Ahead(active, self._opening)

    def move(self, active: Place) -> None:
        """Go on with the newest model of the slot that is the session's now, if the stream is not there.

        At once, unless it can be opened beside this one: then as soon as that is done and this is called again.
        """
        self.prepare(active)
        if self._is_behind(active) and (self._ahead is None or self._ahead.ready):
            self.moving = True
            self.models.clear()
            self.backlog.hold()

    def _is_behind(self, active: Place) -> bool:
        if not self._open or self.moving or not active.generation or not self.started.model.slot_generation:
            return False
        is_elsewhere = active.slot != (self.started.model.slot or STABLE)
        return is_elsewhere or self.started.model.slot_generation < active.generation

    def _give_up_ahead(self) -> None:
        if self._ahead:
            leaving = asyncio.create_task(self._ahead.close())
            self._left.add(leaving)
            leaving.add_done_callback(self._left.discard)
            self._ahead = None

    async def run(self, take: Callable[[Response], Awaitable[None]]) -> None:
        """Tell the service what the backlog holds and `take` what it answers, until everything is said and answered.

        Raises ServiceFailed, alone or in a group, for what is no swap.
        """
        while not await self._exchanged(take):
            before = self.started.model
            await self.close()
            await self.open()
            self._log(before)

    async def _exchanged(self, take: Callable[[Response], Awaitable[None]]) -> bool:
        """Whether the stream has come to its end; False if it ended with its model."""
        try:
            async with asyncio.TaskGroup() as group:
                telling = group.create_task(self._tell(self.stream))
                # Only reading finds the end: what has arrived is always taken, and taken as a whole.
                async for response in self.stream:
                    await take(response)
                telling.cancel()
        except BaseExceptionGroup as ended:
            if not self._survives(ended):
                raise
            if (task := asyncio.current_task()) and task.cancelling():
                # Cancelled in the same moment: a task group raises what it has and lets the cancellation go.
                raise asyncio.CancelledError from ended
            self._count(ended)
            await self._cut()
            return self.backlog.over
        if self.moving and not self.backlog.over:
            return False
        if not self.backlog.told:
            await self.stream.first()  # raises what an early end is
        return True

    async def _tell(self, stream: Stream[Any, Any]) -> None:
        # Whoever reads learns why nothing can be sent.
        with contextlib.suppress(ServiceFailed):
            while (item := await self.backlog.next()) is not None:
                await stream.send(item)
            await stream.close()

    def _survives(self, ending: BaseException) -> bool:
        """Whether the stream goes on after that: its model's time is over, or its service is away for a while."""
        return only_drained(ending) or (self._patience_s > 0 and only(ending, is_lost))

    def _count(self, ending: BaseException) -> None:
        """Raises what has ended the stream when that happens too often."""
        now = time.monotonic()
        self._drained = self._drained + 1 if now - self._drained_at < QUIET_S else 1
        self._drained_at = now
        if self._drained > MOST_REOPENINGS:
            raise ending

    async def open(self) -> None:
        """Open the stream where it was, on the model that is active now; again if that goes meanwhile."""
        pause_s, lost_at = LEAST_PAUSE_S, time.monotonic()
        await self._take_ahead()
        while not self._open:
            try:
                self.stream, self.started = await self._stack.enter_async_context(self._opening())
                if self._begin:
                    self._begin(self.started)
            except ServiceFailed as error:
                # What was never there is not waited for.
                if not only_drained(error) and (self.started is None or not self._survives(error)):
                    raise
                if only_drained(error):
                    self._count(error)
                elif time.monotonic() - lost_at > self._patience_s:
                    raise
                else:
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                self._open, self.moving = True, False
        if self.started.model not in self.models[-1:]:
            self.models.append(self.started.model)

    async def _take_ahead(self) -> None:
        """Go on with the stream that was opened ahead, if there is one."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        self._stack.push_async_callback(ahead.close)
        if (opened := await ahead.opened()) and self._begin:
            self.stream, self.started = opened
            self._begin(self.started)
            self._open, self.moving = True, False

    def _log(self, before: model_pb2.ServingModel) -> None:
        now = self.started.model
        log.info(
            "%s: went on from %s (generation %d) to %s (generation %d)",
            *(self.service, before.model, before.slot_generation, now.model, now.slot_generation),
        )

    async def close(self) -> None:
        """Cancel the stream if it has not ended."""
        self._open = False
        await self._stack.aclose()

    async def leave(self) -> None:
        """Be done with all streams."""
        self._give_up_ahead()
        await self.close()
        if self._left:
            await asyncio.wait(self._left)


@asynccontextmanager
async def continued(
    service: str,
    opening: Opening,
    backlog: Backlog[Item],
    cut: Cut = nothing,
    patience_s: float = 0.0,
    begin: Begin | None = None,
    ahead: bool = False,
) -> AsyncIterator[Continued[Item, Any]]:
    """An open stream; `cut` is called when it has ended with its model. Raises ServiceFailed when the service refuses.

    With `patience_s`, a service that goes is waited for as long. With `begin`, `opening` only opens, and what has the stream
    go on from there is `begin`; then `ahead` has the next one opened while the one before is still in use.
    """
    made: Continued[Item, Any] = Continued(service, opening, backlog, cut, patience_s, begin, ahead)
    try:
        await made.open()
        yield made
    finally:
        await made.leave()


def only_drained(error: BaseException) -> bool:
    """Whether a model's time being over is all that is told by an error, or by all the errors of a group."""
    return only(error, is_drained)


def only(error: BaseException, kind: Callable[[ServiceFailed], bool]) -> bool:
    """Whether an error, or each of a group, is a failure of a service of that kind."""
    if isinstance(error, BaseExceptionGroup):
        return all(only(inner, kind) for inner in error.exceptions)
    return isinstance(error, ServiceFailed) and kind(error)


def is_lost(error: ServiceFailed) -> bool:
    """Whether a service has gone, or its model has."""
    return error.outcome.code is grpc.StatusCode.UNAVAILABLE


def is_drained(error: ServiceFailed) -> bool:
    info = detail(error, error_details_pb2.ErrorInfo) if is_lost(error) else None
    return info is not None and (info.domain, info.reason) == (statuses.DOMAIN, DRAINED)


def unknown_voice(error: ServiceFailed) -> bool:
    """Whether a service has no such voice."""
    info = detail(error, error_details_pb2.ResourceInfo)
    return error.outcome.code is grpc.StatusCode.NOT_FOUND and info is not None and info.resource_type == "voice"


def detail(error: ServiceFailed, kind: type[Detail]) -> Detail | None:
    """The detail of that kind in the status of a failure."""
    raw = dict(error.outcome.trailing).get(DETAILS_KEY)
    if not isinstance(raw, bytes):
        return None
    found = kind()
    wrapped = status_pb2.Status.FromString(raw).details
    return found if any(each.Unpack(found) for each in wrapped) else None
