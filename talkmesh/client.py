"""The client: sessions with a digital human, over gRPC.

async with Client("127.0.0.1:7400") as client, client.session() as session:
    async for event in session.ask("What is the capital of France?"):
        ...
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from talkmesh import events
from talkmesh.audio.v1 import audio_pb2
from talkmesh.call import LiveCall, LiveOptions
from talkmesh.conversation.v1 import conversation_pb2, conversation_pb2_grpc
from talkmesh.credentials import gateway_channel
from talkmesh.errors import TalkmeshError, WavError, from_outcome
from talkmesh.outcomes import Ending, Outcome
from talkmesh.wav import Wav, read_wav

DEFAULT_ADDRESS = "127.0.0.1:7400"
Call = Any


@dataclass(frozen=True)
class AudioInput:
    """The format of audio that the client sends: 8000 to 48000 Hz, 1 or 2 channels, 16 bit integers or 32 bit floats."""

    sample_rate_hz: int
    channels: int = 1
    is_float: bool = False

    def proto(self) -> audio_pb2.AudioFormat:
        encoding = audio_pb2.ENCODING_PCM_F32LE if self.is_float else audio_pb2.ENCODING_PCM_S16LE
        return audio_pb2.AudioFormat(encoding=encoding, sample_rate_hz=self.sample_rate_hz, channels=self.channels)


@dataclass(frozen=True)
class User:
    """Who talks, for experiments: read when a session is opened. Nothing of it is stored with what is said."""

    id: str = ""
    device_id: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """country, region, city, language, device, os, app, app_version, channel, portrait, turns, sessions, days_known."""
    tags: Collection[str] = ()

    def proto(self) -> conversation_pb2.Who:
        return conversation_pb2.Who(
            user_id=self.id, device_id=self.device_id, attributes=self.attributes, tags=list(self.tags)
        )


@dataclass(frozen=True)
class SessionConfig:
    """What a session is to be like. Empty and 0 mean the gateway's default."""

    session_id: str = ""
    """A session to go on with."""
    input: AudioInput | None = None
    """Set it to send audio."""
    language: str = ""
    voice: str = ""
    portrait: str = ""
    size: int = 0
    """Width and height of the picture in pixels."""
    system_prompt: str = ""
    max_reply_tokens: int = 0
    seed: int | None = None
    temperature: float | None = None
    audio: bool = True
    phonemes: bool = True
    face_frames: bool = False
    video: bool = True
    mp4: bool = False
    live: LiveOptions | None = None
    """For `Client.live`."""
    user: User | None = None

    def proto(self, session_id: str) -> conversation_pb2.ConversationConfig:
        return conversation_pb2.ConversationConfig(
            session_id=session_id or self.session_id,
            input=self.input.proto() if self.input else None,
            language=self.language,
            voice=self.voice,
            portrait=self.portrait,
            size=self.size,
            system_prompt=self.system_prompt,
            max_reply_tokens=self.max_reply_tokens,
            seed=self.seed,
            temperature=self.temperature,
            live=self.live.proto() if self.live else None,
            who=self.user.proto() if self.user else None,
            outputs=conversation_pb2.Outputs(
                audio=self.audio,
                phonemes=self.phonemes,
                face_frames=self.face_frames,
                video=self.video,
                mp4=self.mp4,
            ),
        )


