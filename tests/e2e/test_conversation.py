"""Real questions through all five services."""

import asyncio
import io
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import av
import pytest

from talkmesh import AudioInput, Client, Outcome, SessionConfig, Video, read_wav
from tests.e2e.asking import Answer, check_one_timeline, collect

SPEECH = AudioInput(16000)


async def test_spoken_question_comes_back_as_text_audio_and_pictures(mesh: str, question: Path) -> None:
    config = SessionConfig(input=SPEECH, face_frames=True, size=256, seed=1)
    async with Client(mesh) as client, client.session(config) as session:
        answer = await collect(session.ask_wav(question, real_time=True))
        started = session.started
    assert {model.service for model in started.models} == {"asr", "llm", "tts", "animation", "render"}
    assert "capital of france" in answer.done.user_text.lower()
    assert "paris" in answer.done.reply_text.lower()
    assert answer.transcripts[-1].is_final
    assert any(not transcript.is_final for transcript in answer.transcripts)
    assert " ".join(clause.text for clause in answer.clauses) == answer.done.reply_text
    assert next(stage.name for stage in answer.done.stages) == "asr_final"
    assert {model.service for model in answer.done.models} == {"asr", "llm", "tts", "animation", "render"}
    check_one_timeline(answer, started.sample_rate_hz, 960)


async def test_mp4_plays_with_both_tracks_of_one_length(mesh: str) -> None:
    config = SessionConfig(size=256, audio=False, video=False, mp4=True)
    async with Client(mesh) as client, client.session(config) as session:
        answer = await collect(session.ask("What is the capital of France?"))
        answer.events += [event async for event in session.finish()]
    with av.open(io.BytesIO(answer.mp4), "r") as container:
        pictures = [float(frame.time or 0) for frame in container.decode(video=0)]
    with av.open(io.BytesIO(answer.mp4), "r") as container:
        sound = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert [b - a for a, b in itertools.pairwise(pictures)] == pytest.approx([0.04] * (len(pictures) - 1))
    assert abs(len(pictures) * 0.04 - sound) <= 0.04


async def test_second_turn_knows_the_first(mesh: str) -> None:
    config = SessionConfig(video=False, temperature=0)
    async with Client(mesh) as client, client.session(config) as session:
        first = await collect(session.ask("What is the capital of France?"))
        second = await collect(session.ask("And what is the capital of Italy?"))
    assert second.done.start_sample == first.done.end_sample
    assert "rome" in second.done.reply_text.lower()


async def test_same_seed_gives_the_same_answer_and_face(mesh: str) -> None:
    async def ask() -> Answer:
        config = SessionConfig(video=False, face_frames=True, seed=7)
        async with Client(mesh) as client, client.session(config) as session:
            return await collect(session.ask("What is the capital of Spain?"))

    first, second = await ask(), await ask()
    assert first.done.reply_text == second.done.reply_text
    assert [face.weights for face in first.faces] == [face.weights for face in second.faces]


async def test_interruption_stops_the_reply(mesh: str) -> None:
    config = SessionConfig(size=256)
    async with Client(mesh) as client, client.session(config) as session:
        answer = Answer()
        interrupted = False
        async for event in session.ask("Tell me a long story about the sea."):
            answer.events.append(event)
            if not interrupted and len(answer.video) > 10:
                interrupted = True
                await session.interrupt()
        assert answer.done.outcome is Outcome.INTERRUPTED
        shown = [picture.start_sample for picture in answer.video if picture.start_sample >= answer.done.start_sample]
        assert shown == list(range(answer.done.start_sample, answer.done.end_sample, 960))
        again = await collect(session.ask("What is the capital of France?"))
        assert again.done.outcome is Outcome.COMPLETED
        assert again.done.start_sample == answer.done.end_sample


async def test_ten_sessions_at_once_get_their_own_answers(mesh: str) -> None:
    capitals = {
        "France": "paris",
        "Italy": "rome",
        "Spain": "madrid",
        "Germany": "berlin",
        "Japan": "tokyo",
        "Russia": "moscow",
        "Egypt": "cairo",
        "Greece": "athens",
        "England": "london",
        "China": "beijing",
    }

    async def ask(country: str) -> Answer:
        async with Client(mesh) as client, client.session(SessionConfig(video=False, temperature=0)) as session:
            return await collect(session.ask(f"What is the capital of {country}?"))

    answers = await asyncio.gather(*map(ask, capitals))
    for (country, capital), answer in zip(capitals.items(), answers, strict=True):
        text = answer.done.reply_text.lower()
        assert answer.done.user_text == f"What is the capital of {country}?"
        assert capital in text, (country, text)
        others = set(capitals.values()) - {capital}
        assert not any(other in text for other in others), (country, text)
        assert any(any(chunk.data) for chunk in answer.audio)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (48000, 2)])
async def test_other_input_formats_are_understood(mesh: str, question: Path, rate: int, channels: int) -> None:
    wav = read_wav(question)
    resampler = av.AudioResampler("s16", "stereo" if channels == 2 else "mono", rate)
    frame = av.AudioFrame(format="s16", layout="mono", samples=wav.samples)
    frame.planes[0].update(wav.data)
    frame.sample_rate = wav.sample_rate_hz
    out = [*resampler.resample(frame), *resampler.resample(None)]
    data = b"".join(bytes(piece.planes[0])[: piece.samples * channels * 2] for piece in out)

    async def chunks() -> AsyncIterator[bytes]:
        step = rate // 50 * channels * 2
        for at in range(0, len(data), step):
            yield data[at : at + step]

    config = SessionConfig(input=AudioInput(rate, channels), video=False, audio=False, phonemes=False)
    async with Client(mesh) as client, client.session(config) as session:
        answer = await collect(session.ask_audio(chunks()))
    assert "capital of france" in answer.done.user_text.lower()


async def test_turn_that_was_left_does_not_leak_into_the_next(mesh: str) -> None:
    async with Client(mesh) as client, client.session(SessionConfig(size=256)) as session:
        async for event in session.ask("Tell me a long story about the sea."):
            if isinstance(event, Video) and event.speaking:
                break
        answer = await collect(session.ask("What is the capital of France?"))
    assert answer.done.user_text == "What is the capital of France?"
    assert "paris" in " ".join(clause.text for clause in answer.clauses).lower()
    assert "sea" not in " ".join(clause.text for clause in answer.clauses).lower()
