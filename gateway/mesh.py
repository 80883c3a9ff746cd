"""The five services behind the gateway: the hosts of each, a session's seats at them, and one way to open a stream."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Generic, NamedTuple, TypeVar, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.addresses import Places
from gateway.backends import Backends
from gateway.discovery import follow_etcd, follow_name
from gateway.experiments.control import FlagControl
from gateway.experiments.guard import Guard
from gateway.experiments.keeping import keep
from gateway.experiments.registry import Assigned, Registry
from gateway.experiments.shadowing import Copying, Shadows
from gateway.host import Health, Host
from gateway.metrics import Metrics
from gateway.sessions import Session
from gateway.tap import Copy, Tap
from services.runtime.desired import STABLE
from services.runtime.errors import DomainError
from services.runtime.etcd import Etcd
from talkmesh.animation.v1 import animation_pb2, animation_pb2_grpc
from talkmesh.asr.v1 import asr_pb2, asr_pb2_grpc
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.llm.v1 import llm_pb2, llm_pb2_grpc
from talkmesh.model.v1 import model_pb2, model_pb2_grpc
from talkmesh.outcomes import Ending, Outcome
from talkmesh.render.v1 import render_pb2, render_pb2_grpc
from talkmesh.tts.v1 import tts_pb2, tts_pb2_grpc

STATUS_TIMEOUT_S = 2.0
GRPC_NAMES = {
    "asr": asr_pb2.DESCRIPTOR.services_by_name["AsrService"].full_name,
    "llm": llm_pb2.DESCRIPTOR.services_by_name["LlmService"].full_name,
    "tts": tts_pb2.DESCRIPTOR.services_by_name["TtsService"].full_name,
    "animation": animation_pb2.DESCRIPTOR.services_by_name["AnimationService"].full_name,
    "render": render_pb2.DESCRIPTOR.services_by_name["RenderService"].full_name,
}
Request = TypeVar("Request")
Response = TypeVar("Response")


class ServiceFailed(DomainError):
    """A service ended a stream with an error. Its status is passed on to the client as it is."""

    def __init__(self, service: str, outcome: Outcome) -> None:
        self.service = service
        self.outcome = outcome
        super().__init__(f"{service}: {outcome.details}")


class Stream(Generic[Request, Response]):
    """A bidirectional call to a service. Every failure comes out as ServiceFailed."""

    def __init__(self, service: str, call: Any) -> None:
        self.service = service
        self._call = call
        self._ending = Ending(call)

    @property
    def over(self) -> bool:
        """Whether the call has ended."""
        return bool(self._call.done())

    async def send(self, request: Request) -> None:
        """Send one message; waits while the service does not read."""
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            raise await self._failure() from None

    async def close(self) -> None:
        """Send nothing more."""
        if not self._call.done():
            await self._call.done_writing()

    async def __aiter__(self) -> AsyncIterator[Response]:
        try:
            async for response in self._call:
                yield response
        except grpc.aio.AioRpcError:
            raise await self._failure() from None

    async def first(self) -> Response:
        """The first response."""
        async for response in self:
            return response
        raise await self._failure()

    async def _failure(self) -> ServiceFailed:
        """What the call ended with; a call that ended well, but too early, is a failure too."""
        outcome = await self._ending.outcome()
        if outcome.code is grpc.StatusCode.OK:
            outcome = Outcome(grpc.StatusCode.UNAVAILABLE, "the service ended the stream early", ())
        return ServiceFailed(self.service, outcome)


class Place(NamedTuple):
    """Where a stream is served: a slot, and its generation (0 while that is not known)."""

    generation: int
    slot: str = STABLE


class Seats:
    """One session's places at the services: each at the same host for as long as that is healthy.

    A stub is taken from it for each stream, never kept: the next stream may have to go elsewhere.
    """

    def __init__(
        self, mesh: "Mesh", pins: MutableMapping[str, str], assigned: Assigned, lost: Callable[[], None]
    ) -> None:
        """`pins`: service → address of its host, kept by the session from one call to the next.

        `lost` is called when what experiments have given to the session did not even begin.
        """
        self._mesh = mesh
        self._pins = pins
        self._assigned = assigned
        self._lost = lost
        self._tried: set[str] = set()
        self._drained: dict[str, int] = {}

    @property
    def asr(self) -> "asr_pb2_grpc.AsrServiceAsyncStub":
        return asr_pb2_grpc.AsrServiceStub(self._seat("asr"))

    @property
    def llm(self) -> "llm_pb2_grpc.LlmServiceAsyncStub":
        return llm_pb2_grpc.LlmServiceStub(self._seat("llm"))

    @property
    def tts(self) -> "tts_pb2_grpc.TtsServiceAsyncStub":
        return tts_pb2_grpc.TtsServiceStub(self._seat("tts"))

    @property
    def animation(self) -> "animation_pb2_grpc.AnimationServiceAsyncStub":
        return animation_pb2_grpc.AnimationServiceStub(self._seat("animation"))

    @property
    def render(self) -> "render_pb2_grpc.RenderServiceAsyncStub":
        return render_pb2_grpc.RenderServiceStub(self._seat("render"))

    def place(self, service: str) -> Place:
        """The session's slot at its host."""
        host = self._mesh.services[service].at(self._pins.get(service, ""))
        if host is None:
            return Place(0)
        slot = self._slot(host) or STABLE
        return Place(host.generation_of(slot), slot)

    def leave_variants(self) -> bool:
        """Have new streams go where everybody's go; False if they do already."""
        if not self._mesh.experiments.slots(self._assigned):
            return False
        self._tried = {decision.flag for decision in self._assigned.decisions} - self._assigned.left
        self._assigned.left.update(self._tried)
        return True

    def blame_variants(self) -> None:
        """What was left did not work, and what everybody has does."""
        self._assigned.left.difference_update(self._tried)
        self._lost()

    def _slot(self, host: Host) -> str:
        """The slot that an experiment has given to the session, if the host serves it; "" for what everybody gets."""
        slot = self._mesh.experiments.slots(self._assigned).get(host.service, "")
        return slot if slot and host.generation_of(slot) else ""

    def _seat(self, service: str) -> grpc.aio.Channel:
        """What the next stream's stub is made on. Raises ServiceFailed when no host is known."""
        host = self._mesh.services[service].pick(self._pins.get(service, ""))
        if host is None:
            raise ServiceFailed(service, Outcome(grpc.StatusCode.UNAVAILABLE, "no host is known", ()))
        self._pins[service] = host.address
        # A stub asks nothing else of a channel.
        return cast(grpc.aio.Channel, Tap(host, self._begun, self._ended, self._slot(host), self._copy(host)))

    def _copy(self, host: Host) -> Copy | None:
        """What gives a copy of the next stream to somebody else, if an experiment wants that and the host can do it."""
        experiments = self._mesh.experiments
        found = experiments.shadow(self._assigned, host.service)
        if found is None or not host.generation_of(found[1]):
            return None
        decision, slot = found
        of = Copying(decision.flag, decision.variant, host.service, experiments.signature(decision.flag))
        return lambda call, begin: self._mesh.shadows.copied(of, call, lambda: begin(slot))

    def _begun(self, host: Host) -> None:
        if self._drained.get(host.service):
            self._drained[host.service] -= 1
            self._mesh.metrics.reopened(host.service)

    def _ended(self, host: Host, ending: Outcome, reason: str) -> None:
        if reason == "DRAINED":
            self._drained[host.service] = self._drained.get(host.service, 0) + 1
        self._mesh.metrics.stream_ended(host.service, ending.code)


