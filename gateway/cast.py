"""Who takes part in a call: the streams that last as long as it, opened and checked before anything is asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from gateway.face import Face, face
from gateway.mesh import Mesh, Stream, opened
from gateway.wishes import Wishes
from talkmesh.asr.v1 import asr_pb2
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.llm.v1 import llm_pb2
from talkmesh.model.v1 import model_pb2
from talkmesh.tts.v1 import tts_pb2

Asr = Stream[asr_pb2.StreamingRecognizeRequest, asr_pb2.StreamingRecognizeResponse]


@dataclass
class Cast:
    """The streams of a call. LLM and TTS are opened anew for each turn; `started` names all who serve now."""

    asr: Asr | None = None
    face: Face | None = None
    started: conversation_pb2.ConversationStarted = field(default_factory=conversation_pb2.ConversationStarted)

    @property
    def models(self) -> list[model_pb2.ServingModel]:
        """The models of the streams that last as long as the call."""
        return [model for model in self.started.models if model.service not in ("llm", "tts")]


@asynccontextmanager
async def cast(mesh: Mesh, wishes: Wishes) -> AsyncIterator[Cast]:
    """Open the call's streams, and try those of its turns: what would be refused later is refused now.

    Raises ServiceFailed, alone or in a group, with what a service refused.
    """
    async with AsyncExitStack() as stack:
        made = Cast()
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
        yield made


async def open_asr(stack: AsyncExitStack, mesh: Mesh, wishes: Wishes, made: Cast) -> None:
    if not wishes.hears:
        return
    request = asr_pb2.StreamingRecognizeRequest(config=wishes.recognition())
    made.asr, started = await stack.enter_async_context(opened("asr", mesh.asr.StreamingRecognize(), request))
    made.started.models.append(started.model)
    made.started.limits.max_utterance_ms = started.max_utterance_ms
    made.started.limits.max_chunk_ms = started.max_chunk_ms


async def open_face(stack: AsyncExitStack, mesh: Mesh, wishes: Wishes, made: Cast) -> None:
    if not wishes.moves:
        return
    made.face = await stack.enter_async_context(face(mesh, wishes))
    made.started.models.append(made.face.started.model)
    made.started.blendshape_names.extend(made.face.started.blendshape_names)
    if pictures := made.face.pictures:
        made.started.models.append(pictures.model)
        made.started.width, made.started.height = pictures.width, pictures.height
        made.started.portrait = pictures.portrait


async def serving_llm(mesh: Mesh, wishes: Wishes) -> model_pb2.ServingModel:
    request = llm_pb2.GenerateRequest(config=wishes.generation())
    async with opened("llm", mesh.llm.Generate(), request) as (_, started):
        model: model_pb2.ServingModel = started.model
        return model


async def serving_tts(mesh: Mesh, wishes: Wishes) -> model_pb2.ServingModel:
    request = tts_pb2.SynthesizeRequest(config=wishes.synthesis("", 0))
    async with opened("tts", mesh.tts.Synthesize(), request) as (_, started):
        model: model_pb2.ServingModel = started.model
        return model
