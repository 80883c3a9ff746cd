"""`kill -9` of engine, host and etcd in each phase of a model's life: things converge, and nothing is left behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import grpc
import psutil
import pytest

from services.runtime.desired import budget_key, slot_key
from talkmesh.model.v1 import model_pb2, model_pb2_grpc
from tests.fakes.hosts import Host, gone, running, until
from tests.fakes.swapping import SERVICE, Stage, following, stage

pytestmark = pytest.mark.mesh
HELD = {
    "loading": {"slow": 4},
    "validating": {"hold_when": "validating"},
    "warming": {"hold_when": "warming"},
}
WAITING_S = 3
PHASES = {name: model_pb2.Phase.Value(f"PHASE_{name.upper()}") for name in (*HELD, "standby", "active", "draining")}


async def reach(made: Stage, phase: str) -> tuple[int, str]:
    """Bring a swap from a to "next" to a phase; returns its generation and the model that is in it."""
    options = HELD.get(phase, {})
    await made.add("next", options=options)
    if phase == "fetching":
        return await wait_for_room(made), ""
    if phase == "draining":
        await made.etcd.put(budget_key(SERVICE), '{"models": 3}')
        made.open, _ = await made.talk()
        await made.open.say("hang")
    generation = await made.want("next")
    if phase in HELD:
        await made.phase("next", PHASES[phase])
        return generation, "next"
    await made.serves("next", generation)
    if phase == "active":
        return generation, "next"
    await made.phase("a", PHASES[phase])
    return generation, "a"


async def wait_for_room(made: Stage) -> int:
    """Have the swap to "next" wait for a stream that holds the room; returns its generation."""
    made.open, _ = await made.talk()
    await made.open.say("hang")
    await made.serves("b", await made.want("b", drain_s=WAITING_S))
    generation = await made.want("next")

    async def waits() -> bool:
        return "waits for the streams" in (await made.slot()).error

    await until(waits, 5)
    return generation


@pytest.mark.parametrize("phase", PHASES)
async def test_an_engine_that_is_killed(phase: str) -> None:
    async with stage(clean=False) as made:
        generation, model = await reach(made, phase)
        pid = (await made.models())[model].pid
        os.kill(pid, signal.SIGKILL)
        await gone(pid, 5)
        if phase in HELD:
            assert "was killed by SIGKILL" in await made.fails(generation)
            assert await made.served_by() == "a"
        else:
            await until(lambda: answers(made), 10)
            assert await made.served_by() in ("next", "a")
            await made.serves("next", generation)
        await made.serves("b", await made.want("b"))
        await linear(made)


async def answers(made: Stage) -> bool:
    try:
        await made.served_by()
    except grpc.aio.AioRpcError:
        return False
    return True


@pytest.mark.parametrize("phase", ["fetching", *PHASES])
async def test_a_host_that_is_killed(phase: str) -> None:
    async with stage(clean=False) as made:
        generation, _ = await reach(made, phase)
        pids = [status.pid for status in (await made.models()).values() if status.pid]
        made.host.signal(signal.SIGKILL)
        for pid in pids:
            await gone(pid, 5)
        await made.host.process.wait()
        async with again(made):
            await made.serves("next", generation)
            assert await made.served_by() == "next"
            await made.serves("b", await made.want("b"))
            await linear(made)


@asynccontextmanager
async def again(made: Stage, ready: bool = True) -> AsyncIterator[Host]:
    """The first host, started once more."""
    async with running({}, *following(made, "one"), ready=ready, clean=False) as host:
        made.hosts["one"] = host
        yield host


@pytest.mark.parametrize("phase", ["fetching", *PHASES])
async def test_an_etcd_that_is_killed(phase: str) -> None:
    async with stage(clean=False) as made:
        generation, _ = await reach(made, phase)
        await made.server.restart()
        assert await made.served_by() in ("next", "a", "b")
        await made.serves("next", generation)
        await made.serves("c", await made.want("c"))
        await linear(made)
        made.hang_up()


async def linear(made: Stage) -> None:
    """Every generation is on record once, none is left out, and each knows the one before."""

    async def is_complete() -> bool:
        kv = await made.etcd.get(slot_key(SERVICE))
        entries = await made.history()
        return kv is not None and [e.generation for e in entries] == [
            kv.create_revision + version for version in range(kv.version)
        ]

    await until(is_complete, 5)
    entries = await made.history()
    for former, entry in pairwise(entries):
        if entry.model_before:
            assert (entry.generation_before, entry.model_before) == (former.generation, former.wish.model)
    engines = [
        child
        for child in psutil.Process(made.host.process.pid).children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
    ]
    held = {status.pid for status in (await made.models()).values()}
    assert {engine.pid for engine in engines} <= held | {0}, "an engine process that nobody knows of"


async def test_a_model_that_crashes_on_its_first_streams_is_taken_back() -> None:
    async with stage(clean=False) as made:
        await made.add("bad", options={"crash_when": "stream"})
        generation = await made.want("bad")
        await made.serves("bad", generation)
        lost = 0
        while (await made.slot()).wanted_generation == generation and lost < 10:
            try:
                assert await made.served_by() in ("a", "bad")
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                lost += 1
            await asyncio.sleep(0.05)
        await made.serves("a", generation + 1)
        assert lost == 2
        entry = (await made.history())[-1]
        assert (entry.wish.model, entry.model_before, entry.via) == ("a", "bad", "host")
        assert entry.wish.cause == "crash loop"
        assert "was killed by SIGKILL" in entry.wish.reason
        assert await made.served_by() == "a"
        await made.gone("bad")
        await linear(made)


async def test_while_a_new_model_is_started_again_the_one_before_stands_in() -> None:
    async with stage(clean=False) as made:
        await made.add("next", options={"slow": 2})
        generation = await made.want("next")
        await made.serves("next", generation)
        os.kill((await made.models())["next"].pid, signal.SIGKILL)
        await until(lambda: answers(made), 3)
        assert await made.served_by() == "a"
        assert await made.host.serving()

        async def is_back() -> bool:
            return await made.served_by() == "next"

        await until(is_back, 10)
        assert (await made.slot()).generation == generation


async def test_a_crash_loop_goes_back_even_when_the_good_model_is_cold_and_etcd_is_away() -> None:
    async with stage("--standby-s", "0", clean=False) as made:
        generation = await made.want("b")
        await made.serves("b", generation)
        await made.gone("a")
        await made.server.stop()
        for _ in range(2):
            pid = (await asked(made)).models[0].pid
            os.kill(pid, signal.SIGKILL)
            await gone(pid, 5)
            await until(lambda: answers(made), 15)
        assert await made.served_by() == "a"
        await made.server.start()
        await made.serves("a", generation + 1)
        assert (await made.history())[-1].wish.cause == "crash loop"


async def asked(made: Stage) -> model_pb2.HostStatus:
    """What the host tells of itself when asked: for when etcd is away."""
    watch = model_pb2_grpc.ModelServiceStub(made.host.channel).WatchModels(model_pb2.WatchModelsRequest())
    try:
        async for told in watch:
            if all(model.pid for model in told.host.models):
                return told.host
    finally:
        watch.cancel()
    raise AssertionError


async def test_an_engine_that_hangs_is_noticed_and_replaced() -> None:
    async with stage(clean=False) as made:
        pid = (await made.models())["a"].pid
        os.kill(pid, signal.SIGSTOP)
        await gone(pid, 20)
        await until(lambda: answers(made), 10)
        assert "did not answer" in (await made.models())["a"].last_error


async def test_at_a_start_a_model_that_does_not_come_up_leaves_the_last_good_one() -> None:
    async with stage(clean=False) as made:
        await made.serves("b", await made.want("b"))
        await until(lambda: is_kept(made, "b"), 5)
        made.host.signal(signal.SIGKILL)
        await made.host.process.wait()
        await made.add("bad", options={"fail": "no such luck"})
        generation = await made.want("bad")
        async with again(made):
            assert await made.served_by() == "b"
            assert "no such luck" in await made.fails(generation)
            await made.serves("a", await made.want("a"))


async def is_kept(made: Stage, model: str) -> bool:
    path = made.folder / "one.json"
    return path.exists() and f'"stable":"{model}"' in path.read_text()