class Mesh:
    """The hosts of all services, shared by all sessions. Use through `connected`."""

    def __init__(self, group: asyncio.TaskGroup, metrics: Metrics, etcd: Etcd | None = None) -> None:
        self.metrics = metrics
        self._changed = asyncio.Event()
        self.services = {
            name: Backends(name, grpc_name, group, self._hosts_changed) for name, grpc_name in GRPC_NAMES.items()
        }
        for backends in self.services.values():
            self.metrics.hosts_changed(backends)
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        """Of this gateway, for those who read what it decided."""
        self.experiments = Registry(self.serves, self.serving, self.missing)
        self.flags = FlagControl(etcd, self.experiments)
        self.shadows = Shadows(metrics.shadow_ended)
        self.guard = Guard(self.experiments, self.flags if etcd else None, group.create_task, self.name)

    def _hosts_changed(self, backends: Backends) -> None:
        self.metrics.hosts_changed(backends)
        self._changed.set()

    async def found(self) -> None:
        """Return once every service has a host that serves."""
        while not all(backends.count(Health.SERVING) for backends in self.services.values()):
            self._changed.clear()
            await self._changed.wait()

    def serves(self, service: str, slot: str) -> bool:
        """Whether every healthy host of a service serves what a slot wants, and there is one."""
        hosts = [host for host in self.services[service].hosts if host.healthy]
        return bool(hosts) and all(host.serves(slot) for host in hosts)

    def serving(self, service: str, slot: str) -> str:
        """The models that the hosts of a service serve in a slot, as "model@generation", apart by spaces."""
        statuses = (each for host in self.services[service].hosts for each in host.status.slots if each.slot == slot)
        return " ".join(sorted({f"{each.model}@{each.generation}" for each in statuses if each.generation}))

    def missing(self, service: str, slot: str) -> str:
        """Why the hosts of a service do not serve what a slot wants, in their words; empty if nobody says."""
        return "; ".join(sorted({text for host in self.services[service].hosts if (text := host.error(slot))}))

    def trouble(self, service: str, slot: str) -> str:
        """What the hosts of a service say is wrong with a slot; empty if nothing."""
        return "; ".join(sorted({text for host in self.services[service].hosts if (text := host.trouble(slot))}))

    async def kept(self, etcd: Etcd) -> None:
        """What experiments need, until cancelled."""
        await keep(etcd, self.flags, self.guard, self.trouble, self.name)

    def seats(
        self,
        pins: MutableMapping[str, str],
        assigned: Assigned | None = None,
        lost: Callable[[], None] = lambda: None,
    ) -> Seats:
        """A session's places; `pins` remembers them for its next call. `assigned`: what experiments have given to it.

        `lost` is called when that did not even begin, and the session has what everybody has instead.
        """
        return Seats(self, pins, assigned or Assigned(), lost)

    def seats_of(self, session: Session, assigned: Assigned, lost: Callable[[], None] | None = None) -> Seats:
        """A session's places, by what experiments have given to it; `lost` as above, by default the guard is told."""
        return self.seats(session.hosts, assigned, lost or (lambda: self.guard.ended(session, failed=True)))

    async def status(self) -> list[conversation_pb2.ServiceStatus]:
        """How each host of each service does, asked all at once."""
        asked = [status_of(host) for backends in self.services.values() for host in backends.hosts]
        found = list(await asyncio.gather(*asked))
        found += [without_host(name) for name, backends in self.services.items() if not backends.hosts]
        return sorted(found, key=lambda status: list(self.services).index(status.service))


