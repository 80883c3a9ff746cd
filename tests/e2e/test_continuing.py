"""Models are taken away in the middle of everything, and the person who listens does not notice."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, pairwise

import grpc
import numpy as np
import pytest

from gateway.audience import Audience
from gateway.continuing import MOST_REOPENINGS
from gateway.conversation import converse
from gateway.mesh import ServiceFailed
from gateway.motion import FADE_FRAMES
from gateway.sessions import Session
from gateway.settings import GatewaySettings
from gateway.wishes import Wishes
from services.runtime.errors import first_of
from talkmesh.audio.v1 import audio_pb2
from talkmesh.conversation.v1 import conversation_pb2
from tests.fakes.mortal import NAMES, SERVICES, World, serving, spoken_words, value_of

FRAME = 960
REPLY = (
    "Alpha beta gamma, delta epsilon zeta eta theta iota kappa. Lambda mu nu xi omicron pi. "
    "Rho sigma tau upsilon phi chi psi omega."
)
WORDS = spoken_words(REPLY)
ALL = conversation_pb2.Outputs(audio=True, phonemes=True, face_frames=True, video=True)
AUDIO = conversation_pb2.Outputs(audio=True, phonemes=True)
MICROPHONE = audio_pb2.AudioFormat(encoding=audio_pb2.ENCODING_PCM_S16LE, sample_rate_hz=16000, channels=1)
Request = conversation_pb2.ConverseRequest


@dataclass
class Talk:
    """One call of the gateway, in this process, and all that its client hears."""

    world: World
    config: conversation_pb2.ConversationConfig
    heard: list[conversation_pb2.ConverseResponse] = field(default_factory=list)
    requests: "asyncio.Queue[Request | None]" = field(default_factory=asyncio.Queue)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    session: Session = field(default_factory=lambda: Session("session-of-a-test"))

    async def run(self) -> None:
        settings = GatewaySettings.model_validate({"window_frames": 6, "lead_in_ms": 80, "tail_ms": 80})
        wishes = Wishes(self.config, settings)
        audience = Audience(wishes, self.session, self._write)
        async with asyncio.timeout(20):
            await converse(self.world, wishes, self.session, audience, self._requests())

    async def _write(self, response: conversation_pb2.ConverseResponse) -> None:
        async with self.news:
            self.heard.append(response)
            self.news.notify_all()

    async def _requests(self) -> AsyncIterator[Request]:
        while (request := await self.requests.get()) is not None:
            yield request

    async def until(self, kind: str, count: int = 1) -> None:
        async with asyncio.timeout(15), self.news:
            await self.news.wait_for(lambda: len(self.all(kind)) >= count)

    def ask(self, text: str = "Tell me.") -> None:
        self.requests.put_nowait(Request(text=conversation_pb2.UserText(text=text)))

    def hang_up(self) -> None:
        self.requests.put_nowait(None)

    def all(self, kind: str) -> list[conversation_pb2.ConverseResponse]:
        return [response for response in self.heard if response.WhichOneof("event") == kind]

    @property
    def done(self) -> list[conversation_pb2.TurnDone]:
        return [response.done for response in self.all("done")]

    def models(self, turn: int = 0) -> list[str]:
        return [model.model for model in self.done[turn].models]


async def talked(world: World, outputs: conversation_pb2.Outputs, turns: int = 1, **config: object) -> Talk:
    """A call that asks so many questions, one after the other."""
    async with serving(world):
        talk = Talk(world, conversation_pb2.ConversationConfig(outputs=outputs, seed=3, **config))  # type: ignore[arg-type]
        for _ in range(turns):
            talk.ask()
        talk.hang_up()
        await talk.run()
    return talk


def audio_of(talk: Talk) -> np.ndarray:
    """All the audio; it has no gap and no overlap."""
    at, data = 0, b""
    for response in talk.all("audio"):
        assert response.audio.start_sample == at
        data += response.audio.data
        at += len(response.audio.data) // 2
    return np.frombuffer(data, "<i2")


def words_heard(samples: Sequence[int] | np.ndarray) -> list[tuple[int, int]]:
    """The value and the length of each run of samples that is not silence."""
    return [(int(value), len(list(run))) for value, run in groupby(samples) if value]


def check_speech(talk: Talk, words: Sequence[str] = WORDS, generations: Sequence[int] = (1, 2, 3, 4, 5, 6, 7)) -> None:
    """Every word is heard once, whole, in its order, and the phonemes tile the reply and say the same."""
    samples = audio_of(talk)
    heard = words_heard(samples)
    assert [value for value, _ in heard] == [value_of(word) for word in words]
    for word, (_, length) in zip(words, heard, strict=True):
        assert length in {900 + 260 * generation + 37 * len(word) for generation in generations}
    told = [word for response in talk.all("phonemes") for word in response.phonemes.words]
    assert [word.word for word in told] == list(words)
    spans = [span for response in talk.all("phonemes") for span in response.phonemes.phonemes]
    gaps = [b.start_sample for a, b in pairwise(spans) if a.end_sample != b.start_sample]
    assert gaps == [done.start_sample for done in talk.done[1:]]
    for span in spans:
        assert set(samples[span.start_sample : span.end_sample].tolist()) <= {
            value_of(span.phoneme) if span.phoneme else 0
        }


def check_face(talk: Talk) -> None:
    """Every frame and every picture is there once, in order, and the face says what is heard."""
    samples = audio_of(talk)
    end = talk.done[-1].end_sample
    frames = [response.face_frame for response in talk.all("face_frame")]
    assert [frame.start_sample for frame in frames] == list(range(0, end, FRAME))
    assert [response.video.start_sample for response in talk.all("video")] == list(range(0, end, FRAME))
    for frame in frames:
        value = samples[frame.start_sample]
        assert frame.weights[NAMES.index("jawOpen")] == pytest.approx(value / 32768 if value else 0.0, abs=1e-6)


async def test_uncut_turn_is_what_the_others_are_measured_by() -> None:
    talk = await talked(World(REPLY), ALL)
    check_speech(talk, generations=[1])
    check_face(talk)
    assert talk.done[0].reply_text == REPLY
    assert set(talk.models()) == {"llm-1", "tts-1", "animation-1", "render-1"}
    assert talk.done[0].reply_tokens == len(REPLY.split())


def cut(service: str, *ends: int, **settings: object) -> World:
    """A world in which the streams of a service end after so many responses."""
    world = World(REPLY, **settings)  # type: ignore[arg-type]
    world.fates[service].ends = list(ends)
    return world


async def cut_everywhere(service: str, outputs: conversation_pb2.Outputs, opened: int = 0) -> AsyncIterator[Talk]:
    """Calls whose stream to a service ends after each of the responses that it has; `opened`: streams that try it first."""
    for end in range(1, 1000):
        world = cut(service, *[1000] * opened, end)
        talk = await talked(world, outputs)
        if "drained" not in world.fates[service].endings:
            assert end > 4
            return
        yield talk


async def test_voice_lost_after_any_message_says_every_word_once() -> None:
    async for talk in cut_everywhere("tts", AUDIO, opened=1):
        check_speech(talk)
        assert talk.done[0].reply_text == REPLY


async def test_face_follows_the_voice_that_is_heard() -> None:
    for end in range(1, 70, 3):
        talk = await talked(cut("tts", 1000, end), ALL)
        check_speech(talk)
        check_face(talk)


async def test_both_voices_of_a_turn_are_named() -> None:
    talk = await talked(cut("tts", 1000, 12), AUDIO)
    assert talk.models() == ["llm-1", "tts-1", "tts-2"]


async def test_writer_lost_after_any_message_writes_the_same_reply() -> None:
    async for talk in cut_everywhere("llm", AUDIO, opened=1):
        assert talk.done[0].reply_text == REPLY
        assert talk.done[0].reply_tokens == len(REPLY.split())
        check_speech(talk)


async def test_face_lost_after_any_frame_shows_every_frame_once() -> None:
    async for talk in cut_everywhere("animation", ALL):
        frames = [response.face_frame.start_sample for response in talk.all("face_frame")]
        assert frames == list(range(0, talk.done[-1].end_sample, FRAME))


async def test_painter_lost_after_any_picture_shows_every_picture_once() -> None:
    async for talk in cut_everywhere("render", ALL):
        check_face(talk)
        pictures = [response.video for response in talk.all("video")]
        models = [picture.data.split()[1] for picture in pictures]
        for model in (b"render-1", b"render-2"):
            assert model not in models or pictures[models.index(model)].keyframe
        assert len({picture.data.split()[3] for picture in pictures}) == 1


async def test_two_voices_lost_in_one_turn() -> None:
    for ends in ((1000, 8, 9), (1000, 20, 1), (1000, 20, 4, 6)):
        talk = await talked(cut("tts", *ends), ALL)
        check_speech(talk)
        check_face(talk)
        assert [model for model in talk.models() if "tts" in model] == [f"tts-{n + 1}" for n in range(len(ends))]


async def test_everything_lost_at_once() -> None:
    world = World(REPLY)
    for service, ends in {"llm": [1000, 9], "tts": [1000, 17], "animation": [20], "render": [15, 9]}.items():
        world.fates[service].ends = ends
    talk = await talked(world, ALL)
    check_speech(talk)
    assert talk.done[0].reply_text == REPLY
    for kind in ("face_frame", "video"):
        starts = [getattr(response, kind).start_sample for response in talk.all(kind)]
        assert starts == list(range(0, talk.done[0].end_sample, FRAME))
    assert set(talk.models()) == {
        *("llm-1", "llm-2", "tts-1", "tts-2"),
        *("animation-1", "animation-2", "render-1", "render-2", "render-3"),
    }


@pytest.mark.parametrize("service", ["llm", "tts", "animation", "render"])
async def test_a_stream_that_is_drained_again_and_again_fails_the_turn(service: str) -> None:
    ends = [1000, *[1] * 20] if service in ("llm", "tts") else [1] * 20
    world = cut(service, *ends)
    with pytest.raises(BaseExceptionGroup) as failed:
        await talked(world, ALL)
    error = first_of(failed.value)
    assert isinstance(error, ServiceFailed)
    assert (error.service, error.outcome.code) == (service, grpc.StatusCode.UNAVAILABLE)
    tried = 1 if service in ("llm", "tts") else 0
    assert world.fates[service].opened == tried + 1 + MOST_REOPENINGS


@pytest.mark.parametrize("service", SERVICES)
async def test_call_opens_on_the_next_model(service: str) -> None:
    world = cut(service, 0, 0)
    async with serving(world):
        talk = Talk(world, conversation_pb2.ConversationConfig(outputs=ALL, input=MICROPHONE, seed=3))
        talk.ask()
        talk.hang_up()
        await talk.run()
    assert f"{service}-3" in {model.model for model in talk.heard[0].started.models}
    check_speech(talk)
    check_face(talk)


async def test_voice_that_tells_no_words_is_cut_between_clauses() -> None:
    for end in range(1, 60, 2):
        talk = await talked(cut("tts", 1000, end, knows_words=False), ALL)
        assert [value for value, _ in words_heard(audio_of(talk))] == [value_of(word) for word in WORDS]


async def test_voice_that_the_next_model_does_not_have_becomes_its_own() -> None:
    world = cut("tts", 1000, 12, voices=[["ann", "bob"], ["carl"], ["bob"]])
    talk = await talked(world, AUDIO, turns=2, voice="bob")
    check_speech(talk, [*WORDS, *WORDS])
    asked = [
        (model, request.config.voice) for model, request in world.fates["tts"].requests if request.HasField("config")
    ]
    assert asked == [(1, "bob"), (1, "bob"), (2, "bob"), (2, ""), (2, "")]
    assert talk.models(1) == ["llm-1", "tts-2"]


async def test_unknown_voice_is_an_error_when_the_call_opens() -> None:
    with pytest.raises(BaseExceptionGroup) as failed:
        await talked(World(REPLY, voices=[["ann"]]), AUDIO, voice="bob")
    error = first_of(failed.value)
    assert isinstance(error, ServiceFailed)
    assert error.outcome.code is grpc.StatusCode.NOT_FOUND


async def test_pictures_keep_their_size_and_portrait() -> None:
    talk = await talked(cut("render", 20, sizes=[64, 128]), ALL)
    looks = {(picture.video.data.split()[2], picture.video.data.split()[3]) for picture in talk.all("video")}
    assert looks == {(b"64", b"portrait-1")}
    assert [response.started.width for response in talk.all("started")] == [64]


async def test_face_keeps_its_names_and_does_not_jump() -> None:
    other = ("browInnerUp", "tongueOut", "jawOpen")
    talk = await talked(cut("animation", 30, names=[NAMES, other]), ALL)
    frames = [response.face_frame for response in talk.all("face_frame")]
    assert list(talk.all("started")[0].started.blendshape_names) == list(NAMES)
    brows = [frame.weights[NAMES.index("browInnerUp")] for frame in frames]
    yaws = [frame.head.yaw for frame in frames]
    assert brows[28] == pytest.approx(0.2)
    assert brows[29 + FADE_FRAMES] == pytest.approx(0.4)
    assert (yaws[28], yaws[29 + FADE_FRAMES]) == (10, 20)
    assert all(abs(b - a) < 0.05 for a, b in pairwise(brows))
    assert all(0 <= b - a < 2.5 for a, b in pairwise(yaws))
    assert all(frame.weights[NAMES.index("mouthClose")] == 0 for frame in frames)
    samples = audio_of(talk)
    for frame in frames[30 + FADE_FRAMES :]:
        value = samples[frame.start_sample]
        assert frame.weights[0] == pytest.approx(value / 32768 if value else 0, abs=1e-6)


async def test_calls_long_streams_move_to_the_next_model_between_turns() -> None:
    world = World(REPLY)
    async with serving(world):
        talk = Talk(world, conversation_pb2.ConversationConfig(outputs=ALL, input=MICROPHONE, seed=3))
        async with asyncio.TaskGroup() as group:
            group.create_task(talk.run())
            talk.ask()
            await talk.until("done")
            world.swap(*SERVICES)
            talk.ask()
            await talk.until("done", 2)
            talk.hang_up()
    assert set(talk.models(0)) == {f"{service}-1" for service in SERVICES}
    assert set(talk.models(1)) == {f"{service}-2" for service in SERVICES}
    assert all("drained" not in world.fates[service].endings for service in SERVICES)
    check_speech(talk, [*WORDS, *WORDS])
    frames = [response.face_frame.start_sample for response in talk.all("face_frame")]
    assert frames == [response.video.start_sample for response in talk.all("video")]
    assert frames == list(range(0, talk.done[1].end_sample, FRAME))


async def test_idle_call_is_moved_when_the_deadline_comes() -> None:
    world = World(REPLY)
    async with serving(world):
        talk = Talk(world, conversation_pb2.ConversationConfig(outputs=ALL, input=MICROPHONE, seed=3))
        async with asyncio.TaskGroup() as group:
            group.create_task(talk.run())
            talk.ask()
            await talk.until("done")
            for _ in range(3):
                world.swap("asr", "animation", "render")
                world.drain("asr", "animation", "render")
                await asyncio.sleep(0.1)
            talk.ask()
            await talk.until("done", 2)
            talk.hang_up()
    assert {"asr-4", "animation-4", "render-4"} < set(talk.models(1))
    assert world.fates["render"].endings == ["drained"] * 3 + ["cancelled"]


async def test_interrupted_turn_closes_on_the_next_model() -> None:
    for end in range(8, 30, 5):
        world = cut("animation", end)
        world.fates["render"].ends = [end - 2]
        async with serving(world):
            talk = Talk(world, conversation_pb2.ConversationConfig(outputs=ALL, seed=3))
            async with asyncio.TaskGroup() as group:
                group.create_task(talk.run())
                talk.ask()
                await talk.until("video", end - 4)
                talk.requests.put_nowait(Request(interrupt=conversation_pb2.Interrupt()))
                await talk.until("done")
                talk.ask()
                await talk.until("done", 2)
                talk.hang_up()
        frames = [response.face_frame.start_sample for response in talk.all("face_frame")]
        assert frames == list(range(0, talk.done[1].end_sample, FRAME))
        assert [response.video.start_sample for response in talk.all("video")] == frames
        assert talk.done[1].reply_text == REPLY


CHUNK = 320
QUESTIONS = ([0, 0, 11, 11, 12, 13, 0], [0, 21, 22, 22, 0, 0, 23])
"""What is said into the microphone: a value for each 20 ms."""


def said(values: Sequence[int], start: int) -> list[Request]:
    """Chunks of 20 ms of these values, and the end of the turn."""
    chunks = [
        audio_pb2.AudioChunk(start_sample=start + index * CHUNK, data=np.full(CHUNK, value, "<i2").tobytes())
        for index, value in enumerate(values)
    ]
    return [*(Request(audio=chunk) for chunk in chunks), Request(end_of_turn=conversation_pb2.EndOfTurn())]


async def spoken_to(world: World, questions: Sequence[Sequence[int]] = QUESTIONS, at_once: bool = False) -> Talk:
    """A call in which these questions are spoken, each after the answer to the one before or all at once."""
    async with serving(world):
        talk = Talk(world, conversation_pb2.ConversationConfig(outputs=AUDIO, input=MICROPHONE, seed=3))
        async with asyncio.TaskGroup() as group:
            group.create_task(talk.run())
            start = 0
            for count, question in enumerate(questions, 1):
                for request in said(question, start):
                    talk.requests.put_nowait(request)
                start += CHUNK * len(question)
                if not at_once:
                    await talk.until("done", count)
            await talk.until("done", len(questions))
            talk.hang_up()
    return talk


def check_hearing(talk: Talk, questions: Sequence[Sequence[int]] = QUESTIONS) -> None:
    """One final for each question, with what was said, on one clock; and nobody begins to speak twice."""
    finals = [event.transcript for event in talk.all("transcript") if event.transcript.is_final]
    expected = [" ".join(dict.fromkeys(f"v{value}" for value in question if value)) for question in questions]
    assert [final.text for final in finals] == [done.user_text for done in talk.done] == expected
    assert [final.utterance for final in finals] == list(range(len(questions)))
    ends = [CHUNK * sum(map(len, questions[:count])) for count in range(len(questions) + 1)]
    assert [(final.start_sample, final.end_sample) for final in finals] == list(pairwise(ends))
    numbers = [event.transcript.utterance for event in talk.all("transcript")]
    assert numbers == sorted(numbers)
    activities = [(event.activity.sample, event.activity.kind) for event in talk.all("activity")]
    changes = [CHUNK * index for index, (a, b) in enumerate(pairwise([0, *chain(*questions)])) if bool(a) != bool(b)]
    assert activities == [(sample, 1 + index % 2) for index, sample in enumerate(changes)]


async def test_uncut_hearing_is_what_the_others_are_measured_by() -> None:
    talk = await spoken_to(World(REPLY))
    check_hearing(talk)
    assert talk.models(0) == ["asr-1", "llm-1", "tts-1"]


async def test_listener_lost_after_any_message_makes_out_every_question_once() -> None:
    cuts = 0
    for end in range(1, 40):
        talk = await spoken_to(cut("asr", end))
        check_hearing(talk)
        cuts += "drained" in talk.world.fates["asr"].endings
    assert cuts > 20


async def test_listeners_lost_again_and_again_with_both_questions_waiting() -> None:
    for end in range(1, 30, 2):
        talk = await spoken_to(cut("asr", end, 3, end), at_once=True)
        check_hearing(talk)


async def test_both_listeners_of_a_question_are_named() -> None:
    talk = await spoken_to(cut("asr", 5))
    assert talk.models(0) == ["asr-1", "asr-2", "llm-1", "tts-1"]
    assert talk.models(1) == ["asr-2", "llm-1", "tts-1"]


async def test_listener_moves_before_the_next_question() -> None:
    world = World(REPLY)
    async with serving(world):
        talk = Talk(world, conversation_pb2.ConversationConfig(outputs=AUDIO, input=MICROPHONE, seed=3))
        async with asyncio.TaskGroup() as group:
            group.create_task(talk.run())
            await talk.until("started")
            world.swap("asr")
            for request in said(QUESTIONS[0], 0):
                talk.requests.put_nowait(request)
            await talk.until("done")
            for request in said(QUESTIONS[1], CHUNK * len(QUESTIONS[0])):
                talk.requests.put_nowait(request)
            await talk.until("done", 2)
            talk.hang_up()
    check_hearing(talk)
    assert [talk.models(turn)[0] for turn in (0, 1)] == ["asr-2", "asr-2"], "what is said first after a swap"
    assert "drained" not in world.fates["asr"].endings


async def test_silence_of_hours_is_not_kept() -> None:
    """Only as much as an utterance may last, and the next model hears what was said at the end of it."""
    quiet = [0] * 250
    talk = await spoken_to(cut("asr", 250), [[*quiet, *QUESTIONS[0]]])
    assert talk.done[0].user_text == "v11 v12 v13"
    replayed = [r for model, r in talk.world.fates["asr"].requests if model == 2 and r.HasField("audio")]
    first = replayed[0].audio.start_sample
    assert first > CHUNK * 80
    finals = [event.transcript for event in talk.all("transcript") if event.transcript.is_final]
    assert [(final.start_sample, final.end_sample) for final in finals] == [(0, CHUNK * 257)]
