"""The client's side of a call: every event that it asked for, on its way."""

from collections.abc import Awaitable, Callable
from typing import Any

from gateway import speech, turn
from gateway.mp4 import Mp4Writer
from gateway.recording import Recording
from gateway.sessions import Session
from gateway.wishes import Wishes
from talkmesh.animation.v1 import animation_pb2
from talkmesh.audio.v1 import audio_pb2
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.render.v1 import render_pb2

Write = Callable[[conversation_pb2.ConverseResponse], Awaitable[None]]


class Audience:
    """Sends what the client wished for, stamped with the turn in progress; waits while the client does not read."""

    def __init__(self, wishes: Wishes, session: Session, write: Write) -> None:
        self._outputs = wishes.config.outputs
        self._clock = wishes.clock
        self._session = session
        self._write = write
        self._recording: Recording | None = None
        self.turn_id = ""
        self.pictures = 0
        """Pictures shown in the turn in progress."""

    async def begin(self, started: conversation_pb2.ConversationStarted) -> None:
        """Tell that the call is open."""
        if self._outputs.mp4:
            writer = Mp4Writer(started.width, started.height, self._clock.fps, self._clock.rate_hz)
            self._recording = Recording(writer, self._clock)
        await self.tell(started=started)

    async def tell(self, about_turn: str = "", **event: Any) -> None:
        """Send one event, given as its one field."""
        turn_id, generation = about_turn or self.turn_id, self._session.generation
        await self._write(conversation_pb2.ConverseResponse(turn_id=turn_id, generation=generation, **event))

    async def say(self, clause: turn.Say) -> None:
        shown = speech.expression_proto(clause.expression)
        await self.tell(clause=conversation_pb2.ReplyClause(index=clause.index, text=clause.text, expression=shown))

    async def show_phonemes(self, shown: turn.ShowPhonemes) -> None:
        if self._outputs.phonemes:
            await self.tell(
                phonemes=conversation_pb2.ClausePhonemes(
                    clause_index=shown.clause_index,
                    start_sample=shown.start,
                    end_sample=shown.end,
                    phonemes=speech.phoneme_protos(shown.phonemes),
                    words=speech.word_protos(shown.words),
                )
            )

    async def play(self, start: int, data: bytes) -> None:
        """Audio from sample `start` on."""
        if self._recording:
            self._recording.audio(start, data)
        if self._outputs.audio and data:
            await self.tell(audio=audio_pb2.AudioChunk(start_sample=start, data=data))

    async def move(self, frame: animation_pb2.FaceFrame) -> None:
        if self._outputs.face_frames:
            await self.tell(face_frame=frame)

    async def show(self, picture: render_pb2.VideoFrame) -> None:
        self.pictures += 1
        if self._outputs.video:
            await self.tell(video=picture)
        if self._recording:
            await self._record(self._recording.picture(picture.data, picture.start_sample, picture.keyframe))

    async def end(self) -> None:
        """Send what is left of the recording."""
        if self._recording:
            await self._record(self._recording.close())

    async def _record(self, ready: bytes) -> None:
        if ready:
            await self.tell(mp4=conversation_pb2.Mp4Segment(data=ready))