def without_host(service: str) -> conversation_pb2.ServiceStatus:
    return conversation_pb2.ServiceStatus(
        service=service, health=conversation_pb2.HEALTH_UNREACHABLE, error="no host is known"
    )


async def status_of(host: Host) -> conversation_pb2.ServiceStatus:
    """How a host does, asked now."""
    status = conversation_pb2.ServiceStatus(service=host.service, address=host.address)
    try:
        health = health_pb2_grpc.HealthStub(host.channel)
        began = time.perf_counter()
        reply = await health.Check(health_pb2.HealthCheckRequest(), timeout=STATUS_TIMEOUT_S)
        status.latency_ms = 1000 * (time.perf_counter() - began)
        serving = reply.status == health_pb2.HealthCheckResponse.SERVING
        status.health = conversation_pb2.HEALTH_SERVING if serving else conversation_pb2.HEALTH_NOT_SERVING
        models: model_pb2_grpc.ModelServiceAsyncStub = model_pb2_grpc.ModelServiceStub(host.channel)
        listed = await models.ListModels(model_pb2.ListModelsRequest(), timeout=STATUS_TIMEOUT_S)
        status.models.extend(listed.models)
    except grpc.aio.AioRpcError as error:
        status.health = conversation_pb2.HEALTH_UNREACHABLE
        status.error = f"{error.code().name}: {error.details()}"
    return status


@asynccontextmanager
async def connected(
    addresses: Mapping[str, Places], etcd: Etcd | None = None, metrics: Metrics | None = None
) -> AsyncIterator[Mesh]:
    """A mesh of the hosts that are in these places (by service) and, with etcd, of those that are written there.

    A host that is away is found when it comes.
    """
    async with asyncio.TaskGroup() as group:
        mesh = Mesh(group, metrics or Metrics(), etcd)
        work = [follow_etcd(mesh.services, etcd, mesh.metrics), mesh.kept(etcd)] if etcd else []
        for service, found in addresses.items():
            mesh.services[service].members("settings", found.fixed)
            work += [follow_name(mesh.services[service], name) for name in found.names]
        following = [group.create_task(each) for each in work]
        try:
            yield mesh
        finally:
            for task in following:
                task.cancel()
            for backends in mesh.services.values():
                backends.close()


@asynccontextmanager
async def opened(service: str, call: Any, config: Request) -> AsyncIterator[tuple[Stream[Request, Any], Any]]:
    """A stream that has been sent its config, with the service's first response; cancelled on leaving."""
    stream: Stream[Request, Any] = Stream(service, call)
    try:
        await stream.send(config)
        yield stream, (await stream.first()).started
    finally:
        call.cancel()
