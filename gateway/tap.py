"""A host's channel as the stubs of one session see it: they know when streams begin, and how they end."""

from collections.abc import Callable
from typing import Any

import grpc
from google.rpc import error_details_pb2

from gateway.host import Host
from services.runtime.engine import WANTED_SLOT_KEY
from talkmesh.errors import details
from talkmesh.outcomes import OVERWRITTEN, Outcome, outcome_now

Begun = Callable[[Host], None]
Ended = Callable[[Host, Outcome, str], None]
Copy = Callable[[Any, Callable[[str], Any]], Any]


class Tap:
    """Stands in for a channel where a stub is made. The calls are grpc's own, nothing is between them and the wire."""

    def __init__(self, host: Host, begun: Begun, ended: Ended, slot: str = "", copy: Copy | None = None) -> None:
        """`ended` is told the outcome, and the reason in its error details ("" without one). `slot`: "" is "stable".

        `copy` is given each call, and what begins another like it in a slot; it gives what its owner uses in its place.
        """
        self._host = host
        self._copy = copy
        self._options = in_slot(slot)
        self._begun = begun
        self._ended = ended

    def stream_stream(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        """A method of the service, as the generated stubs ask for it."""
        method: Any = self._host.channel.stream_stream(*arguments, **options)

        def begin(*arguments: Any, **options: Any) -> Any:
            call = method(*arguments, **self._options, **options)
            self._host.begun()
            self._begun(self._host)
            call.add_done_callback(Once(self._host.ended, self._tell))
            return self._copy(call, lambda slot: method(*arguments, **in_slot(slot), **options)) if self._copy else call

        return begin

    def _tell(self, outcome: Outcome) -> None:
        reason = reason_of(outcome)
        if outcome.code is grpc.StatusCode.UNAVAILABLE and not reason:
            # Nobody has said this: the connection is lost, or never was.
            self._host.doubt()
        self._ended(self._host, outcome, reason)


def in_slot(slot: str) -> dict[str, Any]:
    """What a call says of the slot that it is to be served by; "" leaves it to the host."""
    return {"metadata": ((WANTED_SLOT_KEY, slot),)} if slot else {}


class Once:
    """Tells once that a call is over, and once how it ended: the first status that grpc.aio sets may be made up."""

    def __init__(self, over: Callable[[], None], tell: Callable[[Outcome], None]) -> None:
        self._waiting: list[Callable[[], None]] = [over]
        self._tell: Callable[[Outcome], None] | None = tell

    def __call__(self, call: Any) -> None:
        while self._waiting:
            self._waiting.pop()()
        outcome = outcome_now(call)
        if self._tell and (outcome.code, outcome.details) != OVERWRITTEN:
            tell, self._tell = self._tell, None
            tell(outcome)


def reason_of(outcome: Outcome) -> str:
    """Why a call failed, in the word of whoever ended it, such as "DRAINED"."""
    info = error_details_pb2.ErrorInfo()
    return next((info.reason for detail in details(outcome) if detail.Unpack(info)), "")
