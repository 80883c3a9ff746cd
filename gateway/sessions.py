"""Sessions: what outlives a call."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.access.gate import OpenSessions
from gateway.access.principals import current
from gateway.experiments.registry import Assigned
from services.runtime.errors import Busy, NotFound, Unavailable
from talkmesh.llm.v1 import llm_pb2

RELEASE_WAIT_S = 1.0
CUT_OFF = " —"


@dataclass
class Session:
    """One user's conversation."""

    id: str
    history: list[llm_pb2.Message] = field(default_factory=list)
    generation: int = 0
    turns: int = 0
    hosts: dict[str, str] = field(default_factory=dict)
    """Service → address of the host that its streams go to."""
    assigned: Assigned | None = None
    """What experiments have given to it, settled when it was opened."""
    exposed: bool = False
    """Whether what it was given is on record."""
    counted: set[str] = field(default_factory=set)
    """Flags in which it was counted as one of an arm's sessions."""
    ended_turn: str = ""
    """The last turn that is known to be over."""
    left_at: float | None = None
    """When its last call ended, in seconds of the monotonic clock; None while a call has it."""

    def remember(self, user_text: str, reply_text: str, most: int, cut_off: bool = False) -> None:
        """Add a turn to the history and keep the newest `most` messages.

        `cut_off`: the reply ended with these words because it was interrupted, which a dash tells the model. A question
        that got no answer is one with the next.
        """
        if user_text:
            self._add(llm_pb2.ROLE_USER, user_text)
        if reply_text:
            self._add(llm_pb2.ROLE_ASSISTANT, reply_text + (CUT_OFF if cut_off else ""))
        del self.history[: max(0, len(self.history) - most)]

    def _add(self, role: llm_pb2.Role.ValueType, text: str) -> None:
        if self.history and self.history[-1].role == role:
            self.history[-1].content += f" {text}"
        else:
            self.history.append(llm_pb2.Message(role=role, content=text))


class Sessions:
    """All sessions of this gateway. A session without a call is forgotten after `keep_s`."""

    def __init__(self, most: int, keep_s: float) -> None:
        self._most = most
        self._keep_s = keep_s
        self._sessions: dict[str, Session] = {}
        self._open = OpenSessions()

    @property
    def in_use(self) -> int:
        """Sessions that have a call now."""
        return sum(session.left_at is None for session in self._sessions.values())

    def find(self, session_id: str) -> Session | None:
        """A session that is not forgotten."""
        return self._sessions.get(session_id)

    @asynccontextmanager
    async def held(self, session_id: str) -> AsyncIterator[Session]:
        """The session `session_id`, or a new one for "", for the time of one call.

        Raises NotFound for an id that is not known (any more), Unavailable while another call has it, and Busy when the
        gateway, or whoever calls, has as many calls as it may.
        """
        self._forget_old()
        if self.in_use >= self._most:
            raise Busy(f"all {self._most} sessions of this gateway are in use", retry_after_s=2.0)
        session = await self._released(session_id) if session_id else Session(secrets.token_urlsafe(16))
        with self._open.one_more(current()):
            self._sessions[session.id] = session
            session.left_at = None
            try:
                yield session
            finally:
                session.left_at = time.monotonic()

    async def _released(self, session_id: str) -> Session:
        """A known session, as soon as the call that has it lets go: a client may come back before its old call is gone."""
        session = self._sessions.get(session_id)
        if session is None:
            raise NotFound("session", session_id)
        deadline = time.monotonic() + RELEASE_WAIT_S
        while session.left_at is None:
            if time.monotonic() > deadline:
                raise Unavailable(f"session {session_id!r} is in use by another call")
            await asyncio.sleep(0.02)
        return session

    def _forget_old(self) -> None:
        oldest = time.monotonic() - self._keep_s
        self._sessions = {
            id_: session
            for id_, session in self._sessions.items()
            if session.left_at is None or session.left_at > oldest
        }
