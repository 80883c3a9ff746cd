"""What a call can fail with, as the client sees it."""

from collections.abc import Iterable

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from talkmesh.outcomes import DETAILS_KEY, Outcome


class TalkmeshError(Exception):
    """A call to a talkmesh gateway failed.

    `code` is the gRPC status code's name; `field` the input that was wrong, if one was; `retry_after_s` the time after
    which the same call may succeed, None if trying again does not help.
    """

    def __init__(self, message: str, code: str, field: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.field = field
        self.retry_after_s = retry_after_s

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return self.retry_after_s is not None


class WavError(TalkmeshError):
    """A file is not a WAV that can be sent."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "INVALID_ARGUMENT", "wav")


def from_outcome(outcome: Outcome, address: str) -> TalkmeshError:
    """The error that a failed call stands for."""
    field, retry_after_s, detailed = "", None, False
    for detail in details(outcome):
        detailed = True
        violations, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(violations) and violations.field_violations:
            field = violations.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    message = outcome.details or outcome.code.name
    if outcome.code is grpc.StatusCode.UNAVAILABLE and not detailed:
        message, retry_after_s = f"no talkmesh gateway answers at {address} ({message})", 1.0
    return TalkmeshError(message, outcome.code.name, field, retry_after_s)


def details(outcome: Outcome) -> Iterable[any_pb2.Any]:
    """The google.rpc error details that came with a status."""
    encoded = dict(outcome.trailing).get(DETAILS_KEY, b"")
    return status_pb2.Status.FromString(encoded).details if isinstance(encoded, bytes) else ()
