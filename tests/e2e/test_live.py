"""Live calls on the real mesh: in time, interrupted, resumed, swapped under, and killed under."""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from talkmesh import (
    Audio,
    Client,
    Cut,
    Floor,
    FloorChange,
    LiveEvent,
    LiveOptions,
    Outcome,
    Phonemes,
    ReplyClause,
    SessionConfig,
    TalkmeshError,
    Transcript,
    Video,
)
from talkmesh.control import Admin
from tests.e2e.talking import check_one_clock, cough, listening, person
from tests.e2e.test_engine_death import engine_pids, serving_again

FRAME = 960
LONG = "Tell me something about the sea, and about the people who live by it."


async def test_a_question_is_answered_without_anybody_saying_where_it_ends(mesh: str, question: Path) -> None:
    async with person(mesh, listening()) as user:
        await user.say(question)
        (done,) = await user.turns(1)
        assert done.outcome is Outcome.COMPLETED
        assert "capital of france" in done.user_text.lower()
        assert done.reply_text
        finals = [each for each in user.of(Transcript) if each.is_final]
        assert [final.text for final in finals] == [done.user_text]
        floors = [each.floor for each in user.of(FloorChange)]
        assert floors[0] is Floor.LISTENING and Floor.SPEAKING in floors
        assert done.first_audio_ms > 0 and done.first_video_ms > 0
        check_one_clock(user.heard, 24000)


async def test_the_face_is_there_before_during_and_after_without_a_gap(mesh: str) -> None:
    async with person(mesh, SessionConfig(size=256, seed=1), microphone=False) as user:
        await user.until(Video, 20)
        await user.call.say("Hello there, how are you today?")
        await user.turns(1)
        await user.until(Video, len(user.of(Video)) + 20)
    starts = [picture.start_sample for picture in user.of(Video)]
    assert all(start % FRAME == 0 for start in starts)
    expected = (starts[-1] - starts[0]) // FRAME + 1
    assert len(starts) >= 0.8 * expected, "a busy machine may leave out some"
    assert len(set(starts)) == len(starts)
    speaking = [picture.start_sample for picture in user.of(Video) if picture.speaking]
    sound = user.of(Audio)
    assert abs(speaking[0] - sound[0].start_sample) <= 6 * FRAME
    assert sum(len(each.data) for each in sound) // 2 >= 24000


async def test_a_scripted_text_is_said_as_it_is_and_one_after_the_other(mesh: str) -> None:
    texts = ["Welcome to our shop.", "Today everything is half price.", "See you soon."]
    async with person(mesh, SessionConfig(size=256), microphone=False) as user:
        for text in texts:
            await user.call.say(text)
        done = await user.turns(3)
    assert [turn.reply_text for turn in done] == texts
    assert [turn.user_text for turn in done] == ["", "", ""]
    assert all(first.end_sample <= second.start_sample for first, second in itertools.pairwise(done))


async def test_an_interruption_ends_the_reply_and_the_next_question_is_answered(mesh: str, question: Path) -> None:
    async with person(mesh, listening()) as user:
        await user.call.ask(LONG)
        await user.speaks(1.0)
        await user.say(question)
        first, second = await user.turns(2)
        assert first.outcome is Outcome.INTERRUPTED
        assert second.outcome is Outcome.COMPLETED
        assert "capital of france" in second.user_text.lower()
        cuts = user.of(Cut)
        assert [cut.may_resume for cut in cuts[:2]] == [True, False]
        check_one_clock(user.heard, 24000)
        said = " ".join(clause.text for clause in user.of(ReplyClause) if clause.index < 50)
        assert first.reply_text and said.replace(".", "").startswith(first.reply_text.replace(".", "")[:10])
        words = [
            (word.start_sample, word.end_sample, word.text)
            for each in user.of(Phonemes)
            for word in each.words
            if word.start_sample < cuts[0].at_sample
        ]
        whole = [text for _, end, text in sorted(set(words)) if end <= cuts[0].at_sample]
        assert abs(len(whole) - len(first.reply_text.split())) <= 1, "the history holds what was heard"


async def test_a_cough_only_makes_it_pause(mesh: str) -> None:
    text = "The harbour wakes up early, long before the sun comes over the hills in the east."
    async with person(mesh, listening()) as user:
        await user.call.say(text)
        await user.speaks(1.0)
        await user.say(cough())
        (done,) = await user.turns(1)
        assert done.outcome is Outcome.COMPLETED
        assert done.reply_text == text
        for cut in user.of(Cut):
            assert cut.may_resume
        check_one_clock(user.heard, 24000)


async def test_who_does_not_want_to_be_interrupted_is_not(mesh: str, question: Path) -> None:
    config = listening(live=LiveOptions(barge_in=False))
    async with person(mesh, config) as user:
        await user.call.say("This is an important announcement, which has to be heard to its very end by all.")
        await user.speaks(0.3)
        await user.say(question)
        (done,) = await user.turns(1)
        assert done.outcome is Outcome.COMPLETED
        assert user.of(Cut) == []


