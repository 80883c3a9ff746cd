"""LiveService and the command line before it: a host who says what a script tells it."""

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.http.hosted import hosting
from gateway.live_servicer import LiveServicer
from gateway.outputs.pushes import pushes
from services.runtime import channels
from talkmesh import SessionConfig, TalkmeshError
from talkmesh.broadcast import Live
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.live.v1 import live_pb2, live_pb2_grpc
from tests.fakes.programme import FakeSessions
from tests.outputs.servers import needs_nginx, nginx, watch

KEY = "live_3f9a_TOPSECRET"


@pytest.fixture
async def gateway(sessions: FakeSessions) -> AsyncIterator[str]:
    server = channels.server()
    port = server.add_insecure_port("127.0.0.1:0")
    async with pushes(sessions) as pushing, hosting(sessions) as hosted:
        live_pb2_grpc.add_LiveServiceServicer_to_server(LiveServicer(sessions, hosted, pushing), server)
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(1)


@pytest.fixture
async def live(gateway: str) -> AsyncIterator[Live]:
    async with Live(gateway) as live:
        yield live


async def talkmesh(gateway: str, *arguments: str, said: str = "") -> tuple[int, str, str]:
    """Exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "talkmesh", "--address", gateway, *arguments), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate(said.encode())
    assert b"Traceback" not in err, err.decode()
    assert process.returncode is not None
    return process.returncode, out.decode().strip(), err.decode().strip()


async def test_texts_are_said_in_their_order(live: Live, sessions: FakeSessions) -> None:
    started = await live.open(SessionConfig(portrait="leo"))
    assert started.portrait == "leo"
    session = sessions.get(started.session_id)
    first = await live.say(session.id, "welcome")
    assert first.done.outcome == conversation_pb2.OUTCOME_COMPLETED
    queued = await live.say(session.id, "this is the lamp", wait=False)
    assert queued.turn_id
    assert not queued.HasField("done")
    answer = await live.ask(session.id, "what does it cost?")
    assert answer.turn_id != queued.turn_id
    assert answer.done.reply_text == "what does it cost?"
    assert session.spoken == ["welcome", "this is the lamp", "what does it cost?"]
    (listed,) = await live.sessions()
    assert (listed.session_id, listed.portrait, listed.width) == (session.id, "leo", session.program.width)
    await live.close(session.id)
    assert await live.sessions() == []


async def test_what_goes_wrong_is_told(live: Live, sessions: FakeSessions) -> None:
    session = await live.open()
    for wrong, code in (
        (live.say("nobody", "hello"), "NOT_FOUND"),
        (live.close("nobody"), "NOT_FOUND"),
        (live.pushes("nobody"), "NOT_FOUND"),
        (live.start_push("nobody", "rtmp://h/a/b"), "NOT_FOUND"),
        (live.start_push(session.session_id, f"http://h/a/{KEY}"), "INVALID_ARGUMENT"),
        (live.stop_push(session.session_id, "none"), "NOT_FOUND"),
    ):
        with pytest.raises(TalkmeshError) as told:
            await wrong
        assert told.value.code == code
        assert KEY not in str(told.value)
    sessions.get(session.session_id).mute = True
    waiting = asyncio.create_task(live.say(session.session_id, "to be cut off"))
    await asyncio.sleep(0.2)
    await live.close(session.session_id)
    with pytest.raises(TalkmeshError) as ended:
        await waiting
    assert ended.value.code == "FAILED_PRECONDITION"


@needs_nginx
async def test_a_push_is_started_watched_and_stopped(live: Live, tmp_path: Path) -> None:
    session = (await live.open()).session_id
    async with nginx(tmp_path) as server:
        push = await live.start_push(session, server.url(KEY))
        assert push.url == f"rtmp://127.0.0.1:{server.port}/live/***"
        up = await live.until_live(session, push.push_id)
        assert up.sent_bytes > 0
        with pytest.raises(TalkmeshError) as twice:
            await live.start_push(session, server.url(KEY))
        assert twice.value.code == "FAILED_PRECONDITION"
        stopped = await live.stop_push(session, push.push_id)
        assert stopped.state == live_pb2.PUSH_STATE_STOPPED
        assert [each.push_id for each in await live.pushes(session)] == [push.push_id]
        with pytest.raises(TalkmeshError, match="is over"):
            await live.until_live(session, push.push_id)
    later = await live.start_push(session, server.url(KEY))
    with pytest.raises(TalkmeshError, match="Connection refused"):
        await live.until_live(session, later.push_id, timeout_s=1)


@needs_nginx
async def test_a_broadcast_from_a_shell(gateway: str, sessions: FakeSessions, tmp_path: Path) -> None:
    async with nginx(tmp_path) as server:
        code, session, _ = await talkmesh(gateway, "live", "open", "--portrait", "mei")
        assert code == 0
        # The key comes by the input: what stands on a command line, everybody on the machine can read.
        code, push, err = await talkmesh(gateway, "push", "start", session, "-", said=server.url(KEY) + "\n")
        assert (code, err) == (0, "")
        assert (await watch(server.url(KEY), 4)).pictures
        code, _, _ = await talkmesh(gateway, "say", session, "welcome", "-", said="the lamp\n\nthe chair\n")
        assert code == 0
        assert sessions.get(session).spoken == ["welcome", "the lamp", "the chair"]
        code, out, _ = await talkmesh(gateway, "push", "list", session, "--json")
        (told,) = json.loads(out)
        assert (code, told["state"], told["push_id"]) == (0, "LIVE", push)
        code, out, _ = await talkmesh(gateway, "push", "list", session)
        assert re.search(r"rtmp://127\.0\.0\.1:\d+/live/\*\*\* +LIVE", out)
        assert KEY not in out
        code, out, _ = await talkmesh(gateway, "live", "list")
        assert session in out
        assert (await talkmesh(gateway, "push", "stop", session, push))[0] == 0
        assert (await talkmesh(gateway, "live", "close", session))[0] == 0
    code, _, err = await talkmesh(gateway, "say", session, "too late")
    assert code == 1
    assert "is not known" in err


async def test_a_push_that_does_not_come_up(gateway: str) -> None:
    _, session, _ = await talkmesh(gateway, "live", "open")
    code, push, err = await talkmesh(gateway, "push", "start", session, f"rtmp://127.0.0.1:1/a/{KEY}", "--wait", "0.5")
    assert push
    assert "rtmp://127.0.0.1:1/a/*** is not live" in err
    assert code == 4
    assert KEY not in err
    code, _, err = await talkmesh(gateway, "push", "start", session)
    assert code == 2
