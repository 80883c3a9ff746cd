"""All pushes of a gateway."""

import asyncio
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.outputs.push import Push, PushState
from gateway.outputs.push_url import push_url
from gateway.outputs.sessions import Sessions
from services.runtime.errors import Busy, DomainError, NotFound, Refused

KEPT_S = 300.0
"""How long a push that is over can still be asked about."""


@dataclass(eq=False)
class Running:
    """A push of a session, and the task that it is, for as long as it is one: a task's failure holds what it had."""

    session_id: str
    push: Push
    task: asyncio.Task[None] | None = None
    over_at: float | None = None

    def end(self) -> None:
        """Its task is over, perhaps before it ran."""
        self.over_at, self.task = time.monotonic(), None
        if not self.push.state.over:
            self.push.state = PushState.STOPPED


@dataclass
class Pushes:
    """Starts, stops and lists. Made by `pushes`."""

    sessions: Sessions
    tasks: asyncio.TaskGroup
    allowed_hosts: Sequence[str] = ()
    most: int = 16
    tls: ssl.SSLContext | None = None
    _all: dict[str, Running] = field(default_factory=dict)

    def start(self, session_id: str, url: str) -> Push:
        """Push a session to an RTMP URL; it is not waited for that the server takes it.

        Raises InvalidInput for the URL, NotFound for the session, Refused when the session goes there already, and Busy.
        """
        self._forget_old()
        session, target = self.sessions.get(session_id), push_url(url, self.allowed_hosts)
        active = [each for each in self._all.values() if not each.push.state.over]
        if any((each.push.url.place, each.push.url.key) == (target.place, target.key) for each in active):
            raise Refused(f"there is a push to {target} already")
        if len(active) >= self.most:
            raise Busy(f"all {self.most} pushes of this gateway are in use", retry_after_s=5.0)
        push = Push(secrets.token_urlsafe(9), target, self.tls)
        running = self._all[push.id] = Running(session.id, push)
        running.task = self.tasks.create_task(self._run(running))
        running.task.add_done_callback(lambda _: running.end())
        return push

    async def stop(self, session_id: str, push_id: str) -> Push:
        """End a push, and return when it has ended. Raises NotFound."""
        running = self._all.get(push_id)
        if running is None or running.session_id != session_id:
            raise NotFound("push", push_id)
        if (task := running.task) is not None:
            task.cancel()
            await asyncio.wait([task])
        return running.push

    async def stop_all(self, session_id: str) -> None:
        """End all pushes of a session."""
        for running in list(self._all.values()):
            if running.session_id == session_id:
                await self.stop(session_id, running.push.id)

    def list(self, session_id: str = "") -> list[Push]:
        """The pushes of a session, or all, also those that are over since not long ago. Raises NotFound for the session."""
        self._forget_old()
        found = [each.push for each in self._all.values() if session_id in ("", each.session_id)]
        if session_id and not found:
            self.sessions.get(session_id)
        return found

    async def _run(self, running: Running) -> None:
        push = running.push
        try:
            async with self.sessions.kept(running.session_id) as session:
                await push.run(session)
        except DomainError as error:
            push.state, push.last_error = PushState.FAILED, str(error)

    def _forget_old(self) -> None:
        oldest = time.monotonic() - KEPT_S
        self._all = {id_: each for id_, each in self._all.items() if each.over_at is None or each.over_at > oldest}


@asynccontextmanager
async def pushes(
    sessions: Sessions, allowed_hosts: Sequence[str] = (), most: int = 16, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Pushes]:
    """All pushes of a gateway, which end on leaving. `tls` is what servers have to show; the system's by default."""
    async with asyncio.TaskGroup() as group:
        made = Pushes(sessions, group, allowed_hosts, most, tls)
        try:
            yield made
        finally:
            for running in made._all.values():
                if running.task is not None:
                    running.task.cancel()