async def test_push_to_talk_listens_only_while_pressed(mesh: str, question: Path) -> None:
    config = listening(live=LiveOptions(push_to_talk=True))
    async with person(mesh, config) as user:
        await user.say(question)
        await asyncio.sleep(0.5)
        assert user.of(Transcript) == []
        await user.call.start_of_turn()
        await user.say(question)
        await user.call.end_of_turn()
        (done,) = await user.turns(1)
        assert "capital of france" in done.user_text.lower()
        await user.call.start_of_turn()
        await asyncio.sleep(0.3)
        await user.call.end_of_turn()
        nothing = (await user.turns(2))[1]
        assert nothing.outcome is Outcome.NOTHING_HEARD


async def test_a_session_waits_for_a_client_that_comes_back(mesh: str) -> None:
    async with Client(mesh) as client:
        config = SessionConfig(size=256, live=LiveOptions(grace_ms=8000))
        async with client.live(config) as call:
            session_id = call.started.session_id
            await call.say("The first words of a session that is left and taken up again.")
            await asyncio.sleep(0.5)
        again = SessionConfig(session_id=session_id, size=256, live=LiveOptions(grace_ms=300))
        async with client.live(again) as call:
            assert call.started.session_id == session_id
            first = [each.event async for each in some(call.events(), 60)]
            starts = [event.start_sample for event in first if isinstance(event, Video)]
            assert starts and starts[0] > 6000, "its clock went on"


async def test_a_session_that_nobody_comes_back_to_ends(mesh: str) -> None:
    async with Client(mesh) as client:
        async with client.live(SessionConfig(size=256, live=LiveOptions(grace_ms=200))) as call:
            before = (await client.status()).sessions
            assert before >= 1
            session_id = call.started.session_id
        async with asyncio.timeout(20):
            while (await client.status()).sessions >= before:
                await asyncio.sleep(0.1)
        # What was said is kept for longer than the session: a new call with its id begins a new clock.
        async with client.live(SessionConfig(session_id=session_id, size=256)) as call:
            first = [each.event async for each in some(call.events(), 5)]
            assert min(event.start_sample for event in first if isinstance(event, Video)) < 24000


@pytest.mark.parametrize(
    ("named", "config"), [("256 or 384", SessionConfig(size=7)), ("nobody", SessionConfig(portrait="nobody"))]
)
async def test_what_cannot_be_is_refused_with_what_could(mesh: str, named: str, config: SessionConfig) -> None:
    async with Client(mesh) as client:
        with pytest.raises(TalkmeshError) as caught:
            async with client.live(config):
                pass
        assert named in str(caught.value)


async def test_bad_requests_end_the_call_and_name_the_field(mesh: str) -> None:
    async with Client(mesh) as client, client.live(SessionConfig(size=256)) as call:
        await call.ask("")
        with pytest.raises(TalkmeshError) as caught:
            async for _ in call.events():
                pass
        assert caught.value.field == "text.text"
    async with Client(mesh) as client, client.live(SessionConfig(size=256)) as call:
        await call.start_of_turn()
        with pytest.raises(TalkmeshError) as caught:
            async for _ in call.events():
                pass
        assert caught.value.field == "start_of_turn"


async def test_every_model_is_swapped_during_a_live_session(mesh: str, question: Path) -> None:
    first = {"asr": "tiny.en", "tts": "heart", "animation": "visemes", "render": "warp"}
    second = {"asr": "base", "tts": "joe", "animation": "visemes-lively", "render": "warp-256"}
    async with Admin(mesh, actor="test") as admin, person(mesh, listening()) as user:
        try:
            await user.say(question)
            await user.turns(1)
            for service, model in second.items():
                await admin.swap(service, model)
            await user.say(question)
            turns = await user.turns(2)
        finally:
            for service, model in first.items():
                await admin.swap(service, model)
    assert [turn.outcome for turn in turns] == [Outcome.COMPLETED] * 2
    served = {model.service: model.name for model in turns[1].models}
    assert second.items() <= served.items()
    check_one_clock(user.heard, 24000)


@pytest.mark.parametrize("service", ["asr", "llm", "tts", "animation", "render"])
async def test_an_engine_killed_in_a_live_turn_costs_time_and_nothing_else(
    mesh: str, question: Path, service: str
) -> None:
    pids = await engine_pids(mesh)
    async with person(mesh, listening(max_reply_tokens=60)) as user:
        if service == "asr":
            speaking = asyncio.create_task(user.say(question))
            await asyncio.sleep(0.7)
            os.kill(pids[service], signal.SIGKILL)
            await speaking
        else:
            await user.call.ask(LONG)
            if service != "llm":
                await user.speaks(0.2)
            os.kill(pids[service], signal.SIGKILL)
        (first,) = await user.turns(1)
        assert first.outcome is Outcome.COMPLETED
        if service == "asr":
            assert "capital of france" in first.user_text.lower()
        else:
            told = " ".join(clause.text for clause in user.of(ReplyClause))
            assert first.reply_text == told, "nothing is left out, and nothing said twice"
        await serving_again(mesh, service, pids[service])
        await user.say(question)
        second = (await user.turns(2))[1]
        assert second.outcome is Outcome.COMPLETED
        assert "capital of france" in second.user_text.lower()
        pictures = len(user.of(Video))
        await user.until(Video, pictures + 10)
        check_one_clock(user.heard, 24000)


async def some(events: AsyncIterator[LiveEvent], count: int) -> AsyncIterator[LiveEvent]:
    """The first events of a call."""
    async for event in events:
        yield event
        count -= 1
        if count == 0:
            return
