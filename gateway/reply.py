"""The two services that make a reply: the LLM writes it, the TTS speaks it, clause by clause and both at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway import speech
from gateway.mesh import Mesh, opened
from gateway.turn import AudioCame, Delta, Input, ReplyWritten, Say, SpeechEnded
from services.runtime.errors import DomainError
from talkmesh.llm.v1 import llm_pb2
from talkmesh.model.v1 import model_pb2
from talkmesh.tts.v1 import tts_pb2

Told = Callable[[Input], Awaitable[None]]


@dataclass
class Reply:
    """One turn's calls to LLM and TTS. What they produce is told to `tell` as the turn's inputs."""

    mesh: Mesh
    turn_id: str
    generation: int
    tell: Told
    work: asyncio.TaskGroup
    models: list[model_pb2.ServingModel] = field(default_factory=list)
    _clauses: asyncio.Queue[Say | None] = field(default_factory=asyncio.Queue)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def begin(self, part: Coroutine[Any, Any, None]) -> None:
        """Run a part of the turn's work beside the others; its failure is the turn's."""
        self._tasks.append(self.work.create_task(part))

    def stop(self) -> None:
        """Cancel all parts, in the services too."""
        for task in self._tasks:
            task.cancel()

    def say(self, clause: Say | None) -> None:
        """Queue a clause to be spoken; None closes the reply."""
        self._clauses.put_nowait(clause)

    async def write(self, config: llm_pb2.GenerationConfig, messages: Sequence[llm_pb2.Message]) -> None:
        """Have the LLM answer `messages`."""
        request = llm_pb2.GenerateRequest(config=config)
        async with opened("llm", self.mesh.llm.Generate(), request) as (stream, started):
            self.models.append(started.model)
            prompt = llm_pb2.Prompt(turn_id=self.turn_id, generation=self.generation, messages=messages)
            await stream.send(llm_pb2.GenerateRequest(prompt=prompt))
            await stream.close()
            async for response in stream:
                await self._told_by_llm(response)

    async def _told_by_llm(self, response: llm_pb2.GenerateResponse) -> None:
        if response.WhichOneof("response") == "delta":
            await self.tell(Delta(response.delta.text, response.delta.engine_ms))
        elif response.WhichOneof("response") == "finished":
            await self.tell(ReplyWritten(response.finished.reply_tokens))

    async def speak(self, config: tts_pb2.SynthesisConfig) -> None:
        """Have the TTS speak the clauses that `say` brings."""
        request = tts_pb2.SynthesizeRequest(config=config)
        async with opened("tts", self.mesh.tts.Synthesize(), request) as (stream, started):
            self.models.append(started.model)
            said: list[Say] = []

            async def send() -> None:
                while (clause := await self._clauses.get()) is not None:
                    said.append(clause)
                    await stream.send(tts_pb2.SynthesizeRequest(clause=clause_proto(clause)))
                await stream.close()

            async with asyncio.TaskGroup() as group:
                group.create_task(send())
                await self._told_by_tts(aiter(stream), said)
            await self.tell(SpeechEnded())

    async def _told_by_tts(self, responses: AsyncIterator[tts_pb2.SynthesizeResponse], said: list[Say]) -> None:
        async for response in responses:
            match response.WhichOneof("response"):
                case "speech":
                    index = response.speech.clause_index
                    if not 0 <= index < len(said):
                        raise DomainError(f"tts: speaks clause {index}, but {len(said)} clauses were given")
                    await self.tell(speech.planned(response.speech, said[index].expression))
                case "audio":
                    await self.tell(AudioCame(response.audio.start_sample, response.audio.data))


def clause_proto(clause: Say) -> tts_pb2.Clause:
    return tts_pb2.Clause(index=clause.index, text=clause.text, expression=speech.expression_proto(clause.expression))
