"""The live sessions of this gateway, and who is attached to them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial

from gateway.experiments.sessions import given
from gateway.host import Health
from gateway.live.load import Load
from gateway.live.machines import Machine
from gateway.live.metrics import LiveMetrics
from gateway.live.session import LiveSession, live
from gateway.mesh import Mesh
from gateway.outcomes.observer import Observer
from gateway.sessions import Session, Sessions
from gateway.settings import GatewaySettings
from gateway.wishes import Wishes
from services.runtime.errors import Busy, DomainError, InvalidInput, NotFound, first_of
from services.runtime.processor import Processor, place
from talkmesh.conversation.v1 import conversation_pb2

MOST_GRACE_MS = 600_000
LOOK_S = 1.0
DEFAULT_SIZE = 512
"""What is reckoned with where the renderer's default is wished for."""
log = logging.getLogger(__name__)


@dataclass
class Running:
    """A live session, and how many hold it."""

    session: LiveSession
    grace_s: float
    attached: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)
    back: asyncio.Event = field(default_factory=asyncio.Event)

    def changed(self) -> None:
        """Somebody came or went."""
        (self.back if self.attached else self.left).set()
        (self.left if self.attached else self.back).clear()


class LiveSessions:
    """Use through `live_sessions`."""

    def __init__(
        self, mesh: Mesh, sessions: Sessions, settings: GatewaySettings, observer: Observer, work: asyncio.TaskGroup
    ) -> None:
        self._mesh = mesh
        self._observer = observer
        self._sessions = sessions
        self._settings = settings
        self._work = work
        load = Load(settings.live_load, settings.live_processor)
        self._metrics = LiveMetrics(mesh.metrics.registry, load)
        self._running: dict[str, Running] = {}
        self._tasks: set[asyncio.Task[None]] = {work.create_task(self._look())}

    def get(self, session_id: str) -> LiveSession:
        """Raises NotFound."""
        return self._known(session_id).session

    def list(self) -> list[LiveSession]:
        """All that run."""
        return [running.session for running in self._running.values()]

    @asynccontextmanager
    async def attached(self, config: conversation_pb2.ConversationConfig) -> AsyncIterator[LiveSession]:
        """A new session, or the one that `config` names, for as long as this is not left.

        Raises what `live` does, NotFound for a session that is over, InvalidInput for a config of another kind, and Busy.
        """
        if not config.HasField("live"):
            raise InvalidInput("live", "is not set", "the config of a live session")
        if config.live.grace_ms < 0 or config.live.grace_ms > MOST_GRACE_MS:
            raise InvalidInput("live.grace_ms", f"is {config.live.grace_ms}", f"0 to {MOST_GRACE_MS}")
        running = self._running.get(config.session_id) or await self._begin(config)
        running.session.check_joins(config)
        async with self._held(running) as session:
            yield session

    @asynccontextmanager
    async def kept(self, session_id: str) -> AsyncIterator[LiveSession]:
        """A session that runs, which does not end while this is not left. Raises NotFound."""
        async with self._held(self._known(session_id)) as session:
            yield session

    @contextmanager
    def reckoned(self, session_id: str) -> Iterator[None]:
        """A conversation, live or not, for as long as it takes of the machines."""
        machines = self._metrics.load.machines
        machines.begun(time.perf_counter(), session_id)
        try:
            yield
        finally:
            machines.ended(session_id)

    def close(self, session_id: str) -> None:
        """End a session, whoever is attached. Raises NotFound."""
        self._known(session_id).session.end()

    def _known(self, session_id: str) -> Running:
        running = self._running.get(session_id)
        if running is None:
            raise NotFound("live session", session_id)
        return running

    @asynccontextmanager
    async def _held(self, running: Running) -> AsyncIterator[LiveSession]:
        running.attached += 1
        running.changed()
        try:
            yield running.session
        finally:
            running.attached -= 1
            running.changed()

    async def _begin(self, config: conversation_pb2.ConversationConfig) -> Running:
        """A session in a task of its own, when it has begun."""
        begun: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
        task = self._work.create_task(self._run(config, begun))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await begun
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def _run(self, config: conversation_pb2.ConversationConfig, begun: "asyncio.Future[Running]") -> None:
        """Everything of a session, from its begin until nobody has held it for its grace time."""
        try:
            async with self._sessions.held(config.session_id) as session:
                wishes = Wishes(config, self._settings)
                self._admit(wishes)
                with self.reckoned(session.id):
                    await self._serve(session, config, wishes, begun)
        except* DomainError as group:
            self._fail(begun, group)

    async def _serve(
        self,
        session: Session,
        config: conversation_pb2.ConversationConfig,
        wishes: Wishes,
        begun: "asyncio.Future[Running]",
    ) -> None:
        assigned = given(session, config.who, self._mesh.experiments)
        self._observer.opened(session, config.who)
        seats = self._mesh.seats_of(session, assigned, partial(self._observer.lost, session))
        async with live(seats, wishes, session, self._metrics) as made:
            made.conversation.done = partial(self._observer.ended, session)
            with self._counted(made):
                grace_ms = config.live.grace_ms or 1000 * self._settings.live_grace_s
                running = self._running[session.id] = Running(made, grace_ms / 1000)
                running.changed()
                begun.set_result(running)
                await until_left(running)

    def _admit(self, wishes: Wishes) -> None:
        """Raises Busy when there is no room for a session. Those that only wait for somebody to come back make room."""
        while True:
            try:
                return self._weigh(wishes)
            except Busy:
                left = next((each for each in self._running.values() if not each.attached), None)
                if left is None:
                    self._metrics.refused()
                    raise
                self._forget(left.session)
                left.session.end()

    def _weigh(self, wishes: Wishes) -> None:
        """Raises Busy when one more would be too many."""
        renderers = self._mesh.services["render"].count(Health.SERVING)
        self._metrics.load.admit()
        if wishes.draws:
            size = wishes.config.size or DEFAULT_SIZE
            self._metrics.load.admit_drawn(size, float(wishes.clock.fps), renderers, time.perf_counter())

    async def _look(self) -> None:
        """See once a second what the conversations take of the machines."""
        processor, here = Processor(), place()
        while True:
            gateway = Machine(here.cores, processor.used())
            machines, streams = taken(self._mesh, {here.machine: gateway})
            self._metrics.load.machines.told(time.perf_counter(), machines, streams)
            await asyncio.sleep(LOOK_S)

    @contextmanager
    def _counted(self, made: LiveSession) -> Iterator[None]:
        load, program = self._metrics.load, made.program
        self._metrics.sessions.inc()
        if program.width:
            load.begun(made.id, program.width, float(program.fps))
        try:
            yield
        finally:
            self._forget(made)
            self._metrics.sessions.dec()

    def _forget(self, session: LiveSession) -> None:
        """It is no more, or will not be in a moment."""
        self._metrics.load.ended(session.id)
        self._metrics.load.machines.ended(session.id)
        self._running.pop(session.id, None)

    def _fail(self, begun: "asyncio.Future[Running]", group: BaseExceptionGroup[DomainError]) -> None:
        error = first_of(group)
        if not begun.done():
            begun.set_exception(error)
        else:
            log.warning("a live session failed: %s", error)

    def end(self) -> None:
        """End all sessions."""
        for task in self._tasks:
            task.cancel()


