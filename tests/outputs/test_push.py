"""Pushing to a real RTMP server, which dies, comes back, refuses, stands still."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from gateway.live.program import Sound, Viewer
from gateway.outputs.flv import FlvWriter
from gateway.outputs.push import Push, PushState
from gateway.outputs.pushes import Pushes, pushes
from services.runtime.errors import Busy, InvalidInput, NotFound, Refused, Unavailable
from tests.fakes.programme import FakeSession, FakeSessions
from tests.outputs.certificates import write_certificate
from tests.outputs.servers import Nginx, free_port, needs_nginx, nginx, until, watch

KEY = "live_3f9a_TOPSECRET"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Nginx]:
    async with nginx(tmp_path) as server:
        yield server


@pytest.fixture
async def sessions() -> FakeSessions:
    return FakeSessions()


@pytest.fixture
async def session(sessions: FakeSessions) -> AsyncIterator[FakeSession]:
    async with sessions.playing() as session:
        yield session


@pytest.fixture
async def pushed(sessions: FakeSessions, session: FakeSession) -> AsyncIterator[Pushes]:
    async with pushes(sessions) as made:
        yield made


async def live(push: Push, connections: int = 1) -> None:
    await until(lambda: push.state is PushState.LIVE and push.connections >= connections)


@needs_nginx
async def test_sound_and_picture_arrive_in_time_with_each_other(server: Nginx, pushed: Pushes) -> None:
    push = pushed.start("one", server.url(KEY))
    await live(push)
    seen = await watch(server.url(KEY), 6)
    assert seen.codecs == ("aac", "h264")
    assert seen.rate_hz == 48_000
    steps = [round(1000 * (later[0] - now[0])) for now, later in zip(seen.pictures, seen.pictures[1:], strict=False)]
    assert set(steps) == {40}
    assert len(seen.offsets) >= 3
    assert max(map(abs, seen.offsets)) <= 0.040, seen.offsets


async def test_a_server_of_another_make(pushed: Pushes) -> None:
    """libav's, which takes one stream and ends with it."""
    url = f"rtmp://127.0.0.1:{free_port()}/live/{KEY}"
    watching = asyncio.create_task(watch(url, 3, listen="1"))
    push = pushed.start("one", url)
    seen = await watching
    assert push.connections == 1
    assert seen.codecs == ("aac", "h264")
    assert seen.pictures[0][0] == 0
    assert len(seen.offsets) >= 2
    assert max(map(abs, seen.offsets)) <= 0.040, seen.offsets


@needs_nginx
async def test_a_new_renderer_in_the_middle_is_seen(server: Nginx, pushed: Pushes, session: FakeSession) -> None:
    push = pushed.start("one", server.url(KEY))
    await live(push)
    watching = asyncio.create_task(watch(server.url(KEY), 6))
    await asyncio.sleep(3)
    session.swap_renderer()
    seen = await watching
    assert len(seen.offsets) >= 4
    assert max(map(abs, seen.offsets)) <= 0.040, seen.offsets
    assert push.connections == 1


@needs_nginx
async def test_a_server_that_dies_and_comes_back_is_pushed_to_again(
    tmp_path: Path, pushed: Pushes, session: FakeSession
) -> None:
    async with nginx(tmp_path) as server:
        push = pushed.start("one", server.url(KEY))
        await live(push)
        await server.kill()
        await until(lambda: push.state is PushState.RETRYING)
        assert push.last_error
    async with nginx(tmp_path, server.port) as again:
        await live(push, connections=2)
        assert push.reconnects == 1
        seen = await watch(again.url(KEY), 4)
    assert len(seen.offsets) >= 2
    assert max(map(abs, seen.offsets)) <= 0.040, seen.offsets


@needs_nginx
async def test_a_server_may_come_later(tmp_path: Path, pushed: Pushes) -> None:
    port = free_port()
    push = pushed.start("one", f"rtmp://127.0.0.1:{port}/live/{KEY}")
    await until(lambda: push.state is PushState.RETRYING)
    assert "Connection refused" in push.last_error
    async with nginx(tmp_path, port):
        await live(push)
        assert push.reconnects == 0


