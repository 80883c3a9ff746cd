"""etcd restarts, freezes, fills up, forgets, shuts its door or is away: serving goes on, and afterwards things converge."""

import asyncio
import shutil
import signal
import time
from itertools import pairwise

import psutil
import pytest
from pydantic import SecretStr

from services.runtime.desired import PREFIX
from services.runtime.etcd import EtcdFull, connected, etcd_settings
from talkmesh.model.v1 import model_pb2, model_pb2_grpc
from tests.fakes.hosts import running, until
from tests.fakes.swapping import SERVICE, Stage, following, stage

pytestmark = pytest.mark.mesh
CONVERGED_S = 5.0
"""After etcd is back."""


async def told(made: Stage) -> model_pb2.HostStatus:
    """What the host says when it is asked: for when etcd is away."""
    stub = model_pb2_grpc.ModelServiceStub(made.host.channel)
    watch = stub.WatchModels(model_pb2.WatchModelsRequest())
    try:
        async for state in watch:
            return state.host
    finally:
        watch.cancel()
    raise AssertionError


async def fresh(made: Stage, freshness: "model_pb2.Freshness.ValueType", within_s: float = 15.0) -> None:
    """Wait until the host says that it is current, or stale."""

    async def is_so() -> bool:
        return (await told(made)).freshness == freshness

    await until(is_so, within_s)


async def flowing(made: Stage, for_s: float) -> None:
    """Streams begin and end well all the time."""
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        assert await made.served_by()
        await asyncio.sleep(0.1)


async def test_an_outage_of_60_s_is_served_through_and_what_was_missed_is_caught_up_with() -> None:
    async with stage() as made:
        talk, _ = await made.talk()
        await talk.say("repeat 600 100")
        await made.server.stop()
        await fresh(made, model_pb2.FRESHNESS_STALE)
        before_s = cpu_of(made)
        await flowing(made, 60)
        cpu_s = cpu_of(made) - before_s
        await made.server.start()
        await made.want("b")
        generation = await made.want("c")
        began = time.monotonic()
        await made.serves("c", generation, within_s=CONVERGED_S)
        assert time.monotonic() - began < CONVERGED_S
        assert cpu_s < 30, "waiting for etcd must not keep a core busy"
        assert [await talk.hear() for _ in range(600)] == [str(index) for index in range(600)]
        await talk.finish()


def cpu_of(made: Stage) -> float:
    times = psutil.Process(made.host.process.pid).cpu_times()
    return float(times.user + times.system)


async def test_changes_that_were_compacted_away_are_found_by_listing() -> None:
    async with stage() as made:
        made.server.signal(signal.SIGSTOP)
        await fresh(made, model_pb2.FRESHNESS_STALE)
        made.host.signal(signal.SIGSTOP)
        made.server.signal(signal.SIGCONT)
        for model in ("b", "c", "b"):
            generation = await made.want(model)
        status = await made.etcd.status()
        await made.etcd.compact(status.revision)
        made.host.signal(signal.SIGCONT)
        await made.serves("b", generation, within_s=15)
        await fresh(made, model_pb2.FRESHNESS_CURRENT)


async def test_a_freeze_of_12_s() -> None:
    async with stage() as made:
        made.server.signal(signal.SIGSTOP)
        await flowing(made, 12)
        assert (await told(made)).freshness == model_pb2.FRESHNESS_STALE
        made.server.signal(signal.SIGCONT)
        await made.serves("b", await made.want("b"), within_s=CONVERGED_S + 5)


async def test_a_full_etcd_stops_no_one_from_serving() -> None:
    async with stage(quota_bytes=4 * 1024 * 1024) as made:
        with pytest.raises(EtcdFull):
            for index in range(1000):
                await made.etcd.put(f"/ballast/{index}", "x" * 100_000)
        await flowing(made, 7)
        await made.etcd.delete("/ballast/", prefix=True)
        await made.etcd.compact((await made.etcd.status()).revision)
        await made.etcd.defragment()
        for alarm in await made.etcd.alarms():
            await made.etcd.disarm(alarm)
        await made.serves("b", await made.want("b"))


