"""A Converse call that is attached to a live session: what it asks, and what it gets of what the session sends out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from gateway.clock import Clock
from gateway.live.program import Item, Picture, Sound, Told
from gateway.live.session import LiveSession
from gateway.mp4 import Mp4Writer
from gateway.recording import Recording
from services.runtime.errors import InvalidInput
from talkmesh.audio.v1 import audio_pb2
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.render.v1 import render_pb2

Requests = AsyncIterator[conversation_pb2.ConverseRequest]
Write = Callable[[conversation_pb2.ConverseResponse], Awaitable[None]]
LAG_MS = 2000.0


async def converse_live(
    session: LiveSession, outputs: conversation_pb2.Outputs, requests: Requests, write: Write
) -> None:
    """Serve a call until the client half-closes and nothing is left to be said, or the session ends.

    Raises DomainError, alone or in a group.
    """
    ears = Ears(session, outputs, write)
    await write(conversation_pb2.ConverseResponse(started=session.started))
    async with asyncio.TaskGroup() as pumps:
        watching = pumps.create_task(ears.listen())
        reading = pumps.create_task(read(session, requests))
        ending = pumps.create_task(session.closed())
        await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()
        ending.cancel()
        watching.cancel()
    await ears.end()


async def read(session: LiveSession, requests: Requests) -> None:
    """Do what the client says; return when it says nothing more, and nothing is left to be said to it."""
    with session.microphone() as microphone:
        async for request in requests:
            if request.HasField("audio"):
                await microphone.hear(request.audio.data, request.audio.start_sample)
            else:
                await do(session, request)
    await session.settled()


async def do(session: LiveSession, request: conversation_pb2.ConverseRequest) -> None:
    """Anything but audio. Raises DomainError."""
    match request.WhichOneof("request"):
        case "text":
            await session.ask(request.text.text)
        case "say":
            await session.say(request.say.text)
        case "start_of_turn":
            await session.start_of_turn()
        case "end_of_turn":
            await session.end_of_turn()
        case "interrupt":
            await session.interrupt()
        case other:
            raise InvalidInput(str(other), "comes a second time, or is not known", "the config first, and once")


class Ears:
    """One client's share of what is released."""

    def __init__(self, session: LiveSession, outputs: conversation_pb2.Outputs, write: Write) -> None:
        self._session = session
        self._outputs = outputs
        self._write = write
        self._generation = 0
        self._turn_id = ""
        self._recording: Recording | None = None

    async def listen(self) -> None:
        """Send everything that the client wants, as long as the session lasts."""
        outputs, program = self._outputs, self._session.program
        pictures = outputs.video or outputs.mp4
        with program.watch(sound=outputs.audio or outputs.mp4, pictures=pictures, lag_ms=LAG_MS) as viewer:
            async for item in viewer:
                await self._send(item)

    async def end(self) -> None:
        """Send the rest of the recording."""
        if self._recording:
            await self._record(self._recording.close())

    async def _send(self, item: Item) -> None:
        match item:
            case Sound(start, data, speaking):
                if self._recording:
                    self._recording.audio(start, data)
                if self._outputs.audio and speaking:
                    await self._tell(audio=audio_pb2.AudioChunk(start_sample=start, data=data))
            case Picture():
                await self._show(item)
            case Told(event):
                await self._pass_on(event)

    async def _pass_on(self, event: conversation_pb2.ConverseResponse) -> None:
        self._generation = max(self._generation, event.generation)
        self._turn_id = "" if event.HasField("done") else event.turn_id or self._turn_id
        unwanted = (event.HasField("phonemes") and not self._outputs.phonemes) or (
            event.HasField("face_frame") and not self._outputs.face_frames
        )
        if not unwanted:
            await self._write(event)

    async def _show(self, picture: Picture) -> None:
        if self._outputs.video:
            frame = render_pb2.VideoFrame(
                turn_id=self._turn_id if picture.speaking else "",
                generation=self._generation,
                start_sample=picture.start,
                data=picture.data,
                keyframe=picture.keyframe,
            )
            await self._tell(video=frame)
        if self._outputs.mp4:
            if self._recording is None:
                self._recording = self._begin(picture.start)
            await self._record(self._recording.picture(picture.data, picture.start, picture.keyframe))

    def _begin(self, start: int) -> Recording:
        program = self._session.program
        writer = Mp4Writer(program.width, program.height, program.fps, program.rate_hz)
        return Recording(writer, Clock(program.rate_hz, program.fps), start)

    async def _record(self, ready: bytes) -> None:
        if ready:
            await self._tell(mp4=conversation_pb2.Mp4Segment(data=ready))

    async def _tell(self, **event: object) -> None:
        told = conversation_pb2.ConverseResponse(turn_id=self._turn_id, generation=self._generation, **event)  # type: ignore[arg-type]
        await self._write(told)