class Client:
    """A connection to a gateway. An async context manager."""

    def __init__(self, address: str = DEFAULT_ADDRESS, token: str = "") -> None:
        self.address = address
        self._token = token

    async def __aenter__(self) -> Self:
        self._channel = gateway_channel(self.address, self._token)
        self._stub: conversation_pb2_grpc.ConversationServiceAsyncStub = conversation_pb2_grpc.ConversationServiceStub(
            self._channel
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    @asynccontextmanager
    async def session(self, config: SessionConfig | None = None) -> AsyncIterator["ClientSession"]:
        """A session. Raises TalkmeshError when the gateway refuses it."""
        session = ClientSession(self._stub, self.address, config or SessionConfig())
        await session.open()
        try:
            yield session
        finally:
            session.cancel()

    @asynccontextmanager
    async def live(self, config: SessionConfig | None = None) -> AsyncIterator[LiveCall]:
        """A live call, on a new session or the one that the config names. Raises TalkmeshError when it is refused."""
        config = config or SessionConfig()
        call = LiveCall(self._stub.Converse(), self.address)
        try:
            await call.open(replace(config, live=config.live or LiveOptions()).proto(""))
            yield call
        finally:
            call.leave()

    async def feedback(
        self, session_id: str, score: float, *, turn_id: str = "", comment: str = "", timeout_s: float = 10.0
    ) -> None:
        """What a user thought of a session, or of one of its turns: -1 (bad) to 1 (good); n of 5 stars is (n - 3) / 2.

        Raises TalkmeshError: NOT_FOUND for a session that is not known, FAILED_PRECONDITION where no outcomes are kept.
        """
        request = conversation_pb2.SendFeedbackRequest(
            session_id=session_id, turn_id=turn_id, score=score, comment=comment
        )
        try:
            await self._stub.SendFeedback(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            outcome = Outcome(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
            raise from_outcome(outcome, self.address) from error

    async def status(self, timeout_s: float = 5.0) -> conversation_pb2.GetStatusResponse:
        """What the mesh behind the gateway is made of, and how it does."""
        try:
            return await self._stub.GetStatus(conversation_pb2.GetStatusRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            outcome = Outcome(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
            raise from_outcome(outcome, self.address) from error


@dataclass
class ClientSession:
    """One conversation. Ask one thing at a time; each `ask` yields the turn's events and ends after its TurnDone."""

    _stub: "conversation_pb2_grpc.ConversationServiceAsyncStub"
    _address: str
    _config: SessionConfig
    started: events.Started = field(init=False)
    _call: Call = None
    _ending: Ending = field(init=False)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """grpc.aio takes one write at a time, and an interruption may come while audio is sent."""
    _id: str = ""
    _sent_samples: int = 0
    _unfinished: bool = False
    """A turn was asked for whose TurnDone nobody has taken."""

    async def open(self) -> None:
        """Open the call, and take up the session if it had one before."""
        self._sent_samples, self._unfinished = 0, False
        self._call = self._stub.Converse()
        self._ending = Ending(self._call)
        await self._send(config=self._config.proto(self._id))
        event = await self._next()
        if not isinstance(event, events.Started):
            raise TalkmeshError("the gateway did not begin with its start message", "INTERNAL")
        self.started = event
        self._id = event.session_id

    def cancel(self) -> None:
        """Drop the call, and with it the turn in progress."""
        self._call.cancel()

    async def ask(self, text: str) -> AsyncIterator[events.Event]:
        """Ask by text. Raises TalkmeshError; the session goes on with the next `ask`."""
        await self._ready()
        await self._send(text=conversation_pb2.UserText(text=text))
        async for event in self._turn():
            yield event

    async def ask_wav(self, question: Wav | Path, real_time: bool = False) -> AsyncIterator[events.Event]:
        """Ask by a recording, sent as fast as it is taken or, with `real_time`, as if it were spoken now.

        The session's config must name the recording's format as its input.
        """
        wav = read_wav(question) if isinstance(question, Path) else question
        if (lasts_ms := 1000 * wav.samples / wav.sample_rate_hz) > self.started.max_utterance_ms:
            limit_s = self.started.max_utterance_ms / 1000
            raise WavError(f"the recording lasts {lasts_ms / 1000:.0f} s; the gateway takes at most {limit_s:g} s")
        async for event in self.ask_audio(paced(wav) if real_time else unpaced(wav)):
            yield event

    async def ask_audio(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[events.Event]:
        """Ask by audio in the session's input format. The end of `chunks` is the end of the user's turn."""
        await self._ready()
        sending = asyncio.create_task(self._send_audio(chunks))
        try:
            async for event in self._turn():
                yield event
            await sending
        finally:
            sending.cancel()

    async def interrupt(self) -> None:
        """Stop the reply in progress; its TurnDone says INTERRUPTED."""
        await self._send(interrupt=conversation_pb2.Interrupt())

    async def finish(self) -> AsyncIterator[events.Event]:
        """End the conversation, and yield what still comes: the rest of an MP4."""
        await self._call.done_writing()
        while (event := await self._next()) is not None:
            yield event

    async def _send_audio(self, chunks: AsyncIterable[bytes]) -> None:
        fmt = self._config.input
        if fmt is None:
            raise TalkmeshError("the session's config names no input format", "FAILED_PRECONDITION", "input")
        async for data in chunks:
            await self._send(audio=audio_pb2.AudioChunk(start_sample=self._sent_samples, data=data))
            self._sent_samples += len(data) // (fmt.channels * (4 if fmt.is_float else 2))
        await self._send(end_of_turn=conversation_pb2.EndOfTurn())

    async def _ready(self) -> None:
        """Make way for a turn: stop one that was left, and open a call that has ended again, once, on the same session."""
        if self._unfinished and not self._call.done():
            await self.interrupt()
            async for _ in self._turn():
                pass
        if self._call.done():
            await self.open()
        self._unfinished = True

    async def _turn(self) -> AsyncIterator[events.Event]:
        while True:
            event = await self._next()
            if event is None:
                raise TalkmeshError("the gateway ended the call in the middle of a turn", "UNAVAILABLE", "", 1.0)
            self._unfinished = self._unfinished and not isinstance(event, events.TurnDone)
            yield event
            if isinstance(event, events.TurnDone):
                return

    async def _send(self, **request: Any) -> None:
        try:
            async with self._writing:
                await self._call.write(conversation_pb2.ConverseRequest(**request))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            raise await self._failure() from None

    async def _next(self) -> events.Event | None:
        """The next event that this client knows; None at the end of the call."""
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                if event := events.from_proto(response):
                    return event
        except grpc.aio.AioRpcError:
            raise await self._failure() from None
        if await self._call.code() is not grpc.StatusCode.OK:
            raise await self._failure()
        return None

    async def _failure(self) -> TalkmeshError:
        return from_outcome(await self._ending.outcome(), self._address)


async def unpaced(wav: Wav) -> AsyncIterator[bytes]:
    """A recording in chunks of 20 ms, as fast as they are taken."""
    for _, data in wav.chunks():
        yield data


async def paced(wav: Wav) -> AsyncIterator[bytes]:
    """A recording in chunks of 20 ms, each when its last sample would have been spoken."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for start, data in wav.chunks():
        end = start + len(data) // wav.frame_bytes
        await asyncio.sleep(began + end / wav.sample_rate_hz - loop.time())
        yield data
