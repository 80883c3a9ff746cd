"""The engine process dies in the middle of everything: its streams are told so, it comes back, and nothing else is hurt."""

import asyncio
import os
import signal
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2

from talkmesh.model.v1 import model_pb2
from tests.fakes.hosts import Host, Talk, detail, gone, running, until

pytestmark = pytest.mark.mesh
TOLD_WITHIN_S = 2.0
BACK_WITHIN_S = 5.0
Status = health_pb2.HealthCheckResponse


async def opened(host: Host, text: str) -> Talk:
    talk = host.talk()
    await talk.start()
    await talk.say(text)
    return talk


async def told(talk: Talk) -> grpc.aio.AioRpcError:
    """The error of a stream whose engine process died: one after which to try again."""
    error = await asyncio.wait_for(talk.failure(), TOLD_WITHIN_S)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert detail(error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    assert detail(error, error_details_pb2.ErrorInfo).reason == "UNAVAILABLE"
    return error


async def test_every_stream_is_told_and_the_engine_comes_back() -> None:
    async with running() as host:
        before = await host.model()
        watch = host.watch_health()
        assert (await watch.read()).status == Status.SERVING
        texts = ("hang", "flood 1024", "repeat 1000 5")
        talks = [await opened(host, texts[number % 3]) for number in range(20)]
        os.kill(before.pid, signal.SIGKILL)
        for error in await asyncio.gather(*(told(talk) for talk in talks)):
            assert "was killed by SIGKILL" in (error.details() or "")
        assert (await watch.read()).status == Status.NOT_SERVING
        assert (await watch.read()).status == Status.SERVING
        after = await host.model()
        assert (after.restarts, after.streams, after.phase) == (1, 0, model_pb2.PHASE_ACTIVE)
        assert after.pid not in (0, before.pid)
        assert await host.ask("hello") == "hello"
        watch.cancel()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("exit 0", "ended with code 0"),
        ("exit 7", "ended with code 7"),
        ("kill SIGSEGV", "was killed by SIGSEGV"),
        ("kill SIGKILL", "was killed by SIGKILL"),
    ],
)
async def test_an_engine_that_ends_itself_is_started_again(text: str, named: str) -> None:
    async with running(clean=False) as host:
        error = await told(await opened(host, text))
        assert named in (error.details() or "")
        await until(host.serving, BACK_WITHIN_S)
        assert await host.ask("hello") == "hello"
        assert named in (await host.model()).last_error


async def test_an_engine_told_to_stop_by_somebody_else_is_started_again() -> None:
    async with running() as host:
        engine = (await host.model()).pid
        talk = await opened(host, "hang")
        os.kill(engine, signal.SIGTERM)
        error = await asyncio.wait_for(talk.failure(), 4.0)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        await gone(engine, 4.0)
        await until(host.serving, BACK_WITHIN_S)
        assert await host.ask("hello") == "hello"


async def test_calls_between_death_and_return_are_refused_with_the_reason() -> None:
    async with running() as host:
        os.kill((await host.model()).pid, signal.SIGKILL)
        refused = 0
        began = time.monotonic()
        while time.monotonic() - began < BACK_WITHIN_S:
            try:
                assert await host.ask("hello") == "hello"
                break
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                assert detail(error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
                assert "was killed by SIGKILL" in (error.details() or "")
                refused += 1
        assert await host.ask("hello") == "hello"
        assert refused > 0


async def test_an_engine_that_keeps_dying_is_started_less_and_less_often() -> None:
    async with running(clean=False) as host:
        pids = set()
        for _ in range(3):
            await until(host.serving, BACK_WITHIN_S)
            pid = (await host.model()).pid
            pids.add(pid)
            os.kill(pid, signal.SIGKILL)
            await gone(pid, TOLD_WITHIN_S)
            await until(lambda: not_serving(host), TOLD_WITHIN_S)
        await host.logged("starting it again in 0.8 s")
        assert len(pids) == 3


async def not_serving(host: Host) -> bool:
    return not await host.serving()


async def test_one_services_engine_is_none_of_anothers_business() -> None:
    async with running() as host, running() as other:
        talk = await opened(other, "repeat 50 20")
        os.kill((await host.model()).pid, signal.SIGKILL)
        assert [await talk.hear() for _ in range(50)] == [str(index) for index in range(50)]
        await talk.finish()
        await until(host.serving, BACK_WITHIN_S)
        assert ((await other.model()).restarts, (await host.model()).restarts) == (0, 1)
