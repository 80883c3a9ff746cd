"""Sessions that were opened over HTTP alone: nobody else holds them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.webrtc.surface import Talkers
from services.runtime.errors import DomainError, Unavailable
from talkmesh.conversation.v1 import conversation_pb2

log = logging.getLogger(__name__)


class Hosted:
    """Holds sessions until they end. Made by `hosting`."""

    def __init__(self, sessions: Talkers, group: asyncio.TaskGroup) -> None:
        self._sessions = sessions
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, config: conversation_pb2.ConversationConfig) -> str:
        """Open a session; returns its id. Raises what the session says."""
        opened: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = self._group.create_task(self._hold(config, opened))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await opened

    def end(self) -> None:
        """Let go of all, now."""
        for task in self._tasks:
            task.cancel()

    async def _hold(self, config: conversation_pb2.ConversationConfig, opened: "asyncio.Future[str]") -> None:
        try:
            async with self._sessions.attached(config) as session:
                if not opened.done():  # Or nobody waits for it any more.
                    opened.set_result(session.id)
                    await session.closed()
        except DomainError as error:
            if opened.done():
                log.info("a session has ended: %s", error)
            else:
                opened.set_exception(error)
        except Exception as error:
            log.exception("a session failed")
            if not opened.done():
                opened.set_exception(error)
        finally:
            if not opened.done():
                opened.set_exception(Unavailable("this gateway is stopping"))


@asynccontextmanager
async def hosting(sessions: Talkers) -> AsyncIterator[Hosted]:
    """A holder of sessions; on leaving, all are let go."""
    async with asyncio.TaskGroup() as group:
        hosted = Hosted(sessions, group)
        try:
            yield hosted
        finally:
            hosted.end()
