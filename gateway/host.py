"""One host of a service as the gateway sees it: its channel, how it does, and what it told last."""

import asyncio
import contextlib
import enum
import time
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime import channels
from services.runtime.desired import CRASH_LOOP, STABLE
from talkmesh.flow import FLOW_CONTROL
from talkmesh.model.v1 import model_pb2, model_pb2_grpc

POLL_S = 2.0
"""Between questions to a host that cannot be watched."""
KNOCK_S = 5.0
"""Between questions to a host that says it is well: one that hangs, or that no packet reaches, says nothing else."""
PATIENCE_S = 3.0
DOUBT_S = 0.5
"""How long a host is passed over after a stream to it was lost: its health watch tells the rest."""
LEAST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


# Streams to a host that does not answer any more end, instead of hanging for as long as TCP is patient. Servers do not take
# these pings amiss: they are sent only when nothing else comes, and as long as the host is well, it answers the knocks.
NOTICE_LOSS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
)
OPTIONS = (*FLOW_CONTROL, *channels.RECONNECT, *channels.DIRECT, *NOTICE_LOSS)


class Health(enum.Enum):
    """What is known of a host."""

    SERVING = "serving"
    NOT_SERVING = "not_serving"
    UNREACHABLE = "unreachable"


class Pause:
    """Waiting between attempts, longer each time until one succeeds."""

    def __init__(self) -> None:
        self._next_s = LEAST_PAUSE_S

    def over(self) -> None:
        """An attempt has succeeded."""
        self._next_s = LEAST_PAUSE_S

    async def wait(self) -> None:
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, LONGEST_PAUSE_S)
        await asyncio.sleep(pause_s)


