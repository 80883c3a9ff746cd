"""`kill -9` of each engine process while it works: the turn ends with a clear, retryable error; the next one is fine."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from talkmesh import Audio, AudioInput, Client, Outcome, SessionConfig, TalkmeshError, Video, read_wav
from talkmesh.conversation.v1 import conversation_pb2
from tests.e2e.asking import collect

SERVICES = ("asr", "llm", "tts", "animation", "render")
CONFIG = SessionConfig(input=AudioInput(16000), size=256, mp4=True, max_reply_tokens=96)


async def engine_pids(mesh: str) -> dict[str, int]:
    """Process ids of the engine processes that serve."""
    async with Client(mesh) as client:
        status = await client.status()
    return {
        service.service: model.pid
        for service in status.services
        for model in service.models
        if service.health == conversation_pb2.HEALTH_SERVING
    }


async def serving_again(mesh: str, service: str, old: int) -> None:
    async with asyncio.timeout(30):
        while (await engine_pids(mesh)).get(service, 0) in (0, old):
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("service", SERVICES)
async def test_killed_engine_fails_the_turn_clearly_and_the_next_one_works(
    mesh: str, question: Path, service: str
) -> None:
    pids = await engine_pids(mesh)
    async with Client(mesh) as client, client.session(CONFIG) as session:
        session_id = session.started.session_id
        before = await collect(session.ask("What is the capital of France?"))
        killed_at = 0.0
        with pytest.raises(TalkmeshError) as caught:
            wav = read_wav(question)
            asked = session.ask_wav(wav, real_time=True) if service == "asr" else session.ask("Tell me about the sea.")
            async for event in asked:
                begun = isinstance(event, Audio | Video) or service in ("asr", "llm", "tts")
                if begun and not killed_at:
                    killed_at = time.monotonic()
                    os.kill(pids[service], signal.SIGKILL)
        assert time.monotonic() - killed_at < 2
        assert caught.value.code == "UNAVAILABLE"
        assert caught.value.retryable
        assert service in str(caught.value)
        assert "SIGKILL" in str(caught.value)
        await serving_again(mesh, service, pids[service])
        after = await collect(session.ask("What is the capital of Italy?"))
        assert session.started.session_id == session_id
    assert before.done.outcome is after.done.outcome is Outcome.COMPLETED
    now = await engine_pids(mesh)
    assert {name: pid for name, pid in now.items() if name != service} == {
        name: pid for name, pid in pids.items() if name != service
    }


async def test_others_go_on_while_one_engine_is_away(mesh: str) -> None:
    """A session that needs no pictures does not notice that render has died."""
    pids = await engine_pids(mesh)
    async with Client(mesh) as client, client.session(SessionConfig(video=False)) as session:
        os.kill(pids["render"], signal.SIGKILL)
        answer = await collect(session.ask("What is the capital of France?"))
    assert answer.done.outcome is Outcome.COMPLETED
    await serving_again(mesh, "render", pids["render"])