def taken(mesh: Mesh, begun: Mapping[str, Machine]) -> tuple[dict[str, Machine], int]:
    """What the hosts take of each machine, added to what is known already; and conversations that they serve."""
    machines, streams = dict(begun), 0
    for backends in mesh.services.values():
        hosts = [host.status for host in backends.hosts if host.health is Health.SERVING]
        streams = max(streams, sum(model.streams for host in hosts for model in host.models))
        for told in (host.processor for host in hosts if host.HasField("processor")):
            before = machines.get(told.machine, Machine(told.cores, 0.0))
            machines[told.machine] = Machine(told.cores, before.used + told.used)
    return machines, streams


async def until_left(running: Running) -> None:
    """Return when nobody has been attached for the grace time, or the session is over."""
    over = asyncio.create_task(running.session.over())
    try:
        while not over.done():
            await first(over, running.left)
            if not await first(over, running.back, running.grace_s):
                return
    finally:
        over.cancel()


async def first(over: asyncio.Task[None], event: asyncio.Event, within_s: float | None = None) -> bool:
    """Wait for either; False when neither came in time."""
    waiting = asyncio.create_task(event.wait())
    try:
        done, _ = await asyncio.wait({over, waiting}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        waiting.cancel()


@asynccontextmanager
async def live_sessions(
    mesh: Mesh, sessions: Sessions, settings: GatewaySettings, observer: Observer
) -> AsyncIterator[LiveSessions]:
    """All that run end when this is left."""
    async with asyncio.TaskGroup() as work:
        made = LiveSessions(mesh, sessions, settings, observer, work)
        try:
            yield made
        finally:
            made.end()
