"""LiveService on the wire."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import grpc

from gateway.live.program import Told, Viewer
from gateway.outputs.push import Push, PushState
from gateway.outputs.pushes import Pushes
from gateway.outputs.sessions import Session, Sessions
from services.runtime import statuses
from services.runtime.errors import InvalidInput, NotFound, Refused
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.live.v1 import live_pb2, live_pb2_grpc

LIVE_SERVICE = live_pb2.DESCRIPTOR.services_by_name["LiveService"].full_name
STATES: dict[PushState, "live_pb2.PushState.ValueType"] = {
    PushState.CONNECTING: live_pb2.PUSH_STATE_CONNECTING,
    PushState.LIVE: live_pb2.PUSH_STATE_LIVE,
    PushState.RETRYING: live_pb2.PUSH_STATE_RETRYING,
    PushState.STOPPED: live_pb2.PUSH_STATE_STOPPED,
    PushState.FAILED: live_pb2.PUSH_STATE_FAILED,
}
log = logging.getLogger(__name__)
Context = grpc.aio.ServicerContext[Any, Any]


class Host(Protocol):
    """Holds sessions that no call holds."""

    async def open(self, config: conversation_pb2.ConversationConfig) -> str:
        """Open a session that stays until it is closed; returns its id. Raises DomainError."""


class LiveServicer(live_pb2_grpc.LiveServiceServicer):
    """Live sessions and their pushes, for scripts."""

    def __init__(self, sessions: Sessions, host: Host, pushes: Pushes) -> None:
        self._sessions = sessions
        self._host = host
        self._pushes = pushes

    @statuses.answered
    async def OpenSession(self, request: live_pb2.OpenSessionRequest, context: Context) -> live_pb2.OpenSessionResponse:
        if request.config.session_id:
            raise InvalidInput("config.session_id", "a new session is opened", "an empty one")
        config = conversation_pb2.ConversationConfig()
        config.CopyFrom(request.config)
        config.live.SetInParent()
        # Whoever will watch wants both.
        config.outputs.audio = config.outputs.video = True
        session_id = await self._host.open(config)
        return live_pb2.OpenSessionResponse(started=self._sessions.get(session_id).started)

    @statuses.answered
    async def CloseSession(
        self, request: live_pb2.CloseSessionRequest, context: Context
    ) -> live_pb2.CloseSessionResponse:
        self._sessions.get(request.session_id)
        await self._pushes.stop_all(request.session_id)
        try:
            self._sessions.close(request.session_id)
        except NotFound:
            log.info("session %s has ended with its last push", request.session_id)
        return live_pb2.CloseSessionResponse()

    @statuses.answered
    async def ListSessions(
        self, request: live_pb2.ListSessionsRequest, context: Context
    ) -> live_pb2.ListSessionsResponse:
        return live_pb2.ListSessionsResponse(sessions=map(self._described, self._sessions.list()))

    @statuses.answered
    async def Say(self, request: live_pb2.SayRequest, context: Context) -> live_pb2.SayResponse:
        session = self._sessions.get(request.session_id)
        turn_id, done = await turn(session, session.say, request.text, request.wait)
        return live_pb2.SayResponse(turn_id=turn_id, done=done)

    @statuses.answered
    async def Ask(self, request: live_pb2.AskRequest, context: Context) -> live_pb2.AskResponse:
        session = self._sessions.get(request.session_id)
        turn_id, done = await turn(session, session.ask, request.text, request.wait)
        return live_pb2.AskResponse(turn_id=turn_id, done=done)

    @statuses.answered
    async def StartPush(self, request: live_pb2.StartPushRequest, context: Context) -> live_pb2.StartPushResponse:
        push = self._pushes.start(request.session_id, request.url)
        return live_pb2.StartPushResponse(push=push_status(push))

    @statuses.answered
    async def StopPush(self, request: live_pb2.StopPushRequest, context: Context) -> live_pb2.StopPushResponse:
        push = await self._pushes.stop(request.session_id, request.push_id)
        return live_pb2.StopPushResponse(push=push_status(push))

    @statuses.answered
    async def ListPushes(self, request: live_pb2.ListPushesRequest, context: Context) -> live_pb2.ListPushesResponse:
        if not request.session_id:
            raise InvalidInput("session_id", "is empty")
        return live_pb2.ListPushesResponse(pushes=map(push_status, self._pushes.list(request.session_id)))

    def _described(self, session: Session) -> live_pb2.LiveSession:
        return live_pb2.LiveSession(
            session_id=session.id,
            portrait=session.started.portrait,
            width=session.program.width,
            height=session.program.height,
            viewers=session.program.watched,
            pushes=map(push_status, self._pushes.list(session.id)),
        )


async def turn(
    session: Session, begin: Callable[[str], Awaitable[str]], text: str, wait: bool
) -> tuple[str, conversation_pb2.TurnDone | None]:
    """Begin a turn and, if wanted, wait for its end. Raises Refused when the session ends before it."""
    # From before it began: it may be over at once.
    with session.program.watch(sound=False, pictures=False, told=wait) as viewer:
        turn_id = await begin(text)
        return turn_id, await end_of(viewer, turn_id) if wait else None


async def end_of(viewer: Viewer, turn_id: str) -> conversation_pb2.TurnDone:
    async for item in viewer:
        if isinstance(item, Told) and item.event.turn_id == turn_id and item.event.HasField("done"):
            return item.event.done
    raise Refused("the session has ended before the turn did")


def push_status(push: Push) -> live_pb2.Push:
    """A push, without its secrets."""
    return live_pb2.Push(
        push_id=push.id,
        url=str(push.url),
        state=STATES[push.state],
        sent_bytes=push.sent_bytes,
        reconnects=push.reconnects,
        dropped_pictures=push.dropped_pictures,
        dropped_sound_ms=push.dropped_sound_ms,
        error=push.last_error,
    )
