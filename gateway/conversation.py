"""One Converse call: its streams to the services, its turns one after the other, and the events that go to the client."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from gateway import speech, turn
from gateway.clock import Clock
from gateway.emotion import express
from gateway.face import Face, face
from gateway.mesh import Mesh, Stream, opened
from gateway.mp4 import Mp4Writer
from gateway.recording import Recording
from gateway.reply import Reply
from gateway.sessions import Session
from gateway.settings import GatewaySettings
from services.runtime.errors import InvalidInput
from talkmesh.animation.v1 import animation_pb2
from talkmesh.asr.v1 import asr_pb2
from talkmesh.audio.v1 import audio_pb2
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.llm.v1 import llm_pb2
from talkmesh.model.v1 import model_pb2
from talkmesh.render.v1 import render_pb2
from talkmesh.tts.v1 import tts_pb2

WAITING_TURNS = 8
INBOX = 64
Write = Callable[[conversation_pb2.ConverseResponse], Awaitable[None]]
Requests = AsyncIterator[conversation_pb2.ConverseRequest]
Asr = Stream[asr_pb2.StreamingRecognizeRequest, asr_pb2.StreamingRecognizeResponse]


@dataclass(frozen=True)
class Opening:
    """How a turn begins, and when it did."""

    turn_id: str
    given: turn.TextGiven | turn.EndOfTurn
    at: float
    transcript: asyncio.Future[asr_pb2.Transcript] | None = None
    """What was said, when the ASR has made it out: maybe before the turn's time comes."""