async def test_a_door_that_is_shut_and_opened_again() -> None:
    async with stage() as made:
        access = made.etcd.access
        await access.add_user("root", SecretStr("secret"))
        await access.give_role("root", "root")
        await access.enable()
        await fresh(made, model_pb2.FRESHNESS_STALE, within_s=30)
        settings = etcd_settings(made.server.endpoint, user="root", password="secret")
        async with connected(settings) as root:
            await root.put(f"{PREFIX}slots/{SERVICE}/stable", '{"model": "b"}')
            await flowing(made, 2)
            assert await made.served_by() == "a"
            await root.access.disable()
        await made.serves("b")
        assert not any("secret" in line for line in made.host.log)


async def test_a_start_without_etcd_serves_what_was_known_last_and_says_so() -> None:
    async with stage() as made:
        generation = await made.want("b")
        await made.serves("b", generation)
        await until(lambda: kept(made, '"stable":"b"'), 5)
        made.host.signal(signal.SIGKILL)
        await made.host.process.wait()
        await made.server.stop()
        async with running({}, *following(made, "one")) as host:
            made.hosts["one"] = host
            state = await told(made)
            assert (state.freshness, state.slots[0].generation) == (model_pb2.FRESHNESS_STALE, generation)
            assert await made.served_by() == "b"
            await made.server.start()
            await fresh(made, model_pb2.FRESHNESS_CURRENT)
            await made.serves("a", await made.want("a"))


async def kept(made: Stage, text: str) -> bool:
    path = made.folder / "one.json"
    return path.exists() and text in path.read_text()


async def test_a_start_without_etcd_and_without_memory_waits_and_says_why() -> None:
    async with stage() as made:
        made.host.signal(signal.SIGKILL)
        await made.host.process.wait()
        await made.server.stop()
        (made.folder / "one.json").write_text('{"revision": "broken')
        async with running({}, *following(made, "one"), ready=False) as host:
            made.hosts["one"] = host
            await asyncio.sleep(4)
            assert not await host.serving()
            await made.server.start()
            await until(host.serving, 15)
            assert await made.served_by() == "a"


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs util-linux")
async def test_a_full_disk_is_told_and_serving_goes_on() -> None:
    async with stage(first="") as made:
        full = following(made, "two")
        # No file may grow beyond a few bytes: as good as a full disk.
        async with running({}, *full, ready=False, clean=False, before=("prlimit", "--fsize=64")) as host:
            made.hosts = {"two": host}
            await made.serves("a", await made.want("a"))

            async def is_told() -> bool:
                problems = (await made.observed("two")).problems
                return any("could not be kept on disk" in problem.reason for problem in problems)

            await until(is_told, 5)
            assert await made.served_by() == "a"
            assert not (made.folder / "two.json").exists()
            await made.serves("b", await made.want("b"))


async def test_twenty_writers_at_once_leave_one_history() -> None:
    async with stage() as made:
        before = (await made.slot()).generation

        async def write(name: int) -> None:
            for index in range(5):
                await made.want("abc"[(name + index) % 3], actor=f"writer {name}")

        await asyncio.gather(*(write(name) for name in range(20)))
        kv = await made.etcd.get(f"{PREFIX}slots/{SERVICE}/stable")
        assert kv

        async def is_written() -> bool:
            return len(await made.history()) == kv.version

        await until(is_written, 20)
        history = await made.history()
        assert [entry.generation for entry in history] == list(range(before, before + 101))
        for former, entry in pairwise(history):
            assert (entry.generation_before, entry.model_before) == (former.generation, former.wish.model)
        await made.serves(history[-1].wish.model, history[-1].generation)
