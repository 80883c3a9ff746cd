"""How a host stops: the first signal drains, the second stops at once; nothing is left and nothing is complained of."""

import asyncio
import signal
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.fakes.hosts import Host, Talk, gone, running

pytestmark = pytest.mark.mesh

# Far more than an idle host needs, and far less than the grace that a drain gives by default.
PROMPTLY_S = 4.0
Status = health_pb2.HealthCheckResponse


async def opened(host: Host, text: str) -> Talk:
    talk = host.talk()
    await talk.start()
    await talk.say(text)
    return talk


async def ended_promptly(host: Host, engine: int) -> None:
    began = time.monotonic()
    assert await host.exit_code() == 0
    assert time.monotonic() - began < PROMPTLY_S
    await gone(engine, PROMPTLY_S)
    assert host.socket_folders() == []


@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, True)],
    ids=["TERM", "TERM to the group", "Ctrl-C"],
)
async def test_a_drain_lets_streams_finish_and_takes_no_new_ones(number: signal.Signals, group: bool) -> None:
    async with running() as host:
        engine = (await host.model()).pid
        watch = host.watch_health()
        assert (await watch.read()).status == Status.SERVING
        talk = await opened(host, "repeat 25 20")
        assert await talk.hear() == "0"
        host.signal(number, group=group)
        assert (await watch.read()).status == Status.NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
        assert (await host.talk().failure()).code() is grpc.StatusCode.UNAVAILABLE
        assert [await talk.hear() for _ in range(24)] == [str(index) for index in range(1, 25)]
        await talk.finish()
        await ended_promptly(host, engine)


async def test_calls_that_meet_the_drain_are_served_or_unavailable() -> None:
    async with running() as host:
        codes: set[grpc.StatusCode] = set()

        async def ask_on() -> None:
            while grpc.StatusCode.UNAVAILABLE not in codes:
                try:
                    assert await host.ask("hello") == "hello"
                except grpc.aio.AioRpcError as error:
                    codes.add(error.code())

        asking = [asyncio.create_task(ask_on()) for _ in range(8)]
        await asyncio.sleep(0.2)
        host.signal(signal.SIGTERM)
        await asyncio.gather(*asking)
        assert codes == {grpc.StatusCode.UNAVAILABLE}
        assert await host.exit_code() == 0


async def test_health_watchers_do_not_hold_up_a_drain() -> None:
    async with running() as host:
        engine = (await host.model()).pid
        watches = [host.watch_health() for _ in range(3)]
        for watch in watches:
            assert (await watch.read()).status == Status.SERVING
        host.signal(signal.SIGINT)
        await ended_promptly(host, engine)


async def test_streams_that_outlast_the_grace_end_retryable() -> None:
    async with running({"parrot": {"engine": "echo"}}, "--grace-s", "0.3") as host:
        engine = (await host.model()).pid
        talk = await opened(host, "hang")
        host.signal(signal.SIGTERM)
        assert (await talk.failure()).code() is grpc.StatusCode.UNAVAILABLE
        await ended_promptly(host, engine)


async def test_a_second_signal_stops_at_once() -> None:
    async with running() as host:
        engine = (await host.model()).pid
        talks = [await opened(host, text) for text in ("hang", "flood 1024", "repeat 1000 10")]
        host.signal(signal.SIGTERM)
        await host.logged("draining")
        host.signal(signal.SIGTERM)
        await ended_promptly(host, engine)
        for talk in talks:
            assert (await talk.failure()).code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("option", ["hang", "block"])
async def test_a_host_can_be_stopped_while_its_model_loads(option: str) -> None:
    catalog = {"parrot": {"engine": "echo", "options": {option: True}}}
    async with running(catalog, ready=False) as host:
        while not (engine := (await host.model()).pid):
            await asyncio.sleep(0.02)
        host.signal(signal.SIGTERM)
        await ended_promptly(host, engine)


async def test_a_host_can_be_stopped_while_its_model_fails() -> None:
    catalog = {"parrot": {"engine": "echo", "options": {"fail": "broken"}}}
    async with running(catalog, ready=False) as host:
        await host.logged("broken")
        host.signal(signal.SIGTERM)
        assert await host.exit_code() == 0
