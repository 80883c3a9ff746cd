"""One Converse call: what comes in from the client, its turns one after the other, and what they say to the services."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway import traces, turn
from gateway.audience import Audience
from gateway.cast import Cast, cast
from gateway.continuing import Services
from gateway.emotion import express
from gateway.experiments.sessions import told
from gateway.hearing import Hearing
from gateway.reply import Reply
from gateway.sessions import Session
from gateway.wishes import Wishes
from services.runtime.errors import InvalidInput
from talkmesh.animation.v1 import animation_pb2
from talkmesh.asr.v1 import asr_pb2
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.model.v1 import model_pb2
from talkmesh.render.v1 import render_pb2

WAITING_TURNS = 8
INBOX = 64
Requests = AsyncIterator[conversation_pb2.ConverseRequest]


@dataclass(frozen=True)
class Opening:
    """How a turn begins, and when it did."""

    turn_id: str
    given: turn.TextGiven | turn.EndOfTurn
    at: float
    transcript: "asyncio.Future[MadeOut] | None" = None
    """What was said, when the ASR has made it out: maybe before the turn's time comes."""


@dataclass(frozen=True)
class MadeOut:
    """What was said, and the models that heard it."""

    transcript: asr_pb2.Transcript
    models: list[model_pb2.ServingModel]


async def converse(mesh: Services, wishes: Wishes, session: Session, audience: Audience, requests: Requests) -> None:
    """Serve a call until the client half-closes. Raises DomainError, alone or in a group; cancelling it cancels all."""
    async with cast(mesh, wishes) as made:
        made.started.session_id = session.id
        made.started.assignments.extend(told(session))
        await audience.begin(made.started)
        await Conversation(mesh, wishes, session, audience, made).run(requests)
        await audience.end()