@dataclass
class Conversation:
    """The state of one call. `run` is all of it."""

    mesh: Mesh
    settings: GatewaySettings
    session: Session
    config: conversation_pb2.ConversationConfig
    write: Write
    asr: Asr | None = None
    face: Face | None = None
    recording: Recording | None = None
    models: list[model_pb2.ServingModel] = field(default_factory=list)
    _position: int = 0
    """Where the next reply may begin, on the call's clock."""
    _frames: int = 0
    _turn: turn.Turn | None = None
    _turn_id: str = ""

    def __post_init__(self) -> None:
        outputs = self.config.outputs
        self.clock = Clock(self.settings.sample_rate_hz, self.settings.fps)
        self.draws = outputs.video or outputs.mp4
        self.moves = self.draws or outputs.face_frames
        self.speaks = self.moves or outputs.audio or outputs.phonemes
        self.seed = self.config.seed if self.config.HasField("seed") else secrets.randbits(63)
        self._inbox: asyncio.Queue[tuple[turn.Input, float]] = asyncio.Queue(INBOX)
        self._openings: asyncio.Queue[Opening | None] = asyncio.Queue(WAITING_TURNS)
        self._transcripts: dict[str, asyncio.Future[asr_pb2.Transcript]] = {}

    async def run(self, requests: Requests) -> None:
        """Serve the call until the client half-closes. Raises DomainError; cancelling it cancels everything."""
        async with AsyncExitStack() as stack:
            await self._open(stack)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._read(requests))
                listening = pumps.create_task(self._listen(self.asr)) if self.asr else None
                moving = pumps.create_task(self.face.run(self._frame, self._picture)) if self.face else None
                await self._lead_in()
                while opening := await self._openings.get():
                    await self._converse(opening)
                if listening and self.asr:
                    await self.asr.close()
                    await listening
                if moving:
                    moving.cancel()
            if self.recording:
                await self._emit(mp4=conversation_pb2.Mp4Segment(data=self.recording.close()))

    # --- opening ----------------------------------------------------------------------------------------------------

    async def _open(self, stack: AsyncExitStack) -> None:
        """Open the streams of the call, and try those that each turn opens for itself, so that what they would refuse is
        refused now."""
        async with asyncio.TaskGroup() as trying:
            tried = [trying.create_task(self._try_llm()), trying.create_task(self._try_tts())]
            started = await self._open_streams(stack)
        self.models += [model for task in tried if (model := task.result())]
        started.models.extend(self.models)
        await self._emit(started=started)

    async def _open_streams(self, stack: AsyncExitStack) -> conversation_pb2.ConversationStarted:
        limits = conversation_pb2.Limits(max_text_chars=self.settings.max_text_chars)
        if self.config.HasField("input"):
            self.asr, heard = await stack.enter_async_context(
                opened("asr", self.mesh.asr.StreamingRecognize(), self._recognition())
            )
            self.models.append(heard.model)
            limits.max_utterance_ms, limits.max_chunk_ms = heard.max_utterance_ms, heard.max_chunk_ms
        started = conversation_pb2.ConversationStarted(
            session_id=self.session.id,
            sample_rate_hz=self.clock.rate_hz,
            fps_numerator=self.clock.fps.numerator,
            fps_denominator=self.clock.fps.denominator,
            limits=limits,
        )
        if self.moves:
            await self._open_face(stack, started)
        return started

    async def _open_face(self, stack: AsyncExitStack, started: conversation_pb2.ConversationStarted) -> None:
        config = self.config
        made = face(self.mesh, self.clock.rate_hz, self.clock.fps, self.seed, config.portrait, config.size, self.draws)
        self.face = await stack.enter_async_context(made)
        self.models.append(self.face.started.model)
        started.blendshape_names.extend(self.face.started.blendshape_names)
        if pictures := self.face.pictures:
            self.models.append(pictures.model)
            started.width, started.height = pictures.width, pictures.height
            if config.outputs.mp4:
                writer = Mp4Writer(pictures.width, pictures.height, self.clock.fps, self.clock.rate_hz)
                self.recording = Recording(writer, self.clock)

    def _recognition(self) -> asr_pb2.StreamingRecognizeRequest:
        config = asr_pb2.RecognitionConfig(
            format=self.config.input, language=self.config.language, interim_results=True
        )
        return asr_pb2.StreamingRecognizeRequest(config=config)

    def _synthesis(self, turn_id: str = "") -> tts_pb2.SynthesisConfig:
        return tts_pb2.SynthesisConfig(
            turn_id=turn_id,
            generation=self.session.generation,
            voice=self.config.voice,
            language=self.config.language,
            sample_rate_hz=self.clock.rate_hz,
        )

    def _generation(self) -> llm_pb2.GenerationConfig:
        config = llm_pb2.GenerationConfig(
            max_tokens=self.config.max_reply_tokens or self.settings.max_reply_tokens,
        )
        if self.config.HasField("seed"):
            config.seed = self.config.seed
        if self.config.HasField("temperature"):
            config.temperature = self.config.temperature
        return config

    async def _try_llm(self) -> model_pb2.ServingModel | None:
        request = llm_pb2.GenerateRequest(config=self._generation())
        async with opened("llm", self.mesh.llm.Generate(), request) as (_, started):
            model: model_pb2.ServingModel = started.model
            return model

    async def _try_tts(self) -> model_pb2.ServingModel | None:
        if not self.speaks:
            return None
        request = tts_pb2.SynthesizeRequest(config=self._synthesis())
        async with opened("tts", self.mesh.tts.Synthesize(), request) as (_, started):
            model: model_pb2.ServingModel = started.model
            return model

    # --- what comes in ----------------------------------------------------------------------------------------------

    async def _read(self, requests: Requests) -> None:
        """Take the client's messages, each in its order, until it half-closes."""
        async for request in requests:
            match request.WhichOneof("request"):
                case "audio":
                    await self._hearing("audio").send(asr_pb2.StreamingRecognizeRequest(audio=request.audio))
                case "end_of_turn":
                    await self._end_of_turn()
                case "text":
                    await self._openings.put(Opening(self._new_turn(), self._checked(request.text.text), now()))
                case "interrupt":
                    await self._tell(turn.Interrupted())
        await self._openings.put(None)

    async def _end_of_turn(self) -> None:
        """Flush the ASR in the order of the audio, whether or not an earlier turn is still speaking."""
        asr, turn_id, at = self._hearing("end_of_turn"), self._new_turn(), now()
        transcript = self._transcripts[turn_id] = asyncio.get_running_loop().create_future()
        flush = asr_pb2.Flush(turn_id=turn_id, generation=self.session.generation + 1)
        await asr.send(asr_pb2.StreamingRecognizeRequest(flush=flush))
        await self._openings.put(Opening(turn_id, turn.EndOfTurn(), at, transcript))

    def _hearing(self, field_name: str) -> Asr:
        if self.asr is None:
            raise InvalidInput(field_name, "this call's config names no audio input", "config.input with its format")
        return self.asr

    def _checked(self, text: str) -> turn.TextGiven:
        if not text.strip():
            raise InvalidInput("text.text", "is empty", "a question")
        if len(text) > self.settings.max_text_chars:
            expected = f"at most {self.settings.max_text_chars}"
            raise InvalidInput("text.text", f"has {len(text)} characters", expected)
        return turn.TextGiven(text)

    def _new_turn(self) -> str:
        self.session.turns += 1
        return f"{self.session.id[:8]}-{self.session.turns}"

    async def _listen(self, asr: Asr) -> None:
        """Pass on what the ASR hears; finals go to the turn that waits for them."""
        async for response in asr:
            if response.WhichOneof("response") == "activity":
                await self._emit(activity=response.activity)
                continue
            transcript = response.transcript
            await self._emit(about_turn=transcript.turn_id, transcript=transcript)
            if waiting := self._transcripts.pop(transcript.turn_id, None):
                waiting.set_result(transcript)

    async def _frame(self, frame: animation_pb2.FaceFrame) -> None:
        if self.config.outputs.face_frames:
            await self._emit(face_frame=frame)
        speaking = bool(frame.turn_id)
        await self._tell(turn.FaceMade(frame.start_sample, speaking, frame.engine_ms))
        if not self.draws:
            await self._tell(turn.FrameShown(frame.start_sample, speaking))

    async def _picture(self, picture: render_pb2.VideoFrame) -> None:
        self._frames += 1
        if self.config.outputs.video:
            await self._emit(video=picture)
        if self.recording:
            ready = self.recording.picture(picture.data, picture.start_sample, picture.keyframe)
            if ready:
                await self._emit(mp4=conversation_pb2.Mp4Segment(data=ready))
        await self._tell(turn.FrameShown(picture.start_sample, bool(picture.turn_id), picture.render_ms))

    async def _tell(self, given: turn.Input) -> None:
        """An input for the turn in progress; between turns nobody needs it."""
        if self._turn is not None:
            await self._inbox.put((given, now()))

    # --- turns ------------------------------------------------------------------------------------------------------

    async def _lead_in(self) -> None:
        """A moment of still face before the first reply."""
        if self.face:
            self._position = self.clock.aligned(self.clock.samples(self.settings.lead_in_ms))
            await self._play(0, bytes(2 * self._position))
            self.face.order(advance=animation_pb2.Advance(until_sample=self._position))

    async def _converse(self, opening: Opening) -> None:
        """One turn, from its opening to TurnDone."""
        self.session.generation += 1
        self._turn_id, self._frames = opening.turn_id, 0
        current = self._turn = turn.Turn(
            clock=self.clock,
            start=self._position,
            tail=self.clock.samples(self.settings.tail_ms),
            window=self.settings.window_frames,
            speaks=self.speaks,
            shows=self.moves,
            express=express,
        )
        try:
            async with asyncio.TaskGroup() as work:
                reply = Reply(self.mesh, opening.turn_id, self.session.generation, self._tell, work)
                await self._follow(current, reply, opening)
                reply.stop()
        finally:
            self._turn = None
            while not self._inbox.empty():
                self._inbox.get_nowait()
        self._turn_id = ""

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
        match command:
            case turn.AwaitTranscript():
                reply.begin(self._transcribed(opening))
            case turn.Generate(text):
                reply.begin(reply.write(self._generation(), self._messages(text)))
                if self.speaks:
                    reply.begin(reply.speak(self._synthesis(self._turn_id)))
            case turn.Say(index, text, expression):
                shown = speech.expression_proto(expression)
                await self._emit(clause=conversation_pb2.ReplyClause(index=index, text=text, expression=shown))
                if self.speaks:
                    reply.say(command)
            case turn.CloseSpeech():
                reply.say(None)
            case turn.ShowPhonemes():
                await self._show_phonemes(command)
            case turn.Play(start, data):
                await self._play(start, data)
            case turn.MoveFace() | turn.MoveFaceByAudio() | turn.Advance():
                self._move_face(command)
            case turn.CutSpeech(at):
                reply.stop()
                if self.face:
                    cut = animation_pb2.Interrupt(generation=self.session.generation + 1, at_sample=at)
                    self.face.order(interrupt=cut)
            case turn.Finish(outcome, end):
                await self._done(current, reply, outcome, end)

    def _messages(self, text: str) -> list[llm_pb2.Message]:
        """The prompt of a turn: system prompt, history, question."""
        prompt = self.config.system_prompt or self.settings.system_prompt
        system = [llm_pb2.Message(role=llm_pb2.ROLE_SYSTEM, content=prompt)] if prompt else []
        return [*system, *self.session.history, llm_pb2.Message(role=llm_pb2.ROLE_USER, content=text)]

    async def _transcribed(self, opening: Opening) -> None:
        """Tell the turn what was heard."""
        assert opening.transcript is not None
        heard = await opening.transcript
        await self._tell(turn.Heard(heard.text, heard.engine_ms))

    def _move_face(self, command: turn.MoveFace | turn.MoveFaceByAudio | turn.Advance) -> None:
        assert self.face is not None
        turn_id, generation = self._turn_id, self.session.generation
        match command:
            case turn.MoveFace(start, end, phonemes, expression):
                said = animation_pb2.Speech(
                    turn_id=turn_id,
                    generation=generation,
                    start_sample=start,
                    end_sample=end,
                    phonemes=speech.phoneme_protos(phonemes),
                    expression=speech.expression_proto(expression),
                )
                self.face.order(speech=said)
            case turn.MoveFaceByAudio(start, data, expression):
                heard = animation_pb2.SpeechAudio(
                    turn_id=turn_id,
                    generation=generation,
                    audio=audio_pb2.AudioChunk(start_sample=start, data=data),
                    expression=speech.expression_proto(expression),
                )
                self.face.order(audio=heard)
            case turn.Advance(until):
                self.face.order(advance=animation_pb2.Advance(until_sample=until))

    async def _show_phonemes(self, shown: turn.ShowPhonemes) -> None:
        if self.config.outputs.phonemes:
            await self._emit(
                phonemes=conversation_pb2.ClausePhonemes(
                    clause_index=shown.clause_index,
                    start_sample=shown.start,
                    end_sample=shown.end,
                    phonemes=speech.phoneme_protos(shown.phonemes),
                    words=speech.word_protos(shown.words),
                )
            )

    async def _play(self, start: int, data: bytes) -> None:
        if self.recording:
            self.recording.audio(start, data)
        if self.config.outputs.audio and data:
            await self._emit(audio=audio_pb2.AudioChunk(start_sample=start, data=data))

    async def _done(self, current: turn.Turn, reply: Reply, outcome: turn.Outcome, end: int) -> None:
        self._position = end
        if current.user_text:
            self.session.remember(current.user_text, current.reply_text, self.settings.max_history_messages)
        fixed = [model for model in self.models if model.service not in ("llm", "tts")]
        await self._emit(
            done=conversation_pb2.TurnDone(
                outcome=conversation_pb2.Outcome.ValueType(outcome.value),
                user_text=current.user_text,
                reply_text=current.reply_text,
                waterfall=current.waterfall.proto(),
                start_sample=current.start,
                end_sample=end,
                video_frames=self._frames,
                reply_tokens=current.reply_tokens,
                models=[*fixed, *reply.models],
            )
        )

    async def _emit(self, about_turn: str = "", **event: Any) -> None:
        """Send one event, given as its one field; it waits while the client does not read."""
        turn_id, generation = about_turn or self._turn_id, self.session.generation
        await self.write(conversation_pb2.ConverseResponse(turn_id=turn_id, generation=generation, **event))


def now() -> float:
    """Seconds of the clock that all marks of a turn are taken on."""
    return time.perf_counter()
