"""Sessions in JSON: open one without a browser, have it say things, see which there are."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fastapi import APIRouter, Response

from gateway.http.errors import RESPONSES
from gateway.http.hosted import Hosted
from gateway.http.models import SessionId, SessionList, SessionState, SessionWishes, Text, TurnId
from gateway.webrtc.surface import Talker, Talkers


class Listed(Talkers, Protocol):
    """Live sessions that can be listed, too."""

    def list(self) -> Sequence[Talker]: ...

    def kept(self, session_id: str) -> AbstractAsyncContextManager[Talker]: ...


def state_of(session: Talker) -> SessionState:
    program = session.program
    return SessionState(
        session_id=session.id,
        portrait=session.started.portrait,
        width=program.width,
        height=program.height,
        viewers=program.watched,
    )


def router_of(sessions: Listed, hosted: Hosted) -> APIRouter:
    """The routes of sessions."""
    router = APIRouter(prefix="/api/sessions", tags=["sessions"], responses=RESPONSES)

    @router.post("", status_code=201)
    async def open_session(wishes: SessionWishes, response: Response) -> SessionId:
        """Open a session that nobody has to watch: for scripted hosts. It is there until it is deleted."""
        session_id = await hosted.open(wishes.config())
        response.headers["Location"] = f"/api/sessions/{session_id}"
        return SessionId(session_id=session_id)

    @router.get("")
    async def list_sessions() -> SessionList:
        """All live sessions of this gateway."""
        return SessionList(sessions=[state_of(session) for session in sessions.list()])

    @router.get("/{session_id}")
    async def get_session(session_id: str) -> SessionState:
        """One of them."""
        return state_of(sessions.get(session_id))

    @router.delete("/{session_id}")
    async def close_session(session_id: str) -> SessionId:
        """End a session, whoever is there."""
        sessions.close(session_id)
        return SessionId(session_id=session_id)

    @router.post("/{session_id}/say", status_code=202)
    async def say(session_id: str, text: Text) -> TurnId:
        """Have the face say exactly this, behind what it is saying now."""
        return TurnId(turn_id=await sessions.get(session_id).say(text.text))

    @router.post("/{session_id}/ask", status_code=202)
    async def ask(session_id: str, text: Text) -> TurnId:
        """Ask something, as if the user had typed it."""
        return TurnId(turn_id=await sessions.get(session_id).ask(text.text))

    @router.post("/{session_id}/interrupt", status_code=204, response_class=Response)
    async def interrupt(session_id: str) -> Response:
        """Stop the reply in progress."""
        await sessions.get(session_id).interrupt()
        return Response(status_code=204)

    return router
