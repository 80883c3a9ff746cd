"""How a call that one has made really ended."""

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import grpc

# What grpc.aio puts in place of the status when a write fails because the other side has ended the call
# (https://github.com/grpc/grpc/issues/36066).
OVERWRITTEN = (grpc.StatusCode.INTERNAL, "Internal error from Core")
PATIENCE_S = 0.5
# The trailing metadata that carries a status's details.
DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class Outcome:
    """The status of a call, with its trailing metadata."""

    code: grpc.StatusCode
    details: str
    trailing: tuple[tuple[str, str | bytes], ...]


class Ending:
    """Keeps the status of a streaming grpc.aio call as the other side sent it.

    A caller that still writes when the other side ends the call (a refusal in mid-stream, a death) may find INTERNAL on the
    call instead of the status that came, before it or just after. Made together with the call, this sees both.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._kept: Outcome | None = None
        self._told = asyncio.Event()
        call.add_done_callback(self._keep)

    async def outcome(self) -> Outcome:
        """The call's outcome; waits for its end."""
        await self._call.code()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), PATIENCE_S)
        return self._kept or outcome_now(self._call)

    def _keep(self, call: Any) -> None:
        """Called each time that grpc.aio sets the status."""
        found = outcome_now(call)
        if (found.code, found.details) != OVERWRITTEN:
            self._kept = self._kept or found
            self._told.set()


def outcome_now(call: Any) -> Outcome:
    """The outcome that an ended call has at this moment."""
    trailing = finished(call.trailing_metadata()) or ()
    return Outcome(
        finished(call.code()),
        finished(call.details()) or "",
        tuple((str(key), value) for key, value in trailing),
    )


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as result:
        return result.value
    coroutine.close()
    raise RuntimeError("the call has not ended")
