"""AdminService on the wire."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from gateway import catalog
from gateway.access.key_control import KeyControl
from gateway.access.key_protos import key_proto, wanted_of
from gateway.control import Control, SlotChange
from gateway.evictions import Evictions
from gateway.experiments.assignment import Decision
from gateway.experiments.control import FlagControl, Written
from gateway.experiments.promotion import Promotion
from gateway.experiments.registry import of_user
from gateway.experiments.shadowing import Figures, Shadows
from gateway.experiments.verdicts import Verdict
from gateway.observed import Observed
from gateway.outcomes.telling import Ask, Kept, asked, told
from services.runtime import statuses
from services.runtime.desired import AuditEntry, Cause
from services.runtime.etcd import Etcd
from talkmesh.admin.v1 import admin_pb2, admin_pb2_grpc
from talkmesh.model.v1 import model_pb2

ADMIN_SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name
CAUSES: dict[Cause, "admin_pb2.Cause.ValueType"] = {
    "human": admin_pb2.CAUSE_HUMAN,
    "guardrail": admin_pb2.CAUSE_GUARDRAIL,
    "crash loop": admin_pb2.CAUSE_CRASH_LOOP,
}
log = logging.getLogger(__name__)
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class Administration:
    """The operator's verbs, and what operators may know. Knows nothing of gRPC or HTTP."""

    control: Control
    observed: Observed
    flags: FlagControl
    promotion: Promotion
    shadows: Shadows
    results: Ask
    keys: KeyControl


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """Turns calls into an operator's verbs, and their failures into statuses. Made by `administered`."""

    def __init__(self, of: "Administration") -> None:
        self.of = of
        self._keys = of.keys
        self._results = of.results
        self._control = of.control
        self._observed = of.observed
        self._flags = of.flags
        self._promotion = of.promotion
        self._shadows = of.shadows

    @statuses.answered
    async def SetFlag(self, request: admin_pb2.SetFlagRequest, context: Context) -> admin_pb2.SetFlagResponse:
        expected = request.expected_revision if request.HasField("expected_revision") else None
        revision = await self._flags.put(
            request.flag, request.json, expected, actor=request.actor, reason=request.reason
        )
        return admin_pb2.SetFlagResponse(revision=revision)

    @statuses.answered
    async def DeleteFlag(self, request: admin_pb2.DeleteFlagRequest, context: Context) -> admin_pb2.DeleteFlagResponse:
        await self._flags.delete(request.flag, actor=request.actor, reason=request.reason)
        return admin_pb2.DeleteFlagResponse()

    @statuses.answered
    async def ListFlags(self, request: admin_pb2.ListFlagsRequest, context: Context) -> admin_pb2.ListFlagsResponse:
        flags = (flag_proto(each, self._shadows) for each in await self._flags.written())
        return admin_pb2.ListFlagsResponse(flags=flags)

    @statuses.answered
    async def Decide(self, request: admin_pb2.DecideRequest, context: Context) -> admin_pb2.DecideResponse:
        units, attributes = of_user(request.who, "")
        decisions = self._flags.decide(units, attributes, request.flag)
        return admin_pb2.DecideResponse(decisions=map(decision_proto, decisions))

    @statuses.answered
    async def GetResults(self, request: admin_pb2.GetResultsRequest, context: Context) -> admin_pb2.GetResultsResponse:
        return told(await self._results(request.flag, request.alpha))

    @statuses.answered
    async def Promote(self, request: admin_pb2.PromoteRequest, context: Context) -> admin_pb2.PromoteResponse:
        changes = await self._promotion.promote(
            request.flag, request.variant, actor=request.actor, reason=request.reason
        )
        return admin_pb2.PromoteResponse(changes=map(slot_change, changes))

    @statuses.answered
    async def ListVerdicts(
        self, request: admin_pb2.ListVerdictsRequest, context: Context
    ) -> admin_pb2.ListVerdictsResponse:
        verdicts = await self._flags.verdicts(request.flag, request.limit)
        return admin_pb2.ListVerdictsResponse(verdicts=map(verdict_proto, verdicts))

    @statuses.answered
    async def ListAudit(self, request: admin_pb2.ListAuditRequest, context: Context) -> admin_pb2.ListAuditResponse:
        found = await self._control.audit(request.limit, request.before)
        return admin_pb2.ListAuditResponse(entries=(audit_proto(*each) for each in found))

    @statuses.answered
    async def ListCatalog(
        self, request: admin_pb2.ListCatalogRequest, context: Context
    ) -> admin_pb2.ListCatalogResponse:
        found = await self._control.catalog(request.service)
        problems = (model_pb2.Problem(key=each.key, field=each.field, reason=each.reason) for each in found.problems)
        return admin_pb2.ListCatalogResponse(models=map(catalog_model, found.entries), problems=problems)

    @statuses.answered
    async def SetSlot(self, request: admin_pb2.SetSlotRequest, context: Context) -> admin_pb2.SetSlotResponse:
        change = await self._control.set_slot(
            request.service,
            request.model,
            request.slot,
            expected=request.expected_model if request.HasField("expected_model") else None,
            drain_s=request.drain_s if request.HasField("drain_s") else None,
            standby_s=request.standby_s if request.HasField("standby_s") else None,
            actor=request.actor,
            reason=request.reason,
        )
        return admin_pb2.SetSlotResponse(change=slot_change(change))

    @statuses.answered
    async def RollBack(self, request: admin_pb2.RollBackRequest, context: Context) -> admin_pb2.RollBackResponse:
        change = await self._control.roll_back(
            request.service, request.slot, actor=request.actor, reason=request.reason
        )
        return admin_pb2.RollBackResponse(change=slot_change(change))

    @statuses.answered
    async def SetVeto(self, request: admin_pb2.SetVetoRequest, context: Context) -> admin_pb2.SetVetoResponse:
        await self._control.set_veto(
            request.service, request.model, request.vetoed, actor=request.actor, reason=request.reason
        )
        return admin_pb2.SetVetoResponse()

    @statuses.answered
    async def Evict(self, request: admin_pb2.EvictRequest, context: Context) -> admin_pb2.EvictResponse:
        await self._control.evict(request.service, request.model, actor=request.actor, reason=request.reason)
        return admin_pb2.EvictResponse()

    @statuses.answered
    async def Preload(self, request: admin_pb2.PreloadRequest, context: Context) -> admin_pb2.PreloadResponse:
        await self._control.preload(
            request.service, request.model, request.preload, actor=request.actor, reason=request.reason
        )
        return admin_pb2.PreloadResponse()

    @statuses.answered
    async def ListHistory(
        self, request: admin_pb2.ListHistoryRequest, context: Context
    ) -> admin_pb2.ListHistoryResponse:
        changes = await self._control.history(request.service, request.slot, request.limit)
        return admin_pb2.ListHistoryResponse(changes=map(slot_change, changes))

    @statuses.answered
    async def CreateKey(self, request: admin_pb2.CreateKeyRequest, context: Context) -> admin_pb2.CreateKeyResponse:
        issued, key = await self._keys.create(wanted_of(request), actor=request.actor, reason=request.reason)
        return admin_pb2.CreateKeyResponse(key=key_proto(issued.id, key), token=issued.token)

    @statuses.answered
    async def ListKeys(self, request: admin_pb2.ListKeysRequest, context: Context) -> admin_pb2.ListKeysResponse:
        return admin_pb2.ListKeysResponse(keys=(key_proto(*each) for each in (await self._keys.list()).items()))

    @statuses.answered
    async def RevokeKey(self, request: admin_pb2.RevokeKeyRequest, context: Context) -> admin_pb2.RevokeKeyResponse:
        key = await self._keys.revoke(request.id, actor=request.actor, reason=request.reason)
        return admin_pb2.RevokeKeyResponse(key=key_proto(request.id, key))

    @statuses.told_as_status
    async def WatchMesh(
        self, request: admin_pb2.WatchMeshRequest, context: Context
    ) -> AsyncIterator[admin_pb2.WatchMeshResponse]:
        self._control.require_etcd()
        async with contextlib.aclosing(self._observed.changes()) as changes:
            async for change in changes:
                yield admin_pb2.WatchMeshResponse(
                    hosts=change.hosts,
                    gone=(admin_pb2.HostName(service=service, instance=name) for service, name in change.gone),
                    freshness=model_pb2.FRESHNESS_CURRENT if change.fresh else model_pb2.FRESHNESS_STALE,
                )


