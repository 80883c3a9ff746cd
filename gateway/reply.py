"""The two services that make a reply: the LLM writes it, the TTS speaks it, clause by clause and both at once."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway import speech
from gateway.continuing import Backlog, Continued, Services, continued, unknown_voice
from gateway.mesh import ServiceFailed, Stream, opened
from gateway.turn import Delta, Input, ReplyWritten, Say, SpeechEnded
from gateway.voice import Voice
from gateway.wishes import Wishes
from talkmesh.llm.v1 import llm_pb2
from talkmesh.model.v1 import model_pb2
from talkmesh.tts.v1 import tts_pb2

Told = Callable[[Input], Awaitable[None]]
log = logging.getLogger(__name__)


class Writing:
    """A turn's text, through as many language models as it takes."""

    def __init__(self, mesh: Services, config: llm_pb2.GenerationConfig, prompt: llm_pb2.Prompt, tell: Told) -> None:
        self.backlog: Backlog[llm_pb2.GenerateRequest] = Backlog()
        self._mesh = mesh
        self._config = config
        self._prompt = prompt
        self._tell = tell
        self._text = ""
        self._deltas = self._deltas_before = 0
        """Of all models, and of those before the one that writes now. Each is a token or more."""

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[tuple[Stream[Any, Any], Any]]:
        """A stream whose prompt ends with the reply so far."""
        prompt, config = llm_pb2.Prompt(), llm_pb2.GenerationConfig()
        prompt.CopyFrom(self._prompt)
        config.CopyFrom(self._config)
        self._deltas_before = self._deltas
        if self._text.strip():
            prompt.messages.add(role=llm_pb2.ROLE_ASSISTANT, content=self._text)
            config.max_tokens = max(1, config.max_tokens - self._deltas)
        self.backlog.begin_again([llm_pb2.GenerateRequest(prompt=prompt)])
        self.backlog.close()
        async with opened("llm", self._mesh.llm.Generate(), llm_pb2.GenerateRequest(config=config)) as stream:
            yield stream

    async def take(self, response: llm_pb2.GenerateResponse) -> None:
        match response.WhichOneof("response"):
            case "delta":
                self._text += response.delta.text
                self._deltas += 1
                await self._tell(Delta(response.delta.text, response.delta.engine_ms))
            case "finished":
                self.backlog.answered(1)
                await self._tell(ReplyWritten(self._deltas_before + response.finished.reply_tokens))


class Speaking:
    """A turn's speech, through as many voices as it takes."""

    def __init__(self, mesh: Services, wishes: Wishes, turn_id: str, generation: int, tell: Told) -> None:
        self.backlog: Backlog[tts_pb2.SynthesizeRequest] = Backlog()
        self._mesh = mesh
        self._wishes = wishes
        self._stamp = (turn_id, generation)
        self._tell = tell
        self._voice = Voice()

    def say(self, clause: Say | None) -> None:
        """Queue a clause to be spoken; None closes the reply."""
        if clause is None:
            self.backlog.close()
        else:
            self._voice.add(clause)
            self.backlog.add(clause_request(clause))

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[tuple[Stream[Any, Any], Any]]:
        """A stream that is told what is unsaid, in the voice wished for; in the model's own where it has no such voice.

        The wish was met when the call was opened: it is not the user's mistake that it cannot be any more.
        """
        self.backlog.begin_again(map(clause_request, self._voice.unsaid))
        async with AsyncExitStack() as stack:
            try:
                stream = await stack.enter_async_context(self._opened())
            except ServiceFailed as error:
                if not (self._wishes.voice and unknown_voice(error)):
                    raise
                log.warning("tts: %s; going on with the model's own voice", error)
                self._wishes.voice = ""
                stream = await stack.enter_async_context(self._opened())
            yield stream

    def _opened(self) -> Any:
        config = tts_pb2.SynthesizeRequest(config=self._wishes.synthesis(*self._stamp))
        return opened("tts", self._mesh.tts.Synthesize(), config)

    async def take(self, response: tts_pb2.SynthesizeResponse) -> None:
        await self._tell_all(self._voice.take(response))

    async def cut(self) -> None:
        """The voice is gone; see what it has left unsaid."""
        await self._tell_all(self._voice.cut())

    async def _tell_all(self, inputs: Sequence[Input]) -> None:
        self.backlog.answered(len(self.backlog.kept) - self._voice.waiting)
        for given in inputs:
            await self._tell(given)


@dataclass
class Reply:
    """One turn's calls to LLM and TTS. What they produce is told to `tell` as the turn's inputs."""

    mesh: Services
    wishes: Wishes
    turn_id: str
    generation: int
    tell: Told
    work: asyncio.TaskGroup
    _streams: list[Continued[Any, Any]] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._speaking = Speaking(self.mesh, self.wishes, self.turn_id, self.generation, self.tell)

    @property
    def models(self) -> list[model_pb2.ServingModel]:
        """The models that have made the reply."""
        by_service = sorted(self._streams, key=lambda stream: stream.service)
        return [model for stream in by_service for model in stream.models]

    def begin(self, part: Coroutine[Any, Any, None]) -> None:
        """Run a part of the turn's work beside the others; its failure is the turn's."""
        self._tasks.append(self.work.create_task(part))

    def stop(self) -> None:
        """Cancel all parts, in the services too."""
        for task in self._tasks:
            task.cancel()

    def say(self, clause: Say | None) -> None:
        """Queue a clause to be spoken; None closes the reply."""
        self._speaking.say(clause)

    async def write(self, messages: Sequence[llm_pb2.Message]) -> None:
        """Have the LLM answer `messages`."""
        prompt = llm_pb2.Prompt(turn_id=self.turn_id, generation=self.generation, messages=messages)
        writing = Writing(self.mesh, self.wishes.generation(), prompt, self.tell)
        async with continued("llm", writing.opening, writing.backlog, patience_s=self.wishes.patience_s) as stream:
            self._streams.append(stream)
            await stream.run(writing.take)

    async def speak(self) -> None:
        """Have the TTS speak the clauses that `say` brings."""
        speaking = self._speaking
        patience_s = self.wishes.patience_s
        async with continued("tts", speaking.opening, speaking.backlog, speaking.cut, patience_s) as stream:
            self._streams.append(stream)
            await stream.run(speaking.take)
        await self.tell(SpeechEnded())


def clause_request(clause: Say) -> tts_pb2.SynthesizeRequest:
    expression = speech.expression_proto(clause.expression)
    return tts_pb2.SynthesizeRequest(clause=tts_pb2.Clause(index=clause.index, text=clause.text, expression=expression))
