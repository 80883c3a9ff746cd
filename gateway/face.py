"""A session's face: what it is told to do comes back as face frames and pictures, in the order of the clock."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from gateway import speech, turn
from gateway.continuing import Continued, Services
from gateway.motion import FrameSink, Motion, motion
from gateway.pictures import Pictures, PictureSink, pictures
from gateway.wishes import Wishes
from talkmesh.animation.v1 import animation_pb2
from talkmesh.audio.v1 import audio_pb2


class Face:
    """Streams to animation and, if pictures are wanted, to render, for one call.

    Orders are queued and sent by a task of their own: whoever gives them may at that moment be what the frames wait for.
    """

    def __init__(self, motion: Motion, pictures: Pictures | None) -> None:
        self.motion = motion
        self.pictures = pictures

    @property
    def streams(self) -> Sequence[Continued[Any, Any]]:
        return (self.motion.stream, self.pictures.stream) if self.pictures else (self.motion.stream,)

    def follow(
        self, command: turn.MoveFace | turn.MoveFaceByAudio | turn.Advance, turn_id: str, generation: int
    ) -> None:
        """Do what a turn says about the face."""
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
                self.motion.order(speech=said)
            case turn.MoveFaceByAudio(start, data, expression):
                heard = animation_pb2.SpeechAudio(
                    turn_id=turn_id,
                    generation=generation,
                    audio=audio_pb2.AudioChunk(start_sample=start, data=data),
                    expression=speech.expression_proto(expression),
                )
                self.motion.order(audio=heard)
            case turn.Advance(until):
                self.advance(until)

    def advance(self, until: int) -> None:
        """Have the frames before a sample made."""
        self.motion.order(advance=animation_pb2.Advance(until_sample=until))

    def cut(self, at: int, generation: int) -> None:
        """Forget the speech of generations before this one from a sample on."""
        self.motion.order(interrupt=animation_pb2.Interrupt(generation=generation, at_sample=at))

    async def run(self, on_frame: FrameSink, on_picture: PictureSink) -> None:
        """Move frames and pictures until cancelled. Raises ServiceFailed."""

        async def pass_on(frame: animation_pb2.FaceFrame) -> None:
            await on_frame(frame)
            if self.pictures:
                self.pictures.draw(frame)

        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(self.motion.run(pass_on))
            if self.pictures:
                pumps.create_task(self.pictures.run(on_picture))


@asynccontextmanager
async def face(mesh: Services, wishes: Wishes, first: int = 0) -> AsyncIterator[Face]:
    """The face that a call wishes for, from a frame on. Raises ServiceFailed when a service refuses, say a portrait."""
    async with AsyncExitStack() as stack:
        moving = await stack.enter_async_context(motion(mesh, wishes, first))
        drawing = await stack.enter_async_context(pictures(mesh, wishes, moving.names)) if wishes.draws else None
        yield Face(moving, drawing)
