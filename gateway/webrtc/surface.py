"""What the transports need of live sessions, and nothing else of them."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gateway.live.program import Program
from talkmesh.conversation.v1 import conversation_pb2


class Talker(Protocol):
    """A live session: a face that is there, listens and answers."""

    @property
    def id(self) -> str: ...

    @property
    def program(self) -> Program: ...

    @property
    def started(self) -> conversation_pb2.ConversationStarted: ...

    @property
    def input_rate_hz(self) -> int:
        """Of the mono PCM_S16LE that it hears; 0 when it hears nothing."""

    async def hear(self, data: bytes, start_sample: int | None = None) -> None: ...

    async def ask(self, text: str) -> str: ...

    async def say(self, text: str) -> str: ...

    async def start_of_turn(self) -> None: ...

    async def end_of_turn(self) -> None: ...

    async def interrupt(self) -> None: ...

    async def closed(self) -> None: ...


class Talkers(Protocol):
    """All live sessions of this gateway."""

    def attached(self, config: conversation_pb2.ConversationConfig) -> AbstractAsyncContextManager[Talker]: ...

    def get(self, session_id: str) -> Talker: ...

    def close(self, session_id: str) -> None: ...
