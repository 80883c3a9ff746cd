from collections.abc import Callable

import grpc

from talkmesh.outcomes import OVERWRITTEN, Ending

Code = grpc.StatusCode


class Call:
    """A call as grpc.aio's: its status is set from outside, maybe more than once."""

    def __init__(self) -> None:
        self._status: tuple[grpc.StatusCode, str] = (Code.UNKNOWN, "")
        self._callbacks: list[Callable[[Call], None]] = []

    def add_done_callback(self, callback: Callable[["Call"], None]) -> None:
        self._callbacks.append(callback)

    def set(self, code: grpc.StatusCode, details: str) -> None:
        self._status = (code, details)
        for callback in self._callbacks:
            callback(self)

    async def code(self) -> grpc.StatusCode:
        return self._status[0]

    async def details(self) -> str:
        return self._status[1]

    async def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("key", "value"),)


async def test_a_status_that_a_failed_write_replaces_is_kept() -> None:
    call = Call()
    ending = Ending(call)
    call.set(Code.NOT_FOUND, "no such voice")
    call.set(*OVERWRITTEN)
    ended = await ending.outcome()
    assert (ended.code, ended.details, ended.trailing) == (Code.NOT_FOUND, "no such voice", (("key", "value"),))


async def test_a_status_that_follows_a_failed_write_is_waited_for() -> None:
    call = Call()
    ending = Ending(call)
    call.set(*OVERWRITTEN)
    call.set(Code.OK, "")
    assert (await ending.outcome()).code is Code.OK


async def test_an_internal_error_that_nothing_follows_stays_one() -> None:
    call = Call()
    ending = Ending(call)
    call.set(*OVERWRITTEN)
    assert (await ending.outcome()).code is Code.INTERNAL