@needs_nginx
async def test_a_server_that_stands_still_holds_nobody_up(
    server: Nginx, sessions: FakeSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its push drops pictures, then gives it up; who else watches misses nothing."""
    monkeypatch.setattr("gateway.outputs.rtmp.STALL_S", 3.0)
    async with sessions.playing("loud", noise=True) as session, pushes(sessions) as made:
        push = made.start("loud", server.url(KEY))
        await live(push)
        with session.program.watch(told=False) as other:
            watching = asyncio.create_task(all_of(other))
            server.process.send_signal(signal.SIGSTOP)
            await until(lambda: push.state is PushState.RETRYING)
            server.process.send_signal(signal.SIGCONT)
            await live(push, connections=2)
            session.end()
            starts = await watching
        assert other.dropped_sound_ms == 0
    assert starts == list(range(starts[0], starts[-1] + 1, 480))


@needs_nginx
async def test_a_slow_server_gets_fewer_pictures(server: Nginx, sessions: FakeSessions) -> None:
    """What does not fit through is left out up to a keyframe, and the connection stays."""
    slow, loud = throttled(server.port, bytes_a_second=150_000), sessions.playing("loud", noise=True)
    async with slow as port, loud, pushes(sessions) as made:
        push = made.start("loud", f"rtmp://127.0.0.1:{port}/live/{KEY}")
        await live(push)
        await until(lambda: push.dropped_pictures > 20)
        seen = await watch(server.url(KEY), 4)
        assert push.connections == 1
    assert 5 < len(seen.pictures) < 90


@needs_nginx
async def test_a_refusal_is_retried_and_told(server: Nginx, pushed: Pushes) -> None:
    push = pushed.start("one", server.url(KEY, app="closed"))
    await until(lambda: push.state is PushState.RETRYING)
    assert push.last_error


async def test_a_server_that_says_nothing_is_given_up(pushed: Pushes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outputs.rtmp.SETUP_S", 0.5)
    async with mute_server() as port:
        push = pushed.start("one", f"rtmp://127.0.0.1:{port}/live/{KEY}")
        await until(lambda: push.state is PushState.RETRYING)
        assert "did not answer within" in push.last_error
        await pushed.stop("one", push.id)
        assert push.state is PushState.STOPPED


async def test_a_server_of_another_kind_is_told_from_one_of_rtmp(pushed: Pushes) -> None:
    async with mute_server(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        push = pushed.start("one", f"rtmp://127.0.0.1:{port}/live/{KEY}")
        await until(lambda: push.state is PushState.RETRYING)
        assert "does not speak RTMP" in push.last_error


@needs_nginx
async def test_rtmps_believes_certificates_that_it_should(
    server: Nginx, sessions: FakeSessions, tmp_path: Path
) -> None:
    certificate, key = write_certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with tls_before(server.port, certificate, key) as port, sessions.playing():
        url = f"rtmps://127.0.0.1:{port}/live/{KEY}"
        async with pushes(sessions) as strict:
            push = strict.start("one", url)
            await until(lambda: push.state is PushState.RETRYING)
            assert "certificate" in push.last_error
        async with pushes(sessions, tls=trusting) as made:
            push = made.start("one", url)
            await live(push)
            assert (await watch(server.url(KEY), 2)).codecs == ("aac", "h264")


@needs_nginx
async def test_a_push_that_is_over_holds_nothing_of_what_it_sent(server: Nginx, pushed: Pushes) -> None:
    def writers() -> int:
        gc.collect()
        return sum(isinstance(each, FlvWriter) for each in gc.get_objects())

    push = pushed.start("one", server.url(KEY))
    await live(push)
    assert writers() == 1
    await pushed.stop("one", push.id)
    await until(lambda: writers() == 0)
    assert pushed.list("one") == [push]


@needs_nginx
async def test_a_push_keeps_its_session_and_ends_with_it(server: Nginx, sessions: FakeSessions) -> None:
    async with pushes(sessions) as made:
        async with sessions.playing() as session:
            push = made.start("one", server.url(KEY))
            await live(push)
            assert session.kept == 1
            await made.stop("one", push.id)
            assert (push.state, session.kept, session.program.watched) == (PushState.STOPPED, 0, 0)
            push = made.start("one", server.url(KEY))
            await live(push)
        await until(lambda: push.state is PushState.STOPPED)
        async with sessions.playing() as session:
            failing = made.start("one", server.url(KEY))
            await live(failing)
            session.end(Unavailable("the renderer is gone"))
            await until(lambda: failing.state is PushState.FAILED)
            assert "the renderer is gone" in failing.last_error


async def test_what_cannot_be_started(sessions: FakeSessions, session: FakeSession) -> None:
    async with pushes(sessions, most=2) as made:
        made.start("one", "rtmp://127.0.0.1:1/live/a")
        with pytest.raises(Refused):
            made.start("one", "rtmp://127.0.0.1:1/live/a")
        with pytest.raises(NotFound):
            made.start("two", "rtmp://127.0.0.1:1/live/b")
        made.start("one", "rtmp://127.0.0.1:1/live/b")
        with pytest.raises(Busy):
            made.start("one", "rtmp://127.0.0.1:1/live/c")
        with pytest.raises(NotFound):
            await made.stop("one", "nothing")
        with pytest.raises(NotFound):
            await made.stop("two", made.list("one")[0].id)
        await made.stop_all("one")
        assert {push.state for push in made.list("one")} == {PushState.STOPPED}


@needs_nginx
async def test_secrets_are_in_no_log(
    server: Nginx, pushed: Pushes, caplog: pytest.LogCaptureFixture, session: FakeSession
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = server.url(KEY).replace("rtmp://", "rtmp://ann:hunter22@") + "?token=deadbeef"
    push = pushed.start("one", secret)
    await live(push)
    await server.kill()
    await until(lambda: push.state is PushState.RETRYING)
    with pytest.raises(InvalidInput) as refused:
        pushed.start("one", secret.replace("rtmp://", "ftp://"))
    await pushed.stop("one", push.id)
    told = caplog.text + repr(push) + str(push.url) + str(refused.value)
    assert f"rtmp://127.0.0.1:{server.port}/live/***" in told
    for each in (KEY, "ann", "hunter22", "deadbeef"):
        assert each not in told


async def all_of(viewer: Viewer) -> list[int]:
    return [item.start async for item in viewer if isinstance(item, Sound)]


@asynccontextmanager
async def mute_server(says: bytes = b"") -> AsyncIterator[int]:
    """A server that takes connections, and says at most one thing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def between(port: int, bytes_a_second: float = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A way to a server, which may be slow."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pace: float) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
                if pace:
                    await asyncio.sleep(len(data) / pace)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, back, bytes_a_second), carry(there, writer, 0))

    listener = socket.socket()
    # What the kernel would hold of a slow way is no part of the test.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    listener.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(serve, sock=listener, ssl=tls, limit=8192)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def throttled(port: int, bytes_a_second: float) -> AbstractAsyncContextManager[int]:
    return between(port, bytes_a_second)


def tls_before(port: int, certificate: Path, key: Path) -> AbstractAsyncContextManager[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return between(port, tls=context)
