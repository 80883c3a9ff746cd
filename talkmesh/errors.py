"""What a call can fail with, as the client sees it."""

from typing import Any, cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


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


def from_rpc(error: grpc.aio.AioRpcError, address: str) -> TalkmeshError:
    """The error that a failed call stands for."""
    field, retry_after_s = "", None
    status = rpc_status.from_call(cast(grpc.Call, _Failed(error)))
    for detail in status.details if status else ():
        violations, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(violations) and violations.field_violations:
            field = violations.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    message = error.details() or error.code().name
    if error.code() is grpc.StatusCode.UNAVAILABLE and status is None:
        message, retry_after_s = f"no talkmesh gateway answers at {address} ({message})", 1.0
    return TalkmeshError(message, error.code().name, field, retry_after_s)


class _Failed:
    """An AioRpcError in the shape that grpc_status reads: it asks for the code by a call and for its value."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self._error = error

    def code(self) -> grpc.StatusCode:
        return self._error.code()

    def details(self) -> str | None:
        return self._error.details()

    def trailing_metadata(self) -> Any:
        return self._error.trailing_metadata()
