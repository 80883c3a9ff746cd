"""The two services that make a reply: the LLM writes it, the TTS speaks it, clause by clause and both at once."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
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
        self.backlog = Backlog[llm_pb2.GenerateRequest]()
        self._mesh = mesh
        self._config = config
        self._prompt = prompt
        self._tell = tell
        self._text = ""
        self._deltas = 0
        """Each is a token or more."""

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[tuple[Stream[Any, Any], Any]]:
        """A stream whose prompt ends with the reply so far."""
        prompt, config = llm_pb2.Prompt(), llm_pb2.GenerationConfig()
        prompt.CopyFrom(self._prompt)
        config.CopyFrom(self._config)
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
                await self._tell(ReplyWritten(self._written_before(response.finished) + response.finished.reply_tokens))

    def _written_before(self, finished: llm_pb2.Finished) -> int:
        """Tokens that models before this one wrote, as far as they told."""
        return max(0, self._deltas - finished.reply_tokens) if len(self._prompt.messages) else 0


class Speaking:
    """A turn's speech, through as many voices as it takes."""

    def __init__(self, mesh: Services, wishes: Wishes, tell: Told) -> None:
        self.backlog = Backlog[tts_pb2.SynthesizeRequest]()
        self._mesh = mesh
        self._wishes = wishes
        self._tell = tell
        self._voice = Voice()
        self._begun = False

    def say(self, clause: Say | None) -> None:
        """A clause that is to be spoken; None closes the reply."""
        if clause is None:
            self.backlog.close()
            return
        self._voice.add(clause)
        self.backlog.add(request(clause))
