"""The control plane over HTTP: what AdminService offers, in JSON."""

import re
from bisect import bisect_right
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import ValidationError

from gateway.admin import (
    Administration,
    audit_proto,
    catalog_model,
    decision_proto,
    flag_proto,
    slot_change,
    verdict_proto,
)
from gateway.experiments.flags import Flag
from gateway.experiments.registry import of_user
from gateway.http.admin import models
from gateway.http.admin.models import Author, Name, answered
from gateway.http.errors import RESPONSES, ErrorBody, Wrong
from gateway.outcomes import telling
from services.runtime.desired import NAME
from services.runtime.errors import InvalidInput, Outrun
from talkmesh.admin.v1 import admin_pb2
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.model.v1 import model_pb2

MOST_PAGE = 1_000
Named = Annotated[str, Path(pattern=NAME)]
Limit = Annotated[int, Query(ge=0, le=1000, description="0 is 20")]
Actor = Annotated[models.Text, Query(max_length=200, description="ignored where the caller is known by its token")]
Reason = Annotated[models.Text, Query()]
CHANGED: dict[int | str, dict[str, object]] = {
    412: {"model": ErrorBody, "description": "It does not stand where If-Match says: read it again"}
}


def router_of(admin: Administration) -> APIRouter:
    """All routes below /api/admin."""
    router = APIRouter(prefix="/api/admin", responses=RESPONSES)
    for part in (models_router, slots_router, flags_router, endings_router, records_router):
        router.include_router(part(admin))
    return router


def models_router(admin: Administration) -> APIRouter:
    router = APIRouter(tags=["models"])

    @router.get("/models")
    async def list_models(service: Name | None = None) -> models.Models:
        """The catalog of one service or of all, and the hosts that have models loaded."""
        found = await admin.control.catalog(service or "")
        problems = (model_pb2.Problem(key=each.key, field=each.field, reason=each.reason) for each in found.problems)
        listed = admin_pb2.ListCatalogResponse(models=map(catalog_model, found.entries), problems=problems)
        return answered(models.Models, listed)

    @router.put("/vetoes/{service}/{model}", status_code=204, response_class=Response)
    async def veto_model(service: Named, model: Named, author: Author) -> Response:
        """Keep a model out of every slot. One that is serving stays: roll it back first."""
        await admin.control.set_veto(service, model, True, actor=author.actor, reason=author.reason)
        return Response(status_code=204)

    @router.delete("/vetoes/{service}/{model}", status_code=204, response_class=Response)
    async def unveto_model(service: Named, model: Named, actor: Actor = "", reason: Reason = "") -> Response:
        """Let it in again."""
        await admin.control.set_veto(service, model, False, actor=actor, reason=reason)
        return Response(status_code=204)

    @router.post("/evictions/{service}/{model}", status_code=204, response_class=Response)
    async def evict_model(service: Named, model: Named, author: Author) -> Response:
        """Free the memory of a warm model that no slot wants."""
        await admin.control.evict(service, model, actor=author.actor, reason=author.reason)
        return Response(status_code=204)

    @router.put("/preloads/{service}/{model}", status_code=204, response_class=Response)
    async def preload_model(service: Named, model: Named, author: Author) -> Response:
        """Keep a model warm on every host before it is asked for."""
        await admin.control.preload(service, model, True, actor=author.actor, reason=author.reason)
        return Response(status_code=204)

    @router.delete("/preloads/{service}/{model}", status_code=204, response_class=Response)
    async def unpreload_model(service: Named, model: Named, actor: Actor = "", reason: Reason = "") -> Response:
        """Keep it warm no longer."""
        await admin.control.preload(service, model, False, actor=actor, reason=reason)
        return Response(status_code=204)

    return router


def slots_router(admin: Administration) -> APIRouter:
    router = APIRouter(tags=["slots"])

    @router.get("/hosts")
    async def list_hosts() -> models.Hosts:
        """Every host, what its slots serve and what they want."""
        admin.control.require_etcd()
        async with aclosing(admin.observed.changes()) as changes:
            now = await anext(changes)
        hosts = [answered(models.HostState, host) for host in now.hosts]
        return models.Hosts(hosts=hosts, fresh=now.fresh)

    @router.put("/slots/{service}/{slot}")
    async def set_slot(service: Named, slot: Named, wish: models.SlotWishes) -> models.SlotChange:
        """Want a model in a slot; the hosts load it beside what they serve, and switch."""
        change = await admin.control.set_slot(
            service,
            wish.model,
            slot,
            expected=wish.expected_model,
            drain_s=wish.drain_s,
            standby_s=wish.standby_s,
            actor=wish.actor,
            reason=wish.reason,
        )
        return answered(models.SlotChange, slot_change(change))

    @router.post("/slots/{service}/{slot}/rollback")
    async def roll_back(service: Named, slot: Named, author: Author) -> models.SlotChange:
        """Want in a slot again what it wanted before."""
        change = await admin.control.roll_back(service, slot, actor=author.actor, reason=author.reason)
        return answered(models.SlotChange, slot_change(change))

    @router.get("/history/{service}/{slot}")
    async def list_history(service: Named, slot: Named, limit: Limit = 0) -> models.Changes:
        """What a slot wanted, by whom and why: newest first."""
        found = await admin.control.history(service, slot, limit)
        return answered(models.Changes, admin_pb2.ListHistoryResponse(changes=map(slot_change, found)))

    return router


