"""What is kept of a stream, and when it is opened again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from gateway.continuing import Backlog, continued, only_drained, unknown_voice
from gateway.mesh import Place, ServiceFailed
from services.runtime.errors import DomainError, Drained, NotFound, Unavailable
from services.runtime.statuses import status_of
from talkmesh.model.v1 import model_pb2
from talkmesh.outcomes import DETAILS_KEY, Outcome
from talkmesh.tts.v1 import tts_pb2


def failed(error: DomainError, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> ServiceFailed:
    return ServiceFailed("tts", Outcome(code, str(error), ((DETAILS_KEY, status_of(error).SerializeToString()),)))


def test_only_a_drained_stream_is_told_from_all_failures() -> None:
    assert only_drained(failed(Drained("over")))
    assert only_drained(ExceptionGroup("", [failed(Drained("over")), ExceptionGroup("", [failed(Drained("over"))])]))
    assert not only_drained(failed(Unavailable("killed")))
    assert not only_drained(ExceptionGroup("", [failed(Drained("over")), failed(Unavailable("killed"))]))
    assert not only_drained(ExceptionGroup("", [failed(Drained("over")), ValueError()]))
    assert not only_drained(ServiceFailed("tts", Outcome(grpc.StatusCode.UNAVAILABLE, "DRAINED", ())))


def test_a_voice_is_what_is_unknown_of_all_that_can_be() -> None:
    assert unknown_voice(failed(NotFound("voice", "joe"), grpc.StatusCode.NOT_FOUND))
    assert not unknown_voice(failed(NotFound("style", "joe"), grpc.StatusCode.NOT_FOUND))
    assert not unknown_voice(failed(Drained("over")))


async def test_backlog_tells_again_what_was_not_answered() -> None:
    backlog = Backlog[int]()
    for item in range(5):
        backlog.add(item)
    assert [await backlog.next() for _ in range(4)] == [0, 1, 2, 3]
    assert backlog.answered(1) == 1
    backlog.keep(lambda item: item != 2)
    backlog.begin_again(backlog.kept)
    backlog.close()
    assert [await backlog.next() for _ in range(4)] == [1, 3, 4, None]
    assert backlog.told
    assert not backlog.over
    backlog.answered(9)
    assert backlog.over


async def test_backlog_forgets_only_what_was_told() -> None:
    backlog = Backlog[int]()
    backlog.add(1)
    assert backlog.answered(1) == 0
    backlog.keep(lambda _: False)
    assert await backlog.next() == 1


async def test_held_backlog_waits_for_the_next_stream() -> None:
    backlog = Backlog[int]()
    waiting = asyncio.create_task(backlog.next())
    await asyncio.sleep(0)
    backlog.hold()
    backlog.add(1)
    assert await waiting is None
    backlog.begin_again(backlog.kept)
    assert await backlog.next() == 1


async def test_room_comes_as_things_are_told() -> None:
    backlog = Backlog[int]()
    for item in range(3):
        backlog.add(item)
    waiting = asyncio.create_task(backlog.room(2))
    await asyncio.sleep(0)
    assert not waiting.done()
    await backlog.next()
    await asyncio.wait_for(waiting, 1)


class SlowToStop:
    """A stream that is drained at once, while what is being sent takes a moment to be stopped."""

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping

    async def send(self, request: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self._stopping.set()
            await asyncio.sleep(0.05)

    async def __aiter__(self) -> AsyncIterator[Any]:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        raise failed(Drained("over"))
        yield


async def test_stream_that_is_cancelled_in_the_moment_it_is_drained_is_not_opened_again() -> None:
    stopping, opened = asyncio.Event(), 0

    @asynccontextmanager
    async def opening() -> AsyncIterator[tuple[Any, Any]]:
        nonlocal opened
        opened += 1
        yield SlowToStop(stopping), tts_pb2.SynthesisStarted(model=model_pb2.ServingModel(model="joe"))

    async def take(response: Any) -> None:
        raise AssertionError("nothing is answered")

    backlog = Backlog[int]()
    backlog.add(1)
    async with continued("tts", opening, backlog) as stream:
        running = asyncio.create_task(stream.run(take))
        await asyncio.wait_for(stopping.wait(), 5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, 5)
    assert opened == 1


class Echo:
    """A stream of one model that answers each number with its own generation, until it is told nothing more."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.over = False
        self._told: asyncio.Queue[int | None] = asyncio.Queue()

    async def send(self, request: int) -> None:
        self._told.put_nowait(request)

    async def close(self) -> None:
        self._told.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[tuple[int, int]]:
        while (request := await self._told.get()) is not None:
            yield self.generation, request