@asynccontextmanager
async def administered(
    etcd: Etcd | None,
    stopping: asyncio.Event,
    flags: FlagControl,
    shadows: Shadows | None = None,
    kept: Kept | None = None,
) -> AsyncIterator[AdminServicer]:
    """The control plane of a gateway, whose watches end once `stopping` is set; without etcd it refuses everything."""
    observed = Observed()

    async def let_go() -> None:
        await stopping.wait()
        observed.end()

    async with Evictions() as evictions, asyncio.TaskGroup() as group:
        tasks = [group.create_task(let_go())]
        if etcd is not None:
            tasks.append(group.create_task(observed.follow(etcd)))
        try:
            control, keys = Control(etcd, evictions), KeyControl(etcd)
            promotion, ask = Promotion(control, flags), partial(asked, flags.registry, kept)
            yield AdminServicer(Administration(control, observed, flags, promotion, shadows or Shadows(), ask, keys))
        finally:
            for task in tasks:
                task.cancel()


def flag_proto(flag: Written, shadows: Shadows) -> admin_pb2.Flag:
    return admin_pb2.Flag(
        flag=flag.name,
        json=flag.text,
        revision=flag.revision,
        problem=flag.problem,
        lacks=flag.lacks,
        shadows=(shadow_figures(*found) for found in shadows.of(flag.name)),
    )