def records_router(admin: Administration) -> APIRouter:
    router = APIRouter(tags=["records"])

    @router.get("/audit")
    async def list_audit(
        limit: Limit = 0,
        before: Annotated[str, Query(pattern=r"^([0-9]{15}-[0-9a-f]{1,64})?$", description="place of an entry")] = "",
    ) -> models.Audit:
        """Every change, by whom and why, what was before and after: newest first."""
        found = await admin.control.audit(limit, before)
        entries = admin_pb2.ListAuditResponse(entries=(audit_proto(*each) for each in found))
        return answered(models.Audit, entries)

    @router.get("/verdicts")
    async def list_verdicts(flag: Name | None = None, limit: Limit = 0) -> models.Verdicts:
        """What was decided about experiments, and the numbers that caused it: newest first."""
        found = await admin.flags.verdicts(flag or "", limit)
        return answered(models.Verdicts, admin_pb2.ListVerdictsResponse(verdicts=map(verdict_proto, found)))

    @router.post("/decide")
    async def decide(who: models.Who) -> models.Decisions:
        """Who would get what, and why. Nothing is opened, and nobody is counted."""
        said = conversation_pb2.Who(
            user_id=who.user_id, device_id=who.device_id, attributes=who.attributes, tags=who.tags
        )
        units, attributes = of_user(said, "")
        decisions = admin.flags.decide(units, attributes, who.flag or "")
        return answered(models.Decisions, admin_pb2.DecideResponse(decisions=map(decision_proto, decisions)))

    return router


def flags_router(admin: Administration) -> APIRouter:
    router = APIRouter(prefix="/flags", tags=["experiments"])

    @router.get("")
    async def list_flags(
        limit: Annotated[int, Query(ge=1, le=MOST_PAGE)] = 100,
        after: Annotated[str, Query(pattern=rf"^$|{NAME}", description="the last name of the page before")] = "",
    ) -> models.Flags:
        """The experiments by name, and what keeps them from enrolling anybody."""
        found = await admin.flags.written()
        start = bisect_right([each.name for each in found], after)
        page = found[start : start + limit]
        states = [answered(models.FlagState, flag_proto(each, admin.shadows)) for each in page]
        last = page[-1].name if page and start + limit < len(found) else None
        return models.Flags(flags=states, total=len(found), next=last)

    @router.get("/{flag}")
    async def get_flag(flag: Named, response: Response) -> models.FlagState:
        """One of them; its ETag is where it stands."""
        found = await admin.flags.one_written(flag)
        response.headers["ETag"] = f'"{found.revision}"'
        return answered(models.FlagState, flag_proto(found, admin.shadows))

    @router.put("/{flag}", responses=CHANGED)
    async def put_flag(
        flag: Named,
        value: Flag,
        request: Request,
        response: Response,
        if_match: Annotated[str | None, Header()] = None,
        if_none_match: Annotated[str | None, Header(description="* writes only what is not there yet")] = None,
    ) -> models.Stands:
        """Write an experiment, as docs/experiments.md has it. Its `actor` and `reason` go to the audit."""
        # As it was written, and each of its values of the very type: a person's mistake is not to be guessed at.
        text = await text_of(request)
        check_strictly(text)
        expected = 0 if if_none_match == "*" else revision_in(if_match)
        try:
            revision = await admin.flags.put(flag, text, expected, actor=value.actor, reason=value.reason)
        except Outrun as error:
            raise conditional(error, expected) from None
        response.headers["ETag"] = f'"{revision}"'
        return models.Stands(flag=flag, revision=revision)

    @router.delete("/{flag}", status_code=204, response_class=Response, responses=CHANGED)
    async def delete_flag(
        flag: Named,
        actor: Actor = "",
        reason: Reason = "",
        if_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Take an experiment away: everybody gets what everybody gets, from their next stream on."""
        expected = revision_in(if_match)
        try:
            await admin.flags.delete(flag, expected, actor=actor, reason=reason)
        except Outrun as error:
            raise conditional(error, expected) from None
        return Response(status_code=204)

    return router


def endings_router(admin: Administration) -> APIRouter:
    """What an experiment came to."""
    router = APIRouter(prefix="/flags", tags=["experiments"])

    @router.post("/{flag}/promote")
    async def promote(flag: Named, promoted: models.Promoted) -> models.Changes:
        """Make a variant what everybody gets, and end the experiment, in one transaction."""
        changes = await admin.promotion.promote(flag, promoted.variant, actor=promoted.actor, reason=promoted.reason)
        return answered(models.Changes, admin_pb2.PromoteResponse(changes=map(slot_change, changes)))

    @router.get("/{flag}/results")
    async def get_results(
        flag: Named, alpha: Annotated[float, Query(ge=1e-6, le=0.5, allow_inf_nan=False)] = 0.05
    ) -> models.Results:
        """What became of the sessions of an experiment, arm by arm, with limits that hold however often one looks."""
        return answered(models.Results, telling.told(await admin.results(flag, alpha)))

    return router


async def text_of(request: Request) -> str:
    """A body as text. Raises InvalidInput, and Wrong for one that is too large."""
    try:
        return (await request.body()).decode()
    except UnicodeDecodeError:
        raise InvalidInput("body", "is not UTF-8", "JSON") from None


def check_strictly(text: str) -> None:
    """Raises InvalidInput naming the field of a flag whose value is not of the type that it should have."""
    try:
        Flag.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(".".join(map(str, first["loc"])) or "body", first["msg"]) from None


def revision_in(if_match: str | None) -> int | None:
    """Where a client believes that something stands. Raises InvalidInput."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = re.fullmatch(r'(?:W/)?"([0-9]{1,18})"', if_match.strip(), re.ASCII)
    if found is None:
        raise InvalidInput("If-Match", f"is {if_match[:40]!r}", "an ETag of this flag")
    return int(found[1])


def conditional(error: Outrun, expected: int | None) -> Exception:
    """Somebody else was first: of a request with a condition, that it does not hold."""
    return error if expected is None else Wrong(412, "If-Match", str(error))
