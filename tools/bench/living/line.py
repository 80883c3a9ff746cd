"""A live session of ours over gRPC, as a client has it: microphone in, and all that comes back with the moment it came."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from talkmesh import SessionConfig
from talkmesh.audio.v1 import audio_pb2
from talkmesh.conversation.v1 import conversation_pb2, conversation_pb2_grpc
from talkmesh.credentials import gateway_channel
from tools.bench.living.loudspeaker import Loudspeaker, heard
from tools.bench.living.microphone import BYTES_A_SAMPLE, RATE_HZ, Microphone
from tools.bench.living.scenes import STOPPED_S, until

STARTED_S = 30.0
TAKEN_BACK = conversation_pb2.OUTCOME_CONTINUED


@dataclass(frozen=True)
class Shown:
    """A picture; `at` in seconds of time.monotonic, `start` in samples of the media clock."""

    at: float
    start: int
    turn: str
    speaking: bool
    size: int


@dataclass(frozen=True)
class Word:
    """A word of a reply and its place on the media clock."""

    text: str
    start: int
    end: int
    turn: str


@dataclass(frozen=True)
class Cut:
    at: float
    sample: int
    turn: str
    may_resume: bool


@dataclass(frozen=True)
class Final:
    """What was said in a turn that is over."""

    at: float
    turn: str
    text: str


@dataclass(frozen=True)
class Done:
    """The end of a turn."""

    at: float
    turn: str
    told: conversation_pb2.TurnDone


class SessionEnded(Exception):
    """The gateway has ended the session, or refused it."""


@dataclass
class Record:
    """All that came, in its order."""

    loudspeaker: Loudspeaker = field(default_factory=Loudspeaker)
    pictures: list[Shown] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    """Of all replies, where they lie for good: what a cut has made void is not among them."""
    cuts: list[Cut] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)
    finals: list[Final] = field(default_factory=list)
    turn: str = ""
    """The last one of whose reply something came."""
    ended: str = ""

    def take(self, response: conversation_pb2.ConverseResponse, at: float, rate_hz: int) -> None:
        """File what came just now."""
        turn = response.turn_id
        match response.WhichOneof("event"):
            case "audio":
                audio = response.audio
                self.turn = turn or self.turn
                self.loudspeaker.chunks.append(heard(audio.data, rate_hz, at, turn, audio.start_sample))
            case "video":
                picture = response.video
                shown = Shown(at, picture.start_sample, picture.turn_id, bool(picture.turn_id), len(picture.data))
                self.pictures.append(shown)
            case "phonemes":
                self._place(response.phonemes, turn)
            case "transcript" if response.transcript.is_final:
                self.finals.append(Final(at, turn, response.transcript.text))
            case "cut":
                self._cut(Cut(at, response.cut.at_sample, turn, response.cut.may_resume))
            case "done":
                self.done.append(Done(at, turn, response.done))

    def _place(self, told: conversation_pb2.ClausePhonemes, turn: str) -> None:
        """Words told again, at a later place, are not said twice: a cut has made their first place void."""
        words = [Word(word.word, word.start_sample, word.end_sample, turn) for word in told.words]
        self.words += [word for word in words if word not in self.words]

    def _cut(self, cut: Cut) -> None:
        self.cuts.append(cut)
        self.words = [word for word in self.words if word.turn != cut.turn or word.end <= cut.sample]


class Line:
    """One open session. Made by `opened`; a Party."""

    def __init__(self, call: Any, started: conversation_pb2.ConversationStarted, draws: bool, silence: bytes) -> None:
        self.started = started
        self.rate_hz = started.sample_rate_hz
        self.draws = draws
        self.record = Record()
        self.microphone = Microphone(self._hear, silence)
        self._call = call
        self._sent = 0
        self._writing = asyncio.Lock()

    @property
    def loudspeaker(self) -> Loudspeaker:
        return self.record.loudspeaker

    @property
    def turn(self) -> str:
        return self.record.turn

    def committed(self, since: float) -> list[tuple[float, str]]:
        """Without turns that were taken back as the person went on. If anything of their reply was heard, that tells."""
        taken_back = {done.turn for done in self.record.done if done.told.outcome == TAKEN_BACK}
        turns = {
            final.turn: (final.at, final.text)
            for final in self.record.finals
            if final.at >= since and final.turn not in {"", *taken_back} and final.text
        }
        return list(turns.values())

    def first_picture(self, since: float) -> float | None:
        return next((shown.at for shown in self.record.pictures if shown.speaking and shown.at >= since), None)

    def check(self) -> None:
        if self.record.ended:
            raise SessionEnded(self.record.ended)

    async def stop_reply(self) -> None:
        """The reply's TurnDone says how it went."""
        if self.is_replying():
            await self._write(interrupt=conversation_pb2.Interrupt())
            await until(self, lambda: not self.is_replying(), STOPPED_S)

    def is_replying(self) -> bool:
        return bool(self.turn) and self.turn not in (done.turn for done in self.record.done)

    async def type(self, text: str) -> None:
        """Ask in writing."""
        await self._write(text=conversation_pb2.UserText(text=text))

    async def _hear(self, data: bytes) -> None:
        chunk = audio_pb2.AudioChunk(start_sample=self._sent, data=data)
        self._sent += len(data) // BYTES_A_SAMPLE
        await self._write(audio=chunk)

    async def _write(self, **what: Any) -> None:
        """A call takes one message at a time. That it has ended is told by `check` to whoever waits for something."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with self._writing:
                await self._call.write(conversation_pb2.ConverseRequest(**what))

    async def read(self) -> None:
        """File all that comes until the call ends."""
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                self.record.take(response, time.monotonic(), self.rate_hz)
            self.record.ended = "the gateway has ended the call"
        except grpc.aio.AioRpcError as error:
            self.record.ended = f"{error.code().name}: {error.details()}"


def request(config: SessionConfig, live: conversation_pb2.Live) -> conversation_pb2.ConverseRequest:
    """The first message of a live call."""
    proto = config.proto("")
    proto.input.CopyFrom(
        audio_pb2.AudioFormat(encoding=audio_pb2.ENCODING_PCM_S16LE, sample_rate_hz=RATE_HZ, channels=1)
    )
    proto.live.CopyFrom(live)
    return conversation_pb2.ConverseRequest(config=proto)


@asynccontextmanager
async def opened(
    address: str,
    config: SessionConfig,
    silence: bytes = bytes(2 * RATE_HZ),
    live: conversation_pb2.Live | None = None,
    speaks: bool = True,
) -> AsyncIterator[Line]:
    """A live session whose microphone is on, if anybody is to speak. Raises SessionEnded when it is refused."""
    live = live or conversation_pb2.Live(endpointing=conversation_pb2.ENDPOINTING_AUTO, grace_ms=1)
    async with gateway_channel(address) as channel:
        stub: conversation_pb2_grpc.ConversationServiceAsyncStub = conversation_pb2_grpc.ConversationServiceStub(
            channel
        )
        call: Any = stub.Converse()
        line = Line(call, await begun(call, request(config, live)), config.video, silence)
        tasks = [asyncio.create_task(line.read())]
        if speaks:
            tasks.append(asyncio.create_task(line.microphone.run()))
        try:
            yield line
        finally:
            call.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def begun(call: Any, first: conversation_pb2.ConverseRequest) -> conversation_pb2.ConversationStarted:
    """Send the config and take the gateway's first message. Raises SessionEnded."""
    try:
        async with asyncio.timeout(STARTED_S):
            await call.write(first)
            response = await call.read()
    except grpc.aio.AioRpcError as error:
        raise SessionEnded(f"{error.code().name}: {error.details()}") from error
    except asyncio.InvalidStateError as error:
        raise SessionEnded(f"{(await call.code()).name}: {await call.details()}") from error
    except TimeoutError as error:
        raise SessionEnded(f"the gateway did not begin within {STARTED_S:g} s") from error
    if response is grpc.aio.EOF or not response.HasField("started"):
        raise SessionEnded("the gateway did not begin with its start message")
    started: conversation_pb2.ConversationStarted = response.started
    return started
