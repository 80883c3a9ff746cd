"""However a caller leaves, its stream in the engine process ends too, and nothing piles up."""

import asyncio
import contextlib
import signal
import sys

import grpc
import psutil
import pytest

from services.runtime import channels
from tests.fakes.hosts import ROOT, Host, Talk, until

pytestmark = pytest.mark.mesh

SOON_S = 1.0
CALLER = """
import asyncio, sys
from services.runtime import channels
from tests.fakes.hosts import Talk

async def main():
    async with channels.channel(sys.argv[1]) as channel:
        talk = Talk(channel)
        await talk.start()
        await talk.say("hang")
        print("open", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def all_ended(host: Host) -> bool:
    return await host.engine_streams() == 0


async def opened(host: Host, text: str) -> Talk:
    talk = host.talk()
    await talk.start()
    await talk.say(text)
    return talk


async def test_cancelling_ends_the_engines_stream(host: Host) -> None:
    talk = await opened(host, "hang")
    assert await host.engine_streams() == 1
    talk.call.cancel()
    await until(lambda: all_ended(host), SOON_S)
    assert (await host.model()).streams == 0


async def test_a_deadline_ends_the_stream_on_both_sides(host: Host) -> None:
    talk = host.talk(timeout=0.3)
    await talk.start()
    await talk.say("hang")
    assert await host.engine_streams() == 1
    assert (await talk.failure()).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: all_ended(host), SOON_S)


async def test_closing_the_channel_ends_the_engines_stream(host: Host) -> None:
    async with channels.channel(host.target) as channel:
        talk = Talk(channel)
        await talk.start()
        await talk.say("hang")
        assert await host.engine_streams() == 1
    await until(lambda: all_ended(host), SOON_S)


async def test_a_caller_that_is_killed_ends_the_engines_stream(host: Host) -> None:
    caller = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CALLER, host.target), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert caller.stdout is not None
    assert await caller.stdout.readline() == b"open\n"
    assert await host.engine_streams() == 1
    caller.send_signal(signal.SIGKILL)
    await until(lambda: all_ended(host), SOON_S)
    await caller.wait()


# A hop holds no more than HTTP/2's first window of a stream, 64 KiB, and there are two. (channels.FLOW_CONTROL makes it less
# than half of that; grpc's default would be 4 MiB a hop.)
MOST_UNDER_WAY_BYTES = 2 * 64 * 1024


async def test_a_caller_that_does_not_read_stops_the_engine(host: Host) -> None:
    async with channels.channel(host.target) as channel:  # its own, for a connection has a window too
        talk = Talk(channel)
        await talk.start()
        await talk.say("flood 1024")
        before = await settled(host)
        assert 0 < before * 1024 < MOST_UNDER_WAY_BYTES
        for _ in range(before):
            assert len(await talk.hear()) == 1024
        await until(lambda: has_sent(host, before + before // 2), 5.0)
        talk.call.cancel()
        await until(lambda: all_ended(host), SOON_S)


async def test_an_engine_that_does_not_read_stops_the_caller(host: Host) -> None:
    async with channels.channel(host.target) as channel:
        talk = Talk(channel)
        await talk.start()
        await talk.say("hang")
        written = 0
        with pytest.raises(TimeoutError):
            while written < 10_000:
                await asyncio.wait_for(talk.say("x" * 1024), 0.5)
                written += 1
        assert written * 1024 < MOST_UNDER_WAY_BYTES
    await until(lambda: all_ended(host), SOON_S)


async def has_sent(host: Host, count: int) -> bool:
    return (await host.stats())["sent"] >= count


async def settled(host: Host) -> int:
    """The messages that the engine process has sent, once it sends no more."""
    previous = -1
    while (count := (await host.stats())["sent"]) != previous:
        previous = count
        await asyncio.sleep(0.3)
    return count


async def test_two_hundred_cancelled_calls_leave_nothing(host: Host) -> None:
    async def cancelled(number: int) -> None:
        talk = host.talk()
        await talk.start()
        if number % 2:
            await talk.say("repeat 1000 1")
            await talk.hear()
        talk.call.cancel()

    async def footprint() -> tuple[int, ...]:
        await until(lambda: all_ended(host), SOON_S)
        stats = await host.stats()
        engine = psutil.Process((await host.model()).pid)
        itself = psutil.Process(host.process.pid)
        return (
            *(stats["tasks"], stats["threads"], engine.num_fds(), engine.num_threads()),
            *(itself.num_fds(), itself.num_threads(), (await host.model()).streams),
        )

    await asyncio.gather(*(cancelled(number) for number in range(20)))
    before = await footprint()
    for _ in range(10):
        await asyncio.gather(*(cancelled(number) for number in range(20)))
    after = await footprint()
    # Threads of gRPC's own pool come and go.
    assert all(late <= early + 2 for early, late in zip(before, after, strict=True)), (before, after)
    assert (after[0], after[2], after[4]) == (before[0], before[2], before[4])


async def test_the_engines_refusal_reaches_a_caller_that_still_writes(host: Host) -> None:
    for _ in range(30):
        talk = await opened(host, "refuse")
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                await talk.say("more")
        error = await talk.failure()
        assert (error.code(), error.details()) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "prompt.text: refused; expected something else",
        )
    assert (await host.model()).streams == 0
    await until(lambda: all_ended(host), SOON_S)
