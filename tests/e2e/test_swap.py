"""Models are replaced under real conversations: between two answers, and in the middle of one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from talkmesh import Audio, AudioInput, Client, ClientSession, Event, FaceFrame, Outcome, SessionConfig, Video
from talkmesh.control import Admin
from tests.e2e.asking import Answer, check_one_timeline, collect

FIRST = {"asr": "tiny.en", "tts": "heart", "animation": "visemes", "render": "warp"}
SECOND = {"asr": "base", "tts": "joe", "animation": "visemes-lively", "render": "warp-256"}
FRAME = 960
ATTEMPTS = 8
"""A swap that comes when the model has done its part of the turn already is none in the middle."""
QUESTION = "Tell me something about the sea, and about the people who live by it."


@asynccontextmanager
async def operator(address: str) -> AsyncIterator[Admin]:
    """Swaps for the test; afterwards the mesh is as it was."""
    async with Admin(address, actor="test") as admin:
        try:
            yield admin
        finally:
            for service, model in FIRST.items():
                await admin.swap(service, model)


def models_of(answer: Answer, service: str) -> list[str]:
    return [model.name for model in answer.done.models if model.service == service]


async def test_the_voice_changes_between_two_answers_of_one_session(mesh: str) -> None:
    async with operator(mesh) as admin, Client(mesh) as client, client.session(SessionConfig(size=256)) as session:
        answers = [await collect(session.ask("Who are you?"))]
        await admin.swap("tts", "joe", expected="heart")
        answers.append(await collect(session.ask("Who are you?")))
        await admin.served(await admin.roll_back("tts"))
        answers.append(await collect(session.ask("Who are you?")))
    assert [models_of(answer, "tts") for answer in answers] == [["heart"], ["joe"], ["heart"]]
    assert {answer.done.outcome for answer in answers} == {Outcome.COMPLETED}


async def test_a_session_that_asked_for_a_voice_goes_on_in_another_when_that_is_gone(mesh: str) -> None:
    config = SessionConfig(size=256, voice="heart")
    async with operator(mesh) as admin, Client(mesh) as client, client.session(config) as session:
        await collect(session.ask("Who are you?"))
        await admin.swap("tts", "joe")
        answer = await collect(session.ask("Who are you?"))
        assert answer.done.outcome is Outcome.COMPLETED
        assert models_of(answer, "tts") == ["joe"]


async def test_streams_as_long_as_a_session_move_between_its_turns(mesh: str, question: Path) -> None:
    config = SessionConfig(input=AudioInput(16000), face_frames=True, size=512, seed=1)
    async with operator(mesh) as admin, Client(mesh) as client, client.session(config) as session:
        await collect(session.ask_wav(question))
        for service in ("asr", "animation", "render"):
            await admin.swap(service, SECOND[service])
        answer = await collect(session.ask_wav(question))
        assert "capital of france" in answer.done.user_text.lower()
        for service in ("asr", "animation", "render"):
            assert models_of(answer, service) == [SECOND[service]]
        check_one_timeline(answer, session.started.sample_rate_hz, FRAME)
        widths = {session.started.width}
    assert widths == {512}, "a model that draws another size by itself draws this session's"


@pytest.mark.parametrize("service", ["tts", "animation", "render"])
async def test_a_turn_goes_on_when_its_model_is_taken_away_in_the_middle(mesh: str, service: str) -> None:
    config = SessionConfig(face_frames=True, size=256, seed=1, max_reply_tokens=60)
    async with operator(mesh) as admin, Client(mesh) as client:
        for _ in range(ATTEMPTS):
            await admin.swap(service, SECOND[service])
            await admin.swap(service, FIRST[service])
            async with client.session(config) as session:
                answer = await interrupted_by_a_swap(session, admin, service)
            assert answer.done.outcome is Outcome.COMPLETED
            if len(models_of(answer, service)) > 1:
                break
    assert models_of(answer, service) == [FIRST[service], SECOND[service]]
    check_one_timeline(answer, session.started.sample_rate_hz, FRAME)
    said = [word.text for event in answer.phonemes for word in event.words]
    assert said == bare(answer.done.reply_text), "every word once, none twice"


def bare(text: str) -> list[str]:
    """The words of a text as a voice names them: without what only the eye sees."""
    return [word for part in text.split() if (word := part.strip('.,;:!?"()–—…“”'))]


async def interrupted_by_a_swap(session: ClientSession, admin: Admin, service: str) -> Answer:
    """An answer in whose middle the model is replaced, with no time for its streams to end."""
    events: list[Event] = []
    swapping: asyncio.Task[object] | None = None
    kind, number = {"tts": (Audio, 1), "animation": (FaceFrame, 25), "render": (Video, 25)}[service]
    async for event in session.ask(QUESTION):
        events.append(event)
        if swapping is None and sum(isinstance(each, kind) for each in events) == number:
            swapping = asyncio.create_task(admin.swap(service, SECOND[service], drain_s=0))
    assert swapping is not None
    await swapping
    return Answer(events)