def decision_proto(decision: Decision) -> admin_pb2.FlagDecision:
    return admin_pb2.FlagDecision(
        flag=decision.flag,
        variant=decision.variant,
        reason=decision.reason.value,
        why=decision.why,
        unit_kind=decision.unit_kind,
    )


def audit_proto(place: str, entry: AuditEntry) -> admin_pb2.AuditEntry:
    return admin_pb2.AuditEntry(place=place, **entry.model_dump())


def shadow_figures(variant: str, service: str, figures: Figures) -> admin_pb2.ShadowFigures:
    later = figures.later
    known = figures.live_ms.n > 1
    return admin_pb2.ShadowFigures(
        variant=variant,
        service=service,
        streams=figures.ended,
        pairs=figures.live_ms.n,
        live_ms=figures.live_ms.mean,
        shadow_ms=figures.shadow_ms.mean,
        later_low_ms=later.low if known else None,
        later_high_ms=later.high if known else None,
        unlike=figures.unlike.mean,
    )


def verdict_proto(verdict: Verdict) -> admin_pb2.Verdict:
    return admin_pb2.Verdict(
        flag=verdict.flag,
        action=verdict.action,
        state=verdict.state,
        variant=verdict.variant,
        metric=verdict.metric,
        alpha=verdict.alpha or 0.0,
        reason=verdict.reason,
        numbers=verdict.numbers,
        arms=(
            admin_pb2.VerdictArm(variant=name, sessions=arm.get("sessions", 0), failed=arm.get("failed", 0))
            for name, arm in verdict.arms.items()
        ),
        models=verdict.models,
        vetoed=verdict.vetoed,
        gateway=verdict.gateway,
        at_ms=verdict.at_ms,
    )


def slot_change(change: SlotChange) -> admin_pb2.SlotChange:
    entry = change.entry
    return admin_pb2.SlotChange(
        service=change.service,
        slot=change.slot,
        model=entry.wish.model,
        generation=entry.generation,
        model_before=entry.model_before,
        generation_before=entry.generation_before,
        actor=entry.wish.actor,
        reason=entry.wish.reason,
        cause=CAUSES[entry.wish.cause],
        at_ms=entry.at_ms,
    )


def catalog_model(entry: catalog.Entry) -> admin_pb2.CatalogModel:
    return admin_pb2.CatalogModel(
        service=entry.service,
        model=entry.model,
        engine=entry.spec.engine,
        source=entry.spec.source,
        sha256=entry.spec.sha256,
        preload=entry.spec.preload,
        veto=entry.veto,
        slots=entry.slots,
        hosts=(admin_pb2.ModelOnHost(instance=instance, status=status) for instance, status in entry.hosts),
    )
