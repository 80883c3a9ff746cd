"""A reply in the making, for which nobody needs to wait: it becomes a script, and whoever commits it has it played."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway import turn
from gateway.continuing import Services
from gateway.emotion import express
from gateway.live.script import Script
from gateway.reply import Reply
from gateway.wishes import Wishes
from services.runtime.errors import DomainError, first_of
from talkmesh.llm.v1 import llm_pb2
from talkmesh.model.v1 import model_pb2

INBOX = 256


@dataclass(frozen=True)
class Question:
    """What is answered: in the user's words, or by a text that is simply said."""

    text: str = ""
    said: str = ""


class Draft:
    """Writes and speaks the answer to a question into `script`, from `begin` on."""

    def __init__(self, mesh: Services, wishes: Wishes, turn_id: str, generation: int, question: Question) -> None:
        self.turn_id = turn_id
        self.generation = generation
        self.question = question
        self.script = Script(wishes.clock.rate_hz)
        self.clauses: list[turn.Say] = []
        self.failed: DomainError | None = None
        self.tokens = 0
        self.began = time.perf_counter()
        self.changed: Callable[[], None] = lambda: None
        """Called when there is more of it."""
        self.withdrawn: Callable[[], None] = lambda: None
        """Called when sounds that were planned will not be heard."""
        self._mesh = mesh
        self._wishes = wishes
        self._inbox: asyncio.Queue[tuple[turn.Input, float]] = asyncio.Queue(INBOX)
        self._reply: Reply | None = None
        self._task: asyncio.Task[None] | None = None
        self._turn = turn.Turn(clock=wishes.clock, start=0, tail=0, window=0, speaks=True, shows=False, express=express)

    @property
    def marks(self) -> dict[str, tuple[float, float]]:
        """Stage → when it was reached, in seconds of perf_counter, and the milliseconds of its engine."""
        waterfall = self._turn.waterfall
        return {stage: (at, waterfall.engine_ms[stage]) for stage, at in waterfall.marks.items()}

    @property
    def text(self) -> str:
        """The reply as far as it is written."""
        return " ".join(clause.text for clause in self.clauses)

    @property
    def models(self) -> Sequence[model_pb2.ServingModel]:
        return self._reply.models if self._reply else []

    def begin(self, prompt: Sequence[llm_pb2.Message], work: asyncio.TaskGroup) -> None:
        """Make it, as a task of `work`, which its failure does not reach."""
        self._task = work.create_task(self._run(prompt))

    def cancel(self) -> None:
        """Make no more of it."""
        if self._task:
            self._task.cancel()

    async def _run(self, prompt: Sequence[llm_pb2.Message]) -> None:
        try:
            async with asyncio.TaskGroup() as work:
                reply = Reply(self._mesh, self._wishes, self.turn_id, self.generation, self._tell, work)
                self._reply = reply
                await self._follow(reply, prompt)
                reply.stop()
        except* DomainError as group:
            self.failed = first_of(group)
        finally:
            self.script.complete = True
            self.changed()

    async def _follow(self, reply: Reply, prompt: Sequence[llm_pb2.Message]) -> None:
        given: turn.Input = turn.TextGiven(self.question.text)
        at = self.began
        while True:
            self._note(given)
            for command in self._turn.step(given, at):
                self._perform(command, reply, prompt)
            self.changed()
            if self._turn.state is turn.State.FINISHED:
                return
            given, at = await self._inbox.get()

    def _note(self, given: turn.Input) -> None:
        """What the script learns from an input itself."""
        match given:
            case turn.ClausePlanned():
                self.script.plan(given)
            case turn.SpeechCut(at):
                self.script.forget(at)
                self.withdrawn()
            case turn.ReplyWritten(tokens):
                self.tokens = tokens

    def _perform(self, command: turn.Command, reply: Reply, prompt: Sequence[llm_pb2.Message]) -> None:
        match command:
            case turn.Generate():
                reply.begin(self._script(self.question.said) if self.question.said else reply.write(prompt))
                reply.begin(reply.speak())
            case turn.Say():
                self.clauses.append(command)
                reply.say(command)
            case turn.CloseSpeech():
                reply.say(None)
            case turn.Play(start, data):
                self.script.add(start, data)

    async def _script(self, text: str) -> None:
        """Instead of a language model: what is to be said is known."""
        await self._tell(turn.Delta(text))
        await self._tell(turn.ReplyWritten(0))

    async def _tell(self, given: turn.Input) -> None:
        await self._inbox.put((given, time.perf_counter()))