class Host:
    """A host at an address. `live` follows it; until it has said that it serves, it counts as unreachable."""

    def __init__(self, service: str, grpc_name: str, address: str, changed: Callable[["Host"], None]) -> None:
        """`grpc_name`: what its health is asked for, so that a stranger at the same address is not taken for it."""
        self.service = service
        self.address = address
        self.channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        self.status = model_pb2.HostStatus(service=service, address=address)
        self.streams = 0
        """Open streams of this gateway."""
        self.picked = 0
        """Place in the order in which hosts were picked last."""
        self.failed_at = 0.0
        """When it was last found unwell, in seconds of the monotonic clock; 0 if never."""
        self._grpc_name = grpc_name
        self._changed = changed
        self._told = Health.UNREACHABLE
        self._silent = False
        self._doubted_at = -DOUBT_S
        self._removed = False
        self._over = asyncio.Event()

    @property
    def health(self) -> Health:
        return Health.UNREACHABLE if self._silent else self._told

    @property
    def healthy(self) -> bool:
        """Whether new streams may go here."""
        return self.health is Health.SERVING and time.monotonic() - self._doubted_at >= DOUBT_S

    @property
    def generation(self) -> int:
        """The generation of its slot "stable"; 0 while it is not known."""
        return self.generation_of(STABLE)

    def generation_of(self, name: str) -> int:
        """The generation that a slot serves; 0 while it serves nothing, or it is not known."""
        return next((slot.generation for slot in self.status.slots if slot.slot == name), 0)

    def serves(self, name: str) -> bool:
        """Whether a slot serves what it wants. One that is on its way to another is neither the one nor the other."""
        slot = next((each for each in self.status.slots if each.slot == name), None)
        return slot is not None and slot.generation > 0 and slot.wanted_model in ("", slot.model)

    def error(self, name: str) -> str:
        """Why a slot does not serve what it wants; empty if it does, or if nobody knows."""
        return next((slot.error for slot in self.status.slots if slot.slot == name), "")

    def trouble(self, name: str) -> str:
        """Why a slot is not served as it should be, in the host's words; empty if it is, or if nobody knows why."""
        slot = next((each for each in self.status.slots if each.slot == name), None)
        if slot is None:
            return ""
        if slot.error.startswith(CRASH_LOOP) or not slot.generation:
            return slot.error
        serving = next((each for each in self.status.models if name in each.slots), None)
        is_well = serving is None or serving.phase == model_pb2.PHASE_ACTIVE
        return "" if is_well or serving is None else serving.last_error

    def doubt(self) -> None:
        """A stream was lost without a word from the host."""
        self._doubted_at = self.failed_at = time.monotonic()

    def remove(self) -> None:
        """Let `live` end as soon as no stream is left."""
        self._removed = True
        self._end_if_left()

    def begun(self) -> None:
        """A stream begins here."""
        self.streams += 1

    def ended(self) -> None:
        """A stream has ended."""
        self.streams -= 1
        self._end_if_left()

    def _end_if_left(self) -> None:
        if self._removed and not self.streams:
            self._over.set()

    async def live(self) -> None:
        """Follow the host until it is removed and left by all streams; then its channel closes."""
        async with self.channel, asyncio.TaskGroup() as group:
            work = (self._follow_health(), self._follow_status(), self._knock())
            following = [group.create_task(part) for part in work]
            await self._over.wait()
            for task in following:
                task.cancel()

    # --- health -----------------------------------------------------------------------------------------------------

    async def _follow_health(self) -> None:
        watched = health_pb2_grpc.HealthStub(self.channel)
        request, pause = health_pb2.HealthCheckRequest(service=self._grpc_name), Pause()
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                # Waiting for the channel is grpc's: it connects again within a second, and nobody spins.
                async for answer in watched.Watch(request, wait_for_ready=True):
                    pause.over()
                    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
                    self._say(Health.SERVING if serving else Health.NOT_SERVING)
            self._say(Health.UNREACHABLE)
            await pause.wait()

    async def _knock(self) -> None:
        """Notice a host that does not answer any more though its connection stands."""
        health = health_pb2_grpc.HealthStub(self.channel)
        request = health_pb2.HealthCheckRequest(service=self._grpc_name)
        while True:
            await asyncio.sleep(KNOCK_S if self.health is Health.SERVING else 1.0)
            if self._told is not Health.SERVING:
                continue
            try:
                await health.Check(request, timeout=PATIENCE_S)
            except grpc.aio.AioRpcError:
                self._be_silent(True)
            else:
                self._be_silent(False)

    def _say(self, told: Health) -> None:
        """The health watch has told something; that it tells anything shows that the host answers."""
        before, self._told = self.health, told
        self._silent = False
        if told is Health.SERVING:
            self._doubted_at = -DOUBT_S
        self._tell_if_changed(before)

    def _be_silent(self, silent: bool) -> None:
        before, self._silent = self.health, silent
        self._tell_if_changed(before)

    def _tell_if_changed(self, before: Health) -> None:
        if self.health is before:
            return
        if before is Health.SERVING:
            self.failed_at = time.monotonic()
        self._changed(self)

    # --- what it has loaded -----------------------------------------------------------------------------------------

    async def _follow_status(self) -> None:
        models: model_pb2_grpc.ModelServiceAsyncStub = model_pb2_grpc.ModelServiceStub(self.channel)
        pause = Pause()
        while True:
            try:
                async for response in models.WatchModels(model_pb2.WatchModelsRequest(), wait_for_ready=True):
                    pause.over()
                    self.status = response.host
                    self._changed(self)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    await self._poll_status(models)
            await pause.wait()

    async def _poll_status(self, models: "model_pb2_grpc.ModelServiceAsyncStub") -> None:
        """Ask a host that cannot be watched, until it fails to answer: another may have taken its place."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            while True:
                listed = await models.ListModels(model_pb2.ListModelsRequest(), timeout=PATIENCE_S)
                self.status = told_by_list(listed, self.address)
                self._changed(self)
                await asyncio.sleep(POLL_S)


def told_by_list(listed: model_pb2.ListModelsResponse, address: str) -> model_pb2.HostStatus:
    """The state of a host that only lists its models."""
    slots = list(listed.slots) or [
        model_pb2.SlotStatus(slot=each.model.slot, model=each.model.model, generation=each.model.slot_generation)
        for each in listed.models
        if each.model.slot
    ]
    return model_pb2.HostStatus(service=listed.service, address=address, slots=slots, models=listed.models)
