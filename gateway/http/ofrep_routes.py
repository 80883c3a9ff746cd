"""The OpenFeature Remote Evaluation Protocol, 0.3 (https://openfeature.dev/docs/reference/other-technologies/ofrep/).

A flag's value is the name of the variant; without a variant the caller's own default holds, and there is no value.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from gateway.experiments.contexts import of_context
from gateway.experiments.registry import Registry
from gateway.http.admin.routes import text_of
from gateway.http.errors import RESPONSES
from services.runtime.errors import InvalidInput

ErrorCode = Literal["PARSE_ERROR", "INVALID_CONTEXT", "TARGETING_KEY_MISSING", "FLAG_NOT_FOUND", "GENERAL"]


class Evaluated(BaseModel):
    """What a flag is to somebody. Without `value`, the caller's own default."""

    key: str
    value: str | None = None
    variant: str | None = None
    reason: str
    metadata: dict[str, str | bool] = Field(default_factory=dict)


class Failed(BaseModel):
    key: str | None = None
    errorCode: ErrorCode
    errorDetails: str


class All(BaseModel):
    flags: list[Evaluated]


class NotToBeHad(Exception):
    """Why nothing is evaluated."""

    def __init__(self, code: ErrorCode, details: str) -> None:
        self.code = code
        self.details = details
        super().__init__(details)


WRONG: dict[int | str, dict[str, Any]] = {
    400: {"model": Failed, "description": "The context is missing, or not one"},
    413: RESPONSES[413],
    503: RESPONSES[503],
}
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Failed, "description": "There is no such flag"}}
SAME: dict[int | str, dict[str, Any]] = {304: {"description": "All is as the ETag of If-None-Match says"}}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["context"],
                    "properties": {
                        "context": {
                            "type": "object",
                            "required": ["targetingKey"],
                            "properties": {"targetingKey": {"type": "string", "minLength": 1}},
                        }
                    },
                }
            }
        },
    }
}


def router_of(experiments: Registry) -> APIRouter:
    """Both routes."""
    router = APIRouter(prefix="/ofrep/v1/evaluate", tags=["OpenFeature"], responses=WRONG)

    def evaluated(name: str, key: str, context: dict[str, Any]) -> Evaluated:
        decision = experiments.decide(name, *of_context(key, context))
        metadata: dict[str, str | bool] = {"why": decision.why} if decision.why else {}
        if experiments.stale:
            metadata["stale"] = True
        reason = "STALE" if experiments.stale and decision.variant else decision.reason.value
        variant = decision.variant or None
        return Evaluated(key=name, value=variant, variant=variant, reason=reason, metadata=metadata)

    @router.post("/flags/{key}", response_model=Evaluated, responses=UNKNOWN, openapi_extra=BODY)
    async def evaluate_flag(key: Annotated[str, Path()], request: Request) -> Response:
        """What one flag is to somebody."""
        try:
            who, context = await context_of(request)
        except NotToBeHad as error:
            return failed(400, error.code, error.details, key)
        if key not in experiments.names:
            return failed(404, "FLAG_NOT_FOUND", f"there is no flag {key[:100]!r}", key)
        return answer(evaluated(key, who, context))

    @router.post("/flags", response_model=All, responses=SAME, openapi_extra=BODY)
    async def evaluate_flags(request: Request, if_none_match: Annotated[str | None, Header()] = None) -> Response:
        """What all flags are to somebody."""
        try:
            who, context = await context_of(request)
        except NotToBeHad as error:
            return failed(400, error.code, error.details)
        response = answer(All(flags=[evaluated(name, who, context) for name in sorted(experiments.names)]))
        etag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:32]}"'
        if if_none_match == etag:
            return Response(status_code=304, headers={"ETag": etag})
        response.headers["ETag"] = etag
        return response

    return router


async def context_of(request: Request) -> tuple[str, dict[str, Any]]:
    """Targeting key and attributes of a request. Raises NotToBeHad."""
    try:
        body = json.loads(await text_of(request))
    except (ValueError, RecursionError, InvalidInput) as error:
        raise NotToBeHad("PARSE_ERROR", f"the body is no JSON: {error}") from None
    context = body.get("context") if isinstance(body, dict) else None
    if not isinstance(context, dict):
        raise NotToBeHad("INVALID_CONTEXT", "context is missing, or no object")
    key = context.get("targetingKey")
    if key is None or key == "":
        raise NotToBeHad("TARGETING_KEY_MISSING", "context.targetingKey is missing: the user's id")
    if not isinstance(key, str):
        raise NotToBeHad("INVALID_CONTEXT", "context.targetingKey is no string")
    return key, context


def answer(found: BaseModel) -> JSONResponse:
    return JSONResponse(found.model_dump(exclude_none=True))


def failed(status: int, code: ErrorCode, details: str, key: str | None = None) -> JSONResponse:
    body = Failed(key=key, errorCode=code, errorDetails=details[:500])
    return JSONResponse(body.model_dump(exclude_none=True), status)