class Conversation:
    """The state of one call."""

    def __init__(self, mesh: Services, wishes: Wishes, session: Session, audience: Audience, made: Cast) -> None:
        self._mesh = mesh
        self._wishes = wishes
        self._session = session
        self._audience = audience
        self._cast = made
        self._position = 0
        self._turn: turn.Turn | None = None
        self._inbox: asyncio.Queue[tuple[turn.Input, float]] = asyncio.Queue(INBOX)
        self._openings: asyncio.Queue[Opening | None] = asyncio.Queue(WAITING_TURNS)
        self._transcripts: dict[str, asyncio.Future[MadeOut]] = {}
        self._heard_by: list[model_pb2.ServingModel] = []

    async def run(self, requests: Requests) -> None:
        """All turns of the call."""
        hearing, face = self._cast.hearing, self._cast.face
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(self._read(requests))
            listening = pumps.create_task(hearing.run(self._activity, self._transcript)) if hearing else None
            moving = pumps.create_task(face.run(self._frame, self._picture)) if face else None
            await self._lead_in()
            while opening := await self._openings.get():
                await self._take_turn(opening)
            if hearing and listening:
                hearing.close()
                await listening
            if moving:
                moving.cancel()

    # --- what comes in ----------------------------------------------------------------------------------------------

    async def _read(self, requests: Requests) -> None:
        """Take the client's messages, each in its order, until it half-closes."""
        async for request in requests:
            match request.WhichOneof("request"):
                case "audio":
                    await self._hearing("audio").hear(request.audio)
                case "end_of_turn":
                    await self._end_of_turn()
                case "text":
                    given = turn.TextGiven(self._wishes.question(request.text.text))
                    await self._openings.put(Opening(self._new_turn(), given, now()))
                case "interrupt":
                    await self._tell(turn.Interrupted())
        await self._openings.put(None)

    async def _end_of_turn(self) -> None:
        """Flush the ASR in the order of the audio, whether or not an earlier turn is still speaking."""
        hearing, turn_id, at = self._hearing("end_of_turn"), self._new_turn(), now()
        transcript = self._transcripts[turn_id] = asyncio.get_running_loop().create_future()
        await hearing.flush(turn_id, self._session.generation + 1)
        await self._openings.put(Opening(turn_id, turn.EndOfTurn(), at, transcript))

    def _hearing(self, field: str) -> Hearing:
        if self._cast.hearing is None:
            raise InvalidInput(field, "this call's config names no audio input", "config.input with its format")
        return self._cast.hearing

    def _new_turn(self) -> str:
        self._session.turns += 1
        return f"{self._session.id[:8]}-{self._session.turns}"

    async def _activity(self, activity: asr_pb2.SpeechActivity) -> None:
        await self._audience.tell(activity=activity)

    async def _transcript(self, transcript: asr_pb2.Transcript, models: list[model_pb2.ServingModel]) -> None:
        """Pass on what was made out; a final goes to the turn that waits for it."""
        await self._audience.tell(about_turn=transcript.turn_id, transcript=transcript)
        if waiting := self._transcripts.pop(transcript.turn_id, None):
            waiting.set_result(MadeOut(transcript, models))

    async def _frame(self, frame: animation_pb2.FaceFrame) -> None:
        await self._audience.move(frame)
        speaking = bool(frame.turn_id)
        await self._tell(turn.FaceMade(frame.start_sample, speaking, frame.engine_ms))
        if not self._wishes.draws:
            await self._tell(turn.FrameShown(frame.start_sample, speaking))

    async def _picture(self, picture: render_pb2.VideoFrame) -> None:
        await self._audience.show(picture)
        await self._tell(turn.FrameShown(picture.start_sample, bool(picture.turn_id), picture.render_ms))

    async def _tell(self, given: turn.Input) -> None:
        """An input for the turn in progress; between turns nobody needs it."""
        if self._turn is not None:
            await self._inbox.put((given, now()))

    # --- turns ------------------------------------------------------------------------------------------------------

    async def _lead_in(self) -> None:
        """A moment of still face before the first reply."""
        if face := self._cast.face:
            clock = self._wishes.clock
            self._position = clock.aligned(clock.samples(self._wishes.settings.lead_in_ms))
            await self._audience.play(0, bytes(2 * self._position))
            face.advance(self._position)

    async def _take_turn(self, opening: Opening) -> None:
        """One turn, from its opening to TurnDone."""
        wishes, session = self._wishes, self._session
        session.generation += 1
        self._cast.begin_turn()
        self._heard_by = []
        self._audience.turn_id, self._audience.pictures = opening.turn_id, 0
        current = self._turn = turn.Turn(
            clock=wishes.clock,
            start=self._position,
            tail=wishes.clock.samples(wishes.settings.tail_ms),
            window=wishes.settings.window_frames,
            speaks=wishes.speaks,
            shows=wishes.moves,
            express=express,
        )
        try:
            async with asyncio.TaskGroup() as work:
                reply = Reply(self._mesh, wishes, opening.turn_id, session.generation, self._tell, work)
                await self._follow(current, reply, opening)
                reply.stop()
        finally:
            if current.state is not turn.State.FINISHED:
                traces.turn_over(opening.turn_id, current.waterfall, None)
            self._turn = None
            while not self._inbox.empty():
                self._inbox.get_nowait()
        self._audience.turn_id = ""

    async def _follow(self, current: turn.Turn, reply: Reply, opening: Opening) -> None:
        """Step the turn through its inputs, and do what it says, until it finishes."""
        given: turn.Input = opening.given
        at = opening.at
        while True:
            for command in current.step(given, at):
                await self._perform(command, current, reply, opening)
            if current.state is turn.State.FINISHED:
                return
            given, at = await self._inbox.get()

    async def _perform(self, command: turn.Command, current: turn.Turn, reply: Reply, opening: Opening) -> None:
        wishes, session, face = self._wishes, self._session, self._cast.face
        match command:
            case turn.AwaitTranscript():
                reply.begin(self._transcribed(opening))
            case turn.Generate(text):
                reply.begin(reply.write(wishes.prompt(session.history, text)))
                if wishes.speaks:
                    reply.begin(reply.speak())
            case turn.Say():
                await self._audience.say(command)
                if wishes.speaks:
                    reply.say(command)
            case turn.CloseSpeech():
                reply.say(None)
            case turn.ShowPhonemes():
                await self._audience.show_phonemes(command)
            case turn.Play(start, data):
                await self._audience.play(start, data)
            case turn.MoveFace() | turn.MoveFaceByAudio() | turn.Advance() if face:
                face.follow(command, opening.turn_id, session.generation)
            case turn.CutSpeech(at):
                reply.stop()
                if face:
                    face.cut(at, session.generation + 1)
            case turn.Finish(outcome, end):
                await self._done(current, reply, outcome, end)

    async def _transcribed(self, opening: Opening) -> None:
        """Tell the turn what was heard."""
        assert opening.transcript is not None
        made_out = await opening.transcript
        self._heard_by = made_out.models
        await self._tell(turn.Heard(made_out.transcript.text, made_out.transcript.engine_ms))

    async def _done(self, current: turn.Turn, reply: Reply, outcome: turn.Outcome, end: int) -> None:
        self._position = end
        if current.user_text:
            most = self._wishes.settings.max_history_messages
            self._session.remember(current.user_text, current.reply_text, most)
        done = conversation_pb2.TurnDone(
            outcome=conversation_pb2.Outcome.ValueType(outcome.value),
            user_text=current.user_text,
            reply_text=current.reply_text,
            waterfall=current.waterfall.proto(),
            start_sample=current.start,
            end_sample=end,
            video_frames=self._audience.pictures,
            reply_tokens=current.reply_tokens,
            models=[*(self._heard_by or self._cast.listeners), *self._cast.faces, *reply.models],
            assignments=told(self._session),
        )
        traces.turn_over(reply.turn_id, current.waterfall, done)
        await self._audience.tell(done=done)


def now() -> float:
    """Seconds of the clock that all marks of a turn are taken on."""
    return time.perf_counter()