class Swapped:
    """A service whose newest generation a test chooses; streams open when they may."""

    def __init__(self) -> None:
        self.newest = 1
        self.slot = "stable"
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.refuses: DomainError | None = None
        self.streams: list[Echo] = []
        self.open = 0
        self.begun: list[int] = []
        self.backlog = Backlog[int]()
        self.answers: asyncio.Queue[tuple[int, int]] = asyncio.Queue()

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[tuple[Any, Any]]:
        stream = Echo(self.newest)
        await self.may_open.wait()
        if self.refuses:
            raise failed(self.refuses)
        self.streams.append(stream)
        self.open += 1
        try:
            yield (
                stream,
                tts_pb2.SynthesisStarted(
                    model=model_pb2.ServingModel(slot=self.slot, slot_generation=stream.generation)
                ),
            )
        finally:
            self.open -= 1

    def begin(self, started: tts_pb2.SynthesisStarted) -> None:
        self.begun.append(started.model.slot_generation)
        self.backlog.begin_again(self.backlog.kept)

    async def take(self, answer: tuple[int, int]) -> None:
        self.backlog.answered(1)
        self.answers.put_nowait(answer)

    async def answer(self, request: int) -> tuple[int, int]:
        self.backlog.add(request)
        return await asyncio.wait_for(self.answers.get(), 5)


@asynccontextmanager
async def following(service: Swapped) -> AsyncIterator[Any]:
    """A stream that opens the next one ahead, and runs."""
    async with continued("render", service.opening, service.backlog, begin=service.begin, ahead=True) as stream:
        running = asyncio.create_task(stream.run(service.take))
        yield stream
        running.cancel()
        await asyncio.wait((running,))


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_next_stream_is_opened_beside_the_one_that_goes_on() -> None:
    service = Swapped()
    async with following(service) as stream:
        assert await service.answer(1) == (1, 1)
        service.newest = 2
        service.may_open.clear()
        stream.move(Place(2))
        await settle()
        stream.move(Place(2))
        assert await service.answer(2) == (1, 2), "it goes on while the next one takes its time"
        service.may_open.set()
        await settle()
        assert service.open == 2
        stream.prepare(Place(2))
        assert await service.answer(3) == (1, 3), "prepared is not moved"
        stream.move(Place(2))
        assert await service.answer(4) == (2, 4)
        assert (service.begun, service.open, len(service.streams)) == ([1, 2], 1, 2)
    assert service.open == 0


async def test_a_stream_that_was_opened_ahead_and_has_ended_is_not_used() -> None:
    service = Swapped()
    async with following(service) as stream:
        assert await service.answer(1) == (1, 1)
        service.newest = 2
        stream.prepare(Place(2))
        await settle()
        service.streams[-1].over = True
        stream.move(Place(2))
        assert await service.answer(2) == (2, 2)
        assert len(service.streams) == 3


async def test_only_the_newest_is_kept_ready() -> None:
    service = Swapped()
    async with following(service) as stream:
        assert await service.answer(1) == (1, 1)
        for service.newest in (2, 3):
            stream.prepare(Place(service.newest))
            await settle()
        assert service.open == 2
        stream.move(Place(3))
        assert await service.answer(2) == (3, 2)
        assert service.begun == [1, 3]


async def test_what_cannot_be_opened_ahead_is_opened_when_it_is_needed() -> None:
    service = Swapped()
    async with following(service) as stream:
        assert await service.answer(1) == (1, 1)
        service.newest, service.refuses = 2, Unavailable("not yet")
        stream.prepare(Place(2))
        await settle()
        service.refuses = None
        stream.move(Place(2))
        assert await service.answer(2) == (2, 2)
    assert service.open == 0


async def test_a_session_that_has_lost_its_slot_goes_on_in_the_other_whatever_its_generation() -> None:
    service = Swapped()
    service.newest, service.slot = 7, "candidate"
    async with following(service) as stream:
        assert await service.answer(1) == (7, 1)
        stream.move(Place(7, "candidate"))
        stream.move(Place(0, "stable"))
        assert await service.answer(2) == (7, 2), "nothing is known of the other"
        service.newest, service.slot = 3, "stable"
        stream.move(Place(3, "stable"))
        await settle()
        stream.move(Place(3, "stable"))
        assert await service.answer(3) == (3, 3)
