"""Who takes part in a call: the streams that last as long as it, opened and checked before anything is asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.continuing import Backlog, Opening, Services, continued, only
from gateway.face import Face, face
from gateway.hearing import Hearing, hearing
from gateway.mesh import ServiceFailed, opened
from gateway.wishes import Wishes
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.llm.v1 import llm_pb2
from talkmesh.model.v1 import model_pb2
from talkmesh.tts.v1 import tts_pb2


@dataclass
class Cast:
    """The streams of a call. LLM and TTS are opened anew for each turn; `started` names all who serve at the beginning."""

    mesh: Services
    hearing: Hearing | None = None
    face: Face | None = None
    started: conversation_pb2.ConversationStarted = field(default_factory=conversation_pb2.ConversationStarted)

    def begin_turn(self) -> None:
        """Go on with the newest models, where nothing is under way on older ones."""
        if self.hearing:
            self.hearing.begin_turn()
        for stream in self.face.streams if self.face else ():
            stream.begin_turn()
            stream.forget_models()
            stream.move(self.mesh.place(stream.service))

    def follow(self, at_rest: bool) -> None:
        """Be ready for newer models of the face; `at_rest`, go on with them: nobody speaks."""
        for stream in self.face.streams if self.face else ():
            newest = self.mesh.place(stream.service)
            if at_rest:
                stream.move(newest)
            else:
                stream.prepare(newest)

    @property
    def listeners(self) -> list[model_pb2.ServingModel]:
        """The models that hear what is said now."""
        return list(self.hearing.stream.models) if self.hearing else []

    @property
    def faces(self) -> list[model_pb2.ServingModel]:
        """The models that have had a part in the face of the turn."""
        return [model for stream in self.face.streams for model in stream.models] if self.face else []


@asynccontextmanager
async def cast(mesh: Services, wishes: Wishes) -> AsyncIterator[Cast]:
    """Open the call's streams, and try those of its turns: what would be refused later is refused now.

    Raises ServiceFailed, alone or in a group, with what a service refused.
    """
    async with AsyncExitStack() as stack:
        try:
            made = await opened_cast(stack, mesh, wishes)
        except (ServiceFailed, BaseExceptionGroup) as error:
            if not only(error, lambda _: True) or not mesh.leave_variants():
                raise
            # An experiment's models will not have it. If everybody's do, it is theirs that are to blame, and nobody notices.
            await stack.aclose()
            made = await opened_cast(stack, mesh, wishes)
            mesh.blame_variants()
        yield made


async def opened_cast(stack: AsyncExitStack, mesh: Services, wishes: Wishes) -> Cast:
    """All streams of a call, open until `stack` is left."""
    made = Cast(mesh)
    async with asyncio.TaskGroup() as trying:
        tried = [trying.create_task(serving_llm(mesh, wishes))]
        if wishes.speaks:
            tried.append(trying.create_task(serving_tts(mesh, wishes)))
        await open_asr(stack, mesh, wishes, made)
        await open_face(stack, mesh, wishes, made)
    made.started.models.extend(task.result() for task in tried)
    made.started.sample_rate_hz = wishes.clock.rate_hz
    made.started.fps_numerator = wishes.clock.fps.numerator
    made.started.fps_denominator = wishes.clock.fps.denominator
    made.started.limits.max_text_chars = wishes.settings.max_text_chars
    return made


async def open_asr(stack: AsyncExitStack, mesh: Services, wishes: Wishes, made: Cast) -> None:
    if not wishes.hears:
        return
    made.hearing = await stack.enter_async_context(hearing(mesh, wishes))
    started = made.hearing.started
    made.started.models.append(started.model)
    made.started.limits.max_utterance_ms = started.max_utterance_ms
    made.started.limits.max_chunk_ms = started.max_chunk_ms


async def open_face(stack: AsyncExitStack, mesh: Services, wishes: Wishes, made: Cast) -> None:
    if not wishes.moves:
        return
    made.face = await stack.enter_async_context(face(mesh, wishes))
    made.started.models.append(made.face.motion.stream.started.model)
    made.started.blendshape_names.extend(made.face.motion.names)
    if made.face.pictures:
        pictures = made.face.pictures.started
        made.started.models.append(pictures.model)
        made.started.width, made.started.height = pictures.width, pictures.height
        made.started.portrait = pictures.portrait


async def serving_llm(mesh: Services, wishes: Wishes) -> model_pb2.ServingModel:
    request = llm_pb2.GenerateRequest(config=wishes.generation())
    return await serving("llm", lambda: opened("llm", mesh.llm.Generate(), request))


async def serving_tts(mesh: Services, wishes: Wishes) -> model_pb2.ServingModel:
    request = tts_pb2.SynthesizeRequest(config=wishes.synthesis("", 0))
    return await serving("tts", lambda: opened("tts", mesh.tts.Synthesize(), request))


async def serving(service: str, opening: Opening) -> model_pb2.ServingModel:
    """The model that would serve such a stream now."""
    async with continued(service, opening, Backlog[Any]()) as stream:
        model: model_pb2.ServingModel = stream.started.model
        return model
