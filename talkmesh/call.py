"""A live call: the face is there in real time, listens, answers and can be interrupted.

async with client.live(SessionConfig(input=AudioInput(16000), live=LiveOptions())) as call:
    await call.hear(pcm)                    # the microphone, as it comes
    async for event in call.events():
        ...
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc

from talkmesh import events
from talkmesh.audio.v1 import audio_pb2
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.errors import TalkmeshError, from_outcome
from talkmesh.outcomes import Ending


@dataclass(frozen=True)
class LiveOptions:
    """How a live call goes. `grace_ms`: how long the session waits for a call that comes back; 0: the gateway's default."""

    push_to_talk: bool = False
    barge_in: bool = True
    grace_ms: int = 0

    def proto(self) -> conversation_pb2.Live:
        auto, push = conversation_pb2.ENDPOINTING_AUTO, conversation_pb2.ENDPOINTING_PUSH_TO_TALK
        return conversation_pb2.Live(
            endpointing=push if self.push_to_talk else auto, barge_in=self.barge_in, grace_ms=self.grace_ms
        )


@dataclass(frozen=True)
class LiveEvent:
    """An event and what it belongs to. Audio and pictures of a generation older than the newest Cut's are stale."""

    turn_id: str
    generation: int
    event: events.Event


class LiveCall:
    """Made by `Client.live`. Positions are samples of the session's clock, which began with the session."""

    def __init__(self, call: Any, address: str) -> None:
        self.started: events.Started
        self._call = call
        self._address = address
        self._ending = Ending(call)
        self._frame_bytes = 2
        self._sent = 0
        self._writing = asyncio.Lock()

    async def open(self, config: conversation_pb2.ConversationConfig) -> None:
        """Raises TalkmeshError when the gateway refuses."""
        floats = config.input.encoding == audio_pb2.ENCODING_PCM_F32LE
        self._frame_bytes = max(1, config.input.channels) * (4 if floats else 2)
        await self._send(config=config)
        async for each in self.events():
            if isinstance(each.event, events.Started):
                self.started = each.event
                return
        raise TalkmeshError("the gateway did not begin with its start message", "INTERNAL")

    async def hear(self, data: bytes) -> None:
        """More of the user's audio, in the format of the session's config, in real time."""
        await self._send(audio=audio_pb2.AudioChunk(start_sample=self._sent, data=data))
        self._sent += len(data) // self._frame_bytes

    async def ask(self, text: str) -> None:
        """The user's question, typed; answered after those before it."""
        await self._send(text=conversation_pb2.UserText(text=text))

    async def say(self, text: str) -> None:
        """A text that the face says as it is; after what was asked before."""
        await self._send(say=conversation_pb2.ScriptedText(text=text))

    async def start_of_turn(self) -> None:
        """Push to talk: the user begins to speak."""
        await self._send(start_of_turn=conversation_pb2.StartOfTurn())

    async def end_of_turn(self) -> None:
        """Push to talk: the user has said it."""
        await self._send(end_of_turn=conversation_pb2.EndOfTurn())

    async def interrupt(self) -> None:
        """Stop what is being said, and what waits to be."""
        await self._send(interrupt=conversation_pb2.Interrupt())

    async def finish(self) -> None:
        """Say nothing more: the call ends when what was asked is answered."""
        await self._call.done_writing()

    def leave(self) -> None:
        """Drop the call. The session waits a while for another."""
        self._call.cancel()

    async def events(self) -> AsyncIterator[LiveEvent]:
        """Everything that comes, as it becomes due, until the call ends. Raises TalkmeshError."""
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                if event := events.from_proto(response):
                    yield LiveEvent(response.turn_id, response.generation, event)
        except grpc.aio.AioRpcError:
            raise await self._failure() from None
        if await self._call.code() is not grpc.StatusCode.OK:
            raise await self._failure()

    async def _send(self, **request: Any) -> None:
        try:
            # grpc.aio takes one write at a time, and a microphone never rests.
            async with self._writing:
                await self._call.write(conversation_pb2.ConverseRequest(**request))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            raise await self._failure() from None

    async def _failure(self) -> TalkmeshError:
        return from_outcome(await self._ending.outcome(), self._address)
