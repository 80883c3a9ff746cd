"""What the outputs need of live sessions; `gateway.live` has it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gateway.live.program import Program
from talkmesh.conversation.v1 import conversation_pb2


class Session(Protocol):
    """A live session."""

    @property
    def id(self) -> str: ...

    @property
    def program(self) -> Program: ...

    @property
    def started(self) -> conversation_pb2.ConversationStarted: ...

    async def ask(self, text: str) -> str:
        """The user typed this; returns the turn's id."""

    async def say(self, text: str) -> str:
        """The face is to say this, behind what it says now; returns the turn's id."""

    async def closed(self) -> None:
        """Wait for the session's end. Raises the DomainError that ended it."""


class Sessions(Protocol):
    """All live sessions of a gateway."""

    def attached(self, config: conversation_pb2.ConversationConfig) -> AbstractAsyncContextManager[Session]:
        """A new session, or the one that the config names, for as long as one likes. Raises DomainError."""

    def get(self, session_id: str) -> Session:
        """Raises NotFound."""

    def list(self) -> Sequence[Session]:
        """All that run now."""

    def close(self, session_id: str) -> None:
        """End a session, whoever is attached. Raises NotFound."""

    def kept(self, session_id: str) -> AbstractAsyncContextManager[Session]:
        """A session that does not end for want of users meanwhile. Raises NotFound."""
