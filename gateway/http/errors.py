"""Errors as HTTP responses, all of one shape: {"error": {"code", "field"?, "message", "retry_after_s"?}}."""

import logging
import math
from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from gateway.webrtc.faults import Fault, fault_of
from services.runtime.errors import DomainError, OverLimit, Unauthenticated

STATUSES = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 503,
    "UNAVAILABLE": 503,
}
CODES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "FAILED_PRECONDITION",
    412: "ABORTED",
    503: "UNAVAILABLE",
}
log = logging.getLogger(__name__)


class ErrorDetail(BaseModel):
    """What is wrong: `code` is the name of a gRPC status, `field` the input that is meant."""

    code: str
    message: str
    field: str | None = None
    retry_after_s: float | None = None


class ErrorBody(BaseModel):
    """Every response with a status of 400 or more."""

    error: ErrorDetail


RESPONSES: dict[int | str, dict[str, object]] = {
    400: {"model": ErrorBody, "description": "Something sent is not right; `field` names it"},
    401: {"model": ErrorBody, "description": "No token, or one that does not hold (any more)"},
    403: {"model": ErrorBody, "description": "The token's holder may not do this"},
    404: {"model": ErrorBody, "description": "Not known, or not any more"},
    409: {"model": ErrorBody, "description": "The state of things does not allow it"},
    413: {"model": ErrorBody, "description": "More than 65,536 bytes"},
    429: {"model": ErrorBody, "description": "The token's holder has had enough for now; see Retry-After"},
    503: {"model": ErrorBody, "description": "Not now; Retry-After tells when to try again"},
}


class Wrong(HTTPException):
    """A request that is wrong in a way that HTTP has a status of its own for."""

    def __init__(self, status: int, field: str, message: str) -> None:
        self.fault = Fault(CODES.get(status, "INVALID_ARGUMENT"), message, field)
        super().__init__(status, message)


def response_of(fault: Fault, status: int = 0, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response that tells of a fault."""
    headers = dict(headers or {})
    if fault.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(fault.retry_after_s)))
    return JSONResponse({"error": fault.as_json()}, status or STATUSES.get(fault.code, 500), headers)


def told(error: DomainError) -> JSONResponse:
    """The response that tells of a domain error. That a caller has had enough is not that there is no room."""
    headers = {"WWW-Authenticate": 'Bearer realm="talkmesh"'} if isinstance(error, Unauthenticated) else {}
    return response_of(fault_of(error), 429 if isinstance(error, OverLimit) else 0, headers)


async def on_domain_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, DomainError)
    return told(error)


async def on_wrong(_: Request, error: Exception) -> Response:
    assert isinstance(error, Wrong)
    return response_of(error.fault, error.status_code)


async def on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("query", "body", "path")]
    return response_of(Fault("INVALID_ARGUMENT", str(first["msg"]), ".".join(place) or "body"), 400)


async def on_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, "INVALID_ARGUMENT" if error.status_code < 500 else "INTERNAL")
    return response_of(Fault(code, str(error.detail)), error.status_code, error.headers)


async def on_defect(request: Request, error: Exception) -> Response:
    """A defect is logged with its traceback by uvicorn, and told without internals."""
    return response_of(Fault("INTERNAL", f"{request.method} {request.url.path}: {type(error).__name__}"), 500)


def told_as_json(app: FastAPI) -> None:
    """Have an app answer with these."""
    app.add_exception_handler(DomainError, on_domain_error)
    app.add_exception_handler(Wrong, on_wrong)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_defect)
