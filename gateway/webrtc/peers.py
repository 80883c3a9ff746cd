"""All WebRTC connections of a gateway."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.webrtc.ice import found_at
from gateway.webrtc.offer import Offer, offer_of
from gateway.webrtc.peer import Peer, connected
from gateway.webrtc.settings import WebRtcSettings
from gateway.webrtc.surface import Talker, Talkers
from services.runtime.errors import Busy, DomainError, NotFound, Unavailable
from talkmesh.conversation.v1 import conversation_pb2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What an offer is answered with."""

    session_id: str
    peer_id: str
    sdp: str


Attend = Callable[["asyncio.Future[Answer]"], Awaitable[None]]


class Peers:
    """Opens, finds and ends peers. Made by `peering`."""

    def __init__(self, sessions: Talkers, settings: WebRtcSettings, group: asyncio.TaskGroup) -> None:
        self.settings = settings
        self._sessions = sessions
        self._group = group
        self._peers: dict[tuple[str, str], Peer] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Peers there are now, those that are being answered included."""
        return len(self._serving)

    async def talk(self, sdp: str, config: conversation_pb2.ConversationConfig) -> Answer:
        """Open a session, or take one up, and have a peer talk with it. Raises what offer and session say."""
        offer = offer_of(sdp)
        config.outputs.video = bool(offer.video)

        async def attend(answered: "asyncio.Future[Answer]") -> None:
            async with self._sessions.attached(config) as session:
                await self._replaced(session.id)
                await self._serve(session, offer, config.voice, answered, talks=True)

        return await self._answered(attend)

    async def watch(self, sdp: str, session_id: str) -> Answer:
        """Have a peer watch a session, which does not live longer for it. Raises NotFound, InvalidInput."""
        offer, session = offer_of(sdp), self._sessions.get(session_id)

        async def attend(answered: "asyncio.Future[Answer]") -> None:
            await self._serve(session, offer, "", answered, talks=False)

        return await self._answered(attend)

    async def trickle(self, session_id: str, peer_id: str, fragment: str) -> None:
        """Candidates of a peer. Raises NotFound, InvalidInput, Refused."""
        await self._found(session_id, peer_id).trickle(fragment)

    async def leave(self, session_id: str, peer_id: str) -> None:
        """End a peer, and return when it has let go of its session. Raises NotFound."""
        self._found(session_id, peer_id).leave()
        await asyncio.wait((self._tasks[session_id, peer_id],))

    async def _replaced(self, session_id: str) -> None:
        """End the peers that talk with a session; usually there is one, whose client has come back by a new way."""
        keys = [key for key, peer in self._peers.items() if key[0] == session_id and peer.talks]
        tasks = [self._tasks[key] for key in keys]
        for key in keys:
            self._peers[key].give_way()
        if tasks:
            await asyncio.wait(tasks)

    def end(self) -> None:
        """End all peers, now."""
        for task in self._serving:
            task.cancel()

    def _found(self, session_id: str, peer_id: str) -> Peer:
        peer = self._peers.get((session_id, peer_id))
        if peer is None:
            raise NotFound("peer", f"{session_id}/{peer_id}")
        return peer

    async def _answered(self, attend: Attend) -> Answer:
        if self.count >= self.settings.most_peers:
            raise Busy(f"all {self.settings.most_peers} peers of this gateway are in use", retry_after_s=2.0)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        task = self._group.create_task(self._attend(attend, answered))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        return await answered

    async def _attend(self, attend: Attend, answered: "asyncio.Future[Answer]") -> None:
        """A peer's whole life. Whatever goes wrong is told to whoever waits for the answer, or logged."""
        try:
            await attend(answered)
        except DomainError as error:
            if answered.done():
                log.info("a session ended its peer: %s", error)
            else:
                answered.set_exception(error)
        except Exception as error:
            log.exception("a peer failed")
            if not answered.done():
                answered.set_exception(error)
        finally:
            if not answered.done():
                answered.set_exception(Unavailable("this gateway is stopping"))

    async def _serve(
        self, session: Talker, offer: Offer, voice: str, answered: "asyncio.Future[Answer]", talks: bool
    ) -> None:
        peer_id = secrets.token_urlsafe(12)
        key = (session.id, peer_id)
        async with connected(peer_id, session, offer, self.settings, voice, talks) as peer:
            if answered.done():
                return  # Nobody waits for it any more.
            task = asyncio.current_task()
            assert task is not None
            self._peers[key], self._tasks[key] = peer, task
            try:
                answered.set_result(Answer(session.id, peer_id, peer.answer))
                await peer.ended()
            finally:
                del self._peers[key], self._tasks[key]


@asynccontextmanager
async def peering(sessions: Talkers, settings: WebRtcSettings) -> AsyncIterator[Peers]:
    """Peers to the sessions of a gateway; on leaving, all end."""
    with found_at(settings.host):
        async with asyncio.TaskGroup() as group:
            peers = Peers(sessions, settings, group)
            try:
                yield peers
            finally:
                peers.end()
