"""The operator's client: which models the mesh has, which it is to serve, and how it gets there.

async with Admin("127.0.0.1:7400") as admin:
    await admin.swap("tts", "joe", reason="warmer voice")
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from talkmesh.admin.v1 import admin_pb2, admin_pb2_grpc
from talkmesh.client import DEFAULT_ADDRESS, User
from talkmesh.credentials import gateway_channel
from talkmesh.errors import TalkmeshError, from_outcome
from talkmesh.mesh import Mesh
from talkmesh.outcomes import Ending, Outcome
from talkmesh.swap import HostProgress, NotInTime, Swap

STABLE = "stable"
RECONNECT_S = 0.5
Response = TypeVar("Response")


class Admin:
    """A connection to a gateway's control plane. An async context manager.

    `actor` is who is named as the author of every change. Every method raises TalkmeshError: FAILED_PRECONDITION
    for what the state of things does not allow, ABORTED when somebody else was first, UNAVAILABLE while the gateway or its
    etcd is away.
    """

    def __init__(
        self, address: str = DEFAULT_ADDRESS, actor: str = "", call_timeout_s: float = 10.0, token: str = ""
    ) -> None:
        self.address = address
        self._token = token
        self.actor = actor
        self._call_timeout_s = call_timeout_s

    async def __aenter__(self) -> Self:
        self._channel = gateway_channel(self.address, self._token)
        self._stub: admin_pb2_grpc.AdminServiceAsyncStub = admin_pb2_grpc.AdminServiceStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def catalog(self, service: str = "") -> admin_pb2.ListCatalogResponse:
        """The catalog of one service or of all, with the hosts that have its models loaded."""
        return await self._call(self._stub.ListCatalog, admin_pb2.ListCatalogRequest(service=service))

    async def history(self, service: str, slot: str = STABLE, limit: int = 20) -> list[admin_pb2.SlotChange]:
        """What was wanted in a slot, by whom and why: newest first, `limit` at most."""
        request = admin_pb2.ListHistoryRequest(service=service, slot=slot, limit=limit)
        return list((await self._call(self._stub.ListHistory, request)).changes)

    async def set_slot(
        self,
        service: str,
        model: str,
        slot: str = STABLE,
        *,
        expected: str | None = None,
        drain_s: float | None = None,
        standby_s: float | None = None,
        reason: str = "",
    ) -> admin_pb2.SlotChange:
        """Want `model` in a slot, without waiting for it to be served.

        With `expected`, only if that is the model wanted there now; else ABORTED, with a message that names who won.
        `drain_s` is the time that streams on the model before get to end, `standby_s` the time that it stays warm.
        """
        request = admin_pb2.SetSlotRequest(
            service=service,
            slot=slot,
            model=model,
            expected_model=expected,
            drain_s=drain_s,
            standby_s=standby_s,
            actor=self.actor,
            reason=reason,
        )
        return (await self._call(self._stub.SetSlot, request)).change

    async def roll_back(self, service: str, slot: str = STABLE, *, reason: str = "") -> admin_pb2.SlotChange:
        """Want in a slot again what it wanted before, without waiting for it. NOT_FOUND when it wanted nothing before."""
        request = admin_pb2.RollBackRequest(service=service, slot=slot, actor=self.actor, reason=reason)
        return (await self._call(self._stub.RollBack, request)).change

    async def veto(self, service: str, model: str, *, vetoed: bool = True, reason: str = "") -> None:
        """Keep a model out of every slot, or let it in again. A model that is serving stays."""
        request = admin_pb2.SetVetoRequest(service=service, model=model, vetoed=vetoed, actor=self.actor, reason=reason)
        await self._call(self._stub.SetVeto, request)

    async def evict(self, service: str, model: str, *, reason: str = "") -> None:
        """Free the memory of a warm model that no slot wants."""
        request = admin_pb2.EvictRequest(service=service, model=model, actor=self.actor, reason=reason)
        await self._call(self._stub.Evict, request)

    async def preload(self, service: str, model: str, *, preload: bool = True, reason: str = "") -> None:
        """Keep a model warm on every host before it is asked for, or no longer."""
        request = admin_pb2.PreloadRequest(
            service=service, model=model, preload=preload, actor=self.actor, reason=reason
        )
        await self._call(self._stub.Preload, request)

    async def set_flag(self, flag: str, json: str, *, expected: int | None = None, reason: str = "") -> int:
        """Write an experiment, as docs/experiments.md has it; returns the revision at which it stands.

        With `expected`, only if it stands at that revision (0: nowhere yet); else ABORTED, and the message names who won.
        """
        request = admin_pb2.SetFlagRequest(
            flag=flag, json=json, expected_revision=expected, actor=self.actor, reason=reason
        )
        return (await self._call(self._stub.SetFlag, request)).revision

    async def delete_flag(self, flag: str, *, reason: str = "") -> None:
        """Take an experiment away."""
        request = admin_pb2.DeleteFlagRequest(flag=flag, actor=self.actor, reason=reason)
        await self._call(self._stub.DeleteFlag, request)

    async def flags(self) -> list[admin_pb2.Flag]:
        """The experiments, and what keeps them from enrolling anybody."""
        return list((await self._call(self._stub.ListFlags, admin_pb2.ListFlagsRequest())).flags)

    async def decide(self, user: User, flag: str = "") -> list[admin_pb2.FlagDecision]:
        """What a user would get of one experiment, or of all, and why. Nobody is counted."""
        request = admin_pb2.DecideRequest(who=user.proto(), flag=flag)
        return list((await self._call(self._stub.Decide, request)).decisions)

    async def promote(self, flag: str, variant: str, *, reason: str = "") -> list[admin_pb2.SlotChange]:
        """Make a variant what everybody gets, and end the experiment, in one transaction."""
        request = admin_pb2.PromoteRequest(flag=flag, variant=variant, actor=self.actor, reason=reason)
        return list((await self._call(self._stub.Promote, request)).changes)

    async def verdicts(self, flag: str = "", limit: int = 0) -> list[admin_pb2.Verdict]:
        """What was decided about one experiment, or about all, and why: newest first."""
        request = admin_pb2.ListVerdictsRequest(flag=flag, limit=limit)
        return list((await self._call(self._stub.ListVerdicts, request)).verdicts)

    async def results(self, flag: str, *, alpha: float = 0.0, timeout_s: float = 60.0) -> admin_pb2.GetResultsResponse:
        """What became of an experiment's sessions, arm by arm. `alpha`: chance of an interval to be wrong; 0 is 0.05."""
        request = admin_pb2.GetResultsRequest(flag=flag, alpha=alpha)
        return await self._call(self._stub.GetResults, request, timeout_s)

    async def audit(self, limit: int = 20, before: str = "") -> list[admin_pb2.AuditEntry]:
        """Every change, newest first; `before`, the place of an entry, goes on with what is older."""
        request = admin_pb2.ListAuditRequest(limit=limit, before=before)
        return list((await self._call(self._stub.ListAudit, request)).entries)

    async def create_key(self, request: admin_pb2.CreateKeyRequest) -> admin_pb2.CreateKeyResponse:
        """Make an API key. Its token is in the answer and nowhere else."""
        request.actor = self.actor
        return await self._call(self._stub.CreateKey, request)

    async def keys(self) -> list[admin_pb2.Key]:
        """All API keys, also those that do not hold any more."""
        return list((await self._call(self._stub.ListKeys, admin_pb2.ListKeysRequest())).keys)

    async def revoke_key(self, id_: str, *, reason: str = "") -> admin_pb2.Key:
        """Have an API key hold no more, on every gateway."""
        request = admin_pb2.RevokeKeyRequest(id=id_, actor=self.actor, reason=reason)
        return (await self._call(self._stub.RevokeKey, request)).key

    async def watch(self) -> AsyncGenerator[Mesh, None]:
        """The state of all hosts, and again after each change, until the caller stops.

        A slow caller misses states in between, never the newest one.
        """
        call: Any = self._stub.WatchMesh(admin_pb2.WatchMeshRequest())
        ending, mesh = Ending(call), Mesh()
        try:
            async for response in call:
                mesh = mesh.after(response)
                yield mesh
        except grpc.aio.AioRpcError:
            raise from_outcome(await ending.outcome(), self.address) from None
        finally:
            call.cancel()
        raise TalkmeshError("the gateway ended the watch", "UNAVAILABLE", "", RECONNECT_S)

    async def swap(
        self,
        service: str,
        model: str,
        slot: str = STABLE,
        *,
        expected: str | None = None,
        drain_s: float | None = None,
        standby_s: float | None = None,
        reason: str = "",
        wait: bool = True,
        timeout_s: float = 120.0,
        tell: Callable[[HostProgress], None] = lambda _: None,
    ) -> Swap:
        """Replace the model of a slot and, with `wait`, return when every host serves it; see `set_slot` and `served`."""
        change = await self.set_slot(
            service, model, slot, expected=expected, drain_s=drain_s, standby_s=standby_s, reason=reason
        )
        return await self.served(change, timeout_s, tell) if wait else Swap(change)

    async def served(
        self,
        change: admin_pb2.SlotChange,
        timeout_s: float = 120.0,
        tell: Callable[[HostProgress], None] = lambda _: None,
    ) -> Swap:
        """Wait until every host of the service serves new streams by a change; `tell` hears of each step of each host.

        Raises NotInTime after `timeout_s`, and TalkmeshError: FAILED_PRECONDITION naming the host that could not, with its
        reason; ABORTED when a newer change took over. A gateway that is away for a while is waited for.
        """
        swap = Swap(change)
        try:
            async with asyncio.timeout(timeout_s):
                while not swap.done:
                    await self._follow(swap, tell)
        except TimeoutError:
            raise NotInTime(swap, timeout_s) from None
        return swap

    async def _follow(self, swap: Swap, tell: Callable[[HostProgress], None]) -> None:
        """Follow a swap until it is done or the gateway goes away."""
        try:
            async with contextlib.aclosing(self.watch()) as states:
                async for mesh in states:
                    for step in swap.take(mesh):
                        tell(step)
                    swap.raise_if_lost()
                    if swap.done:
                        return
        except TalkmeshError as error:
            if error.code != grpc.StatusCode.UNAVAILABLE.name:
                raise
            await asyncio.sleep(error.retry_after_s or RECONNECT_S)

    async def _call(
        self, method: Callable[..., Awaitable[Response]], request: Any, timeout_s: float | None = None
    ) -> Response:
        try:
            return await method(request, timeout=timeout_s or self._call_timeout_s)
        except grpc.aio.AioRpcError as error:
            outcome = Outcome(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
            raise from_outcome(outcome, self.address) from error
