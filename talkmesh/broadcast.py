"""Live sessions for scripts: open one, push it to an RTMP server, have the face say things, close it.

async with Live("127.0.0.1:7400") as live:
    session = await live.open(SessionConfig(portrait="mei"))
    push = await live.start_push(session.session_id, "rtmp://a.example/app/key")
    await live.until_live(session.session_id, push.push_id)
    for text in texts:
        await live.say(session.session_id, text)
    await live.close(session.session_id)
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from talkmesh.client import DEFAULT_ADDRESS, SessionConfig
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.credentials import gateway_channel
from talkmesh.errors import TalkmeshError, from_outcome
from talkmesh.live.v1 import live_pb2, live_pb2_grpc
from talkmesh.outcomes import Outcome

POLL_S = 0.2
OVER = (live_pb2.PUSH_STATE_STOPPED, live_pb2.PUSH_STATE_FAILED)
Response = TypeVar("Response")


class Live:
    """A connection to a gateway's live sessions. An async context manager; every method raises TalkmeshError."""

    def __init__(self, address: str = DEFAULT_ADDRESS, call_timeout_s: float = 20.0, token: str = "") -> None:
        self.address = address
        self._token = token
        self._call_timeout_s = call_timeout_s

    async def __aenter__(self) -> Self:
        self._channel = gateway_channel(self.address, self._token)
        self._stub: live_pb2_grpc.LiveServiceAsyncStub = live_pb2_grpc.LiveServiceStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def open(self, config: SessionConfig | None = None) -> conversation_pb2.ConversationStarted:
        """Open a session, which goes on until it is closed."""
        request = live_pb2.OpenSessionRequest(config=(config or SessionConfig()).proto(""))
        return (await self._call(self._stub.OpenSession, request)).started

    async def close(self, session_id: str) -> None:
        """End a session and its pushes, also what it is saying: wait for that before."""
        await self._call(self._stub.CloseSession, live_pb2.CloseSessionRequest(session_id=session_id))

    async def sessions(self) -> list[live_pb2.LiveSession]:
        """All live sessions of the gateway."""
        return list((await self._call(self._stub.ListSessions, live_pb2.ListSessionsRequest())).sessions)

    async def say(self, session_id: str, text: str, *, wait: bool = True) -> live_pb2.SayResponse:
        """Have the face say a text, behind what was asked for before, and return when it has been said.

        Without `wait`, return at once: texts are said in the order of the calls.
        """
        request = live_pb2.SayRequest(session_id=session_id, text=text, wait=wait)
        return await self._call(self._stub.Say, request, None if wait else self._call_timeout_s)

    async def ask(self, session_id: str, text: str, *, wait: bool = True) -> live_pb2.AskResponse:
        """Ask the face something and return when it has answered, or, without `wait`, at once."""
        request = live_pb2.AskRequest(session_id=session_id, text=text, wait=wait)
        return await self._call(self._stub.Ask, request, None if wait else self._call_timeout_s)

    async def start_push(self, session_id: str, url: str) -> live_pb2.Push:
        """Push a session to rtmp://host/app/key or rtmps://host/app/key, until it is stopped or the session ends."""
        request = live_pb2.StartPushRequest(session_id=session_id, url=url)
        return (await self._call(self._stub.StartPush, request)).push

    async def stop_push(self, session_id: str, push_id: str) -> live_pb2.Push:
        """End a push."""
        request = live_pb2.StopPushRequest(session_id=session_id, push_id=push_id)
        return (await self._call(self._stub.StopPush, request)).push

    async def pushes(self, session_id: str) -> list[live_pb2.Push]:
        """The pushes of a session."""
        return list((await self._call(self._stub.ListPushes, live_pb2.ListPushesRequest(session_id=session_id))).pushes)

    async def until_live(self, session_id: str, push_id: str, timeout_s: float = 30.0) -> live_pb2.Push:
        """Wait until a server takes a push.

        Raises TalkmeshError with the server's reason: DEADLINE_EXCEEDED when it does not within `timeout_s` (the push goes
        on trying), FAILED_PRECONDITION when the push is over.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            push = next((each for each in await self.pushes(session_id) if each.push_id == push_id), None)
            if push is None or push.state in OVER:
                error = push.error if push else "it is not known any more"
                raise TalkmeshError(f"push {push_id} is over: {error}", "FAILED_PRECONDITION")
            if push.state == live_pb2.PUSH_STATE_LIVE:
                return push
            if loop.time() > deadline:
                why = f": {push.error}" if push.error else ""
                raise TalkmeshError(f"{push.url} is not live after {timeout_s:g} s{why}", "DEADLINE_EXCEEDED")
            await asyncio.sleep(POLL_S)

    async def _call(
        self, method: Callable[..., Awaitable[Response]], request: Any, timeout_s: float | None = -1.0
    ) -> Response:
        try:
            return await method(request, timeout=self._call_timeout_s if timeout_s == -1.0 else timeout_s)
        except grpc.aio.AioRpcError as error:
            outcome = Outcome(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
            raise from_outcome(outcome, self.address) from error
