"""One live session: what drives it, and what can be asked of it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from gateway import continuing
from gateway.cast import Cast, cast
from gateway.experiments.sessions import told
from gateway.live.conversation import LiveConversation
from gateway.live.draft import Question
from gateway.live.endpointing import Endpointing, PushToTalk, Semantic
from gateway.live.face import LiveFace
from gateway.live.metrics import LiveMetrics
from gateway.live.microphones import Microphone, Microphones
from gateway.live.program import Program
from gateway.live.stage import Stage
from gateway.sessions import Session
from gateway.wishes import Wishes
from services.runtime.errors import DomainError, InvalidInput, first_of
from talkmesh.asr.v1 import asr_pb2
from talkmesh.audio.v1 import audio_pb2
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.model.v1 import model_pb2

SETTLED_POLL_S = 0.02
log = logging.getLogger(__name__)


class LiveSession:
    """Made by `live`."""

    def __init__(
        self, wishes: Wishes, session: Session, made: Cast, stage: Stage, conversation: LiveConversation
    ) -> None:
        self.id = session.id
        self.wishes = wishes
        self.started = made.started
        self.program = stage.program
        self.stage = stage
        self.conversation = conversation
        self._hearing = made.hearing
        self._format = wishes.config.input
        self._taken = 0
        """Samples of the user's audio that were listened to."""
        self.microphones = Microphones(self._format, made.started.limits.max_chunk_ms, self._listen)
        self._over = asyncio.Event()
        self._error: DomainError | None = None

    @property
    def input_rate_hz(self) -> int:
        """Of the audio that `hear` takes; 0 when the session does not listen."""
        return self._format.sample_rate_hz

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def check_joins(self, config: conversation_pb2.ConversationConfig) -> None:
        """Raises InvalidInput for a call whose audio would be taken for something else than it is."""
        if config.HasField("input") and self.input_rate_hz and config.input != self._format:
            expected = f"{self._format.sample_rate_hz} Hz, {self._format.channels} channels, and its encoding"
            raise InvalidInput("input", "is not the format of the session that is taken up", expected)

    @contextmanager
    def microphone(self) -> Iterator[Microphone]:
        """A microphone of the caller's own: those of several callers are heard together."""
        with self.microphones.opened() as made:
            yield made

    async def hear(self, data: bytes, start_sample: int | None = None) -> None:
        """The user's audio in the format of the session's config, as it comes, of the one caller that has no microphone.

        `start_sample` counts what the caller has sent; a gap is heard as silence. Raises InvalidInput for what does not
        follow, or when the session's config names no input.
        """
        await self.microphones.shared.hear(data, start_sample)

    async def _listen(self, data: bytes) -> None:
        """More of what all microphones give."""
        assert self._hearing is not None
        if self.conversation.listens:
            samples = len(data) // self.microphones.frame_bytes
            chunk = audio_pb2.AudioChunk(start_sample=self._taken, data=data)
            self._taken += samples
            self.conversation.listened(samples, self.microphones.levels(data))
            await self._hearing.hear(chunk)

    async def ask(self, text: str) -> str:
        """The user's question, typed; answered when what was asked before is. Returns the id of its turn.

        Raises InvalidInput for one that is empty or too long, Busy when too many wait.
        """
        return self.conversation.ask(Question(self.wishes.question(text)))

    async def say(self, text: str) -> str:
        """A text to be said as it is; like `ask`."""
        return self.conversation.ask(Question(said=self.wishes.question(text)))

    async def start_of_turn(self) -> None:
        """Push to talk: the user begins to speak, and what is being said stops."""
        self._needs_push_to_talk("start_of_turn")
        self.conversation.press()

    async def end_of_turn(self) -> None:
        """Push to talk: the user has said it."""
        self._needs_push_to_talk("end_of_turn")
        self.conversation.release()

    def _needs_push_to_talk(self, field: str) -> None:
        if not self.conversation.push_to_talk:
            raise InvalidInput(field, "the session listens all the time", "live.endpointing PUSH_TO_TALK in its config")

    async def interrupt(self) -> None:
        """Stop the reply in progress, and forget what was asked behind it."""
        self.conversation.interrupt()

    async def settled(self) -> None:
        """Return when nothing is being said, or waits to be, or the session has ended."""
        while not self.is_over and not self.conversation.is_idle:
            await asyncio.sleep(SETTLED_POLL_S)

    async def over(self) -> None:
        """Return when the session has ended, however."""
        await self._over.wait()

    async def closed(self) -> None:
        """Return when the session has ended. Raises the error that ended it."""
        await self._over.wait()
        if self._error:
            raise self._error

    def end(self, error: DomainError | None = None) -> None:
        """It is over."""
        self._error = self._error or error
        self._over.set()
        self.program.end()


@asynccontextmanager
async def live(
    mesh: continuing.Services, wishes: Wishes, session: Session, metrics: LiveMetrics
) -> AsyncIterator[LiveSession]:
    """A session whose clock runs until it is left, or ended by an error. Raises DomainError when it cannot begin."""
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(cast(mesh, wishes))
        made.started.session_id = session.id
        made.started.assignments.extend(told(session))
        stage = staged(wishes, made, metrics)
        async with asyncio.TaskGroup() as work:
            conversation = LiveConversation(
                mesh, wishes, session, made, stage, endpointing(wishes, made), work, metrics
            )
            running = LiveSession(wishes, session, made, stage, conversation)
            driving = work.create_task(drive(running, made, stage, conversation))
            try:
                yield running
            finally:
                running.end()
                driving.cancel()
                conversation.close()


def staged(wishes: Wishes, made: Cast, metrics: LiveMetrics) -> Stage:
    """The stage, with its face on it."""
    clock, started = wishes.clock, made.started
    program = Program(clock.rate_hz, clock.fps, started.width, started.height)
    stage = Stage(clock, program, metrics)
    program.keyframe = stage.want_keyframe
    if made.face:
        stage.face = LiveFace(clock, made.face, 0, 1)
    stage.tells_frames = wishes.config.outputs.face_frames
    return stage


def endpointing(wishes: Wishes, made: Cast) -> Endpointing:
    """How the end of the user's turns is found."""
    if wishes.push_to_talk:
        return PushToTalk()
    listening = bool(made.hearing and made.hearing.started.predicts_turns)
    return Semantic(wishes.config.input.sample_rate_hz or 1, listening=listening)


async def drive(running: LiveSession, made: Cast, stage: Stage, conversation: LiveConversation) -> None:
    """Keep everything going; an error of a service that does not come back ends the session."""

    async def activity(told: asr_pb2.SpeechActivity) -> None:
        conversation.activity(told)

    async def transcript(told: asr_pb2.Transcript, models: list[model_pb2.ServingModel]) -> None:
        conversation.transcript(told, models)

    async def prediction(told: asr_pb2.TurnPrediction) -> None:
        conversation.predicted(told.complete, told.sample)

    try:
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(stage.run())
            if made.hearing:
                conversation.flush = made.hearing.end_utterance
                pumps.create_task(running.microphones.fall_silent())
                pumps.create_task(made.hearing.run(activity, transcript, prediction))
            if made.face:
                pumps.create_task(made.face.motion.run(stage.take_frame))
                if made.face.pictures:
                    pumps.create_task(made.face.pictures.run(stage.take_picture))
    except* DomainError as group:
        error = first_of(group)
        log.warning("live session ended: %s", error)
        running.end(error)
