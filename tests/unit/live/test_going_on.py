"""Users who pause, are taken to have finished, and go on: their turn is one, and is answered as one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.cast import Cast
from gateway.emotion import Expression
from gateway.live import conversation as conversing
from gateway.live.conversation import LiveConversation
from gateway.live.draft import Question
from gateway.live.endpointing import Semantic, Silence
from gateway.live.load import Load
from gateway.live.metrics import LiveMetrics
from gateway.live.program import SOUND_MS, Program
from gateway.live.script import Script
from gateway.live.stage import Stage
from gateway.sessions import Session
from gateway.settings import GatewaySettings
from gateway.turn import ClausePlanned, Span
from gateway.wishes import Wishes
from talkmesh.asr.v1 import asr_pb2
from talkmesh.audio.v1 import audio_pb2
from talkmesh.conversation.v1 import conversation_pb2

RATE_HZ = 16_000
WAIT_MS = 400
REPLY_S = 3
KINDS = asr_pb2.SpeechActivity


class FakeDraft:
    """A reply that is there at once."""

    def __init__(self, mesh: Any, wishes: Wishes, turn_id: str, generation: int, question: Question) -> None:
        self.turn_id, self.generation, self.question = turn_id, generation, question
        self.script = Script(wishes.clock.rate_hz)
        self.clauses: list[Any] = []
        self.failed = None
        self.tokens, self.began = 1, 0.0
        self.marks: dict[str, tuple[float, float]] = {}
        self.models: list[Any] = []
        self.text = "Yes indeed."
        self.cancelled = False
        self.changed = self.withdrawn = lambda: None

    def begin(self, prompt: Any, work: asyncio.TaskGroup) -> None:
        rate = self.script.rate_hz
        words = (Span("Yes", 0, rate), Span("indeed.", 2 * rate, REPLY_S * rate))
        self.script.plan(ClausePlanned(0, 0, words, words, Expression()))
        self.script.add(0, b"\1\1" * REPLY_S * rate)
        self.script.complete = True

    def cancel(self) -> None:
        self.cancelled = True


class User:
    """Somebody who speaks to a conversation, which is moved by hand: nothing happens but by `listen`."""

    def __init__(self, work: asyncio.TaskGroup) -> None:
        live = conversation_pb2.Live()
        microphone = audio_pb2.AudioFormat(sample_rate_hz=RATE_HZ, channels=1)
        wishes = Wishes(
            conversation_pb2.ConversationConfig(input=microphone, live=live), GatewaySettings.model_validate({})
        )
        metrics = LiveMetrics(CollectorRegistry(), Load(0.8, 0.9))
        program = Program(wishes.clock.rate_hz, wishes.clock.fps, 0, 0)
        self.stage = Stage(wishes.clock, program, metrics)
        self.stage.tell = self._told  # type: ignore[method-assign]  # overheard
        self.session = Session("session-of-a-test")
        self.told: list[tuple[str, conversation_pb2.ConverseResponse]] = []
        self.flushed: list[str] = []
        self.at = 0
        self._ticks = 0
        cast: Any = Cast
        self.live = LiveConversation(
            cast(None), wishes, self.session, cast(None), self.stage, Silence(RATE_HZ, WAIT_MS), work, metrics
        )
        self.live.flush = lambda turn_id, generation: self.flushed.append(turn_id)

    def _told(self, turn_id: str, generation: int, **event: Any) -> None:
        self.told.append((turn_id, conversation_pb2.ConverseResponse(**event)))

    def listen(self, ms: int, level: float = -70.0) -> None:
        """Time goes by; it is so loud, in dB of full scale."""
        for _ in range(ms // SOUND_MS):
            self.at += SOUND_MS * RATE_HZ // 1000
            self.live.listened(SOUND_MS * RATE_HZ // 1000, [level])
            step = self.stage.playout._clock.samples(SOUND_MS)
            self.stage._tick(self._ticks * step)
            self._ticks += 1

    def voice(self, text: str, ms: int = 200) -> None:
        """Speak, and be made out to say that."""
        kind = KINDS.KIND_SPEECH_STARTED
        self.live.activity(KINDS(kind=kind, sample=self.at))
        self.listen(ms)
        self.live.transcript(asr_pb2.Transcript(text=text, end_sample=self.at, stability=0.5), [])

    def pause(self, ms: int) -> None:
        self.live.activity(KINDS(kind=KINDS.KIND_SPEECH_PAUSED, sample=self.at))
        self.listen(ms)

    def final(self, text: str) -> None:
        """What the ASR makes of the last turn that it was told to end."""
        self.live.transcript(asr_pb2.Transcript(text=text, is_final=True, turn_id=self.flushed[-1]), [])

    def outcomes(self) -> list[tuple[int, str, str]]:
        return [
            (event.done.outcome, event.done.user_text, event.done.reply_text)
            for _, event in self.told
            if event.HasField("done")
        ]

    def finals(self) -> list[tuple[str, str]]:
        return [
            (turn, e.transcript.text) for turn, e in self.told if e.HasField("transcript") and e.transcript.is_final
        ]

    @property
    def history(self) -> list[str]:
        return [message.content for message in self.session.history]


@pytest.fixture
async def user(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[User]:
    monkeypatch.setattr(conversing, "Draft", FakeDraft)
    async with talking() as made:
        yield made


@asynccontextmanager
async def talking() -> AsyncIterator[User]:
    async with asyncio.TaskGroup() as work:
        yield User(work)


async def test_who_does_not_go_on_is_answered(user: User) -> None:
    user.voice("what is the tallest")
    user.pause(WAIT_MS + 100)
    user.final("What is the tallest?")
    user.listen(1000 * REPLY_S + 500)
    assert user.outcomes() == [(conversation_pb2.OUTCOME_COMPLETED, "What is the tallest?", "Yes indeed.")]
    assert user.history == ["What is the tallest?", "Yes indeed."]


async def test_a_reply_to_what_sounds_unfinished_is_prepared_late_and_in_time(user: User) -> None:
    user.live._endpointing = Semantic(RATE_HZ, listening=False)
    user.voice("I would like to know whether")
    user.pause(200)
    settled = asr_pb2.Transcript(text="I would like to know whether", end_sample=user.at, stability=0.9)
    user.live.transcript(settled, [])
    assert user.live._guess is None
    user.listen(400)
    assert user.live._guess and not user.flushed
    user.listen(600)
    user.final("I would like to know whether")
    user.listen(200)
    assert user.stage.heard_ms > 0


async def test_who_goes_on_before_the_end_is_certain_never_hears_of_it(user: User) -> None:
    user.voice("what is the tallest")
    user.pause(WAIT_MS + 100)
    user.voice("")
    user.final("What is the tallest")
    assert user.finals() == [("", "What is the tallest")], "it belongs to no turn yet"
    user.voice("mountain on earth")
    user.pause(WAIT_MS + 100)
    assert len(user.flushed) == 2
    user.final("mountain on earth?")
    user.listen(200)
    assert user.finals()[1:] == [(user.flushed[1], "What is the tallest mountain on earth?")]
    user.listen(1000 * REPLY_S + 500)
    assert user.outcomes() == [
        (conversation_pb2.OUTCOME_COMPLETED, "What is the tallest mountain on earth?", "Yes indeed.")
    ]


async def test_when_something_stirs_at_the_end_a_voice_may_still_be_told(user: User) -> None:
    user.voice("what is the tallest")
    user.pause(WAIT_MS - 20)
    user.listen(60, level=-30)
    assert not user.flushed
    user.voice("mountain on earth")
    user.pause(WAIT_MS + 40)
    assert len(user.flushed) == 1, "it was one turn"


async def test_what_only_stirs_delays_the_end_by_a_moment(user: User) -> None:
    user.voice("what is the tallest")
    user.pause(WAIT_MS - 20)
    user.listen(60, level=-30)
    assert not user.flushed
    user.listen(60)
    assert user.flushed


async def test_a_click_in_that_moment_only_delays_the_answer(user: User) -> None:
    user.voice("what is the tallest")
    user.pause(WAIT_MS + 100)
    user.voice("", ms=20)
    user.pause(20)
    user.final("What is the tallest?")
    user.listen(WAIT_MS + 100)
    user.final("")
    user.listen(1000 * REPLY_S + 500)
    assert user.outcomes() == [(conversation_pb2.OUTCOME_COMPLETED, "What is the tallest?", "Yes indeed.")]


async def test_who_goes_on_into_the_first_sounds_of_a_reply_is_answered_once_and_as_a_whole(user: User) -> None:
    user.voice("what is the tallest")
    user.pause(WAIT_MS + 100)
    user.final("What is the tallest")
    user.listen(300)
    assert user.stage.heard_ms > 0
    user.voice("mountain on earth")
    user.pause(WAIT_MS + 100)
    user.final("mountain on earth?")
    user.listen(1000 * REPLY_S + 500)
    assert user.outcomes() == [
        (conversation_pb2.OUTCOME_CONTINUED, "What is the tallest", ""),
        (conversation_pb2.OUTCOME_COMPLETED, "What is the tallest mountain on earth?", "Yes indeed."),
    ]
    assert user.history == ["What is the tallest mountain on earth?", "Yes indeed."]


async def test_who_lets_the_reply_go_on_for_a_while_interrupts_it(user: User) -> None:
    user.voice("what is the tallest")
    user.pause(WAIT_MS + 100)
    user.final("What is the tallest?")
    user.listen(1800)
    user.voice("no wait")
    user.listen(200)
    assert user.outcomes() == [(conversation_pb2.OUTCOME_INTERRUPTED, "What is the tallest?", "Yes")]
    assert user.history == ["What is the tallest?", "Yes —"]


async def test_who_speaks_into_the_reply_to_something_typed_interrupts_it(user: User) -> None:
    user.live.ask(Question("Who are you?"))
    user.listen(300)
    user.voice("stop it")
    user.listen(200)
    assert user.outcomes() == [(conversation_pb2.OUTCOME_INTERRUPTED, "Who are you?", "")]
