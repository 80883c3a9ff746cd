"""Putting a key is all it takes: another model serves, and nobody who is talking notices."""

import asyncio
import json
import os
import time

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2

from services.runtime.desired import PREFIX, budget_key, eviction_key, history_key, model_key, veto_key
from services.runtime.recording import TRIM_AFTER
from services.runtime.trimming import HISTORY_KEPT
from talkmesh.model.v1 import model_pb2, model_pb2_grpc
from tests.fakes.hosts import detail, gone, until
from tests.fakes.swapping import SERVICE, Stage, stage

pytestmark = pytest.mark.mesh
PUTS = 300


async def test_a_put_swaps_and_the_stream_in_flight_finishes_on_the_old_model() -> None:
    async with stage() as made:
        talk, before = await made.talk()
        assert before.model == "a"
        await talk.say("repeat 60 20")
        generation = await made.want("b")
        await made.serves("b", generation)
        assert await made.served_by() == "b"
        assert (await made.models())["a"].phase == model_pb2.PHASE_DRAINING
        assert [await talk.hear() for _ in range(60)] == [str(index) for index in range(60)]
        await talk.say("still here")
        assert await talk.hear() == "still here"
        await talk.finish()
        await made.phase("a", model_pb2.PHASE_STANDBY)


async def test_generations_and_phases_are_told() -> None:
    async with stage() as made:
        first = await made.slot()
        generation = await made.want("b", actor="ann", reason="to try it")
        assert generation == first.generation + 1
        await made.serves("b", generation)
        told = await made.slot()
        assert (told.wanted_model, told.wanted_generation, told.phase) == ("b", generation, model_pb2.PHASE_ACTIVE)
        phases = {model_pb2.Phase.Name(timing.phase) for timing in told.timings if timing.seconds > 0}
        assert {"PHASE_LOADING", "PHASE_VALIDATING", "PHASE_WARMING"} <= phases
        assert told.rss_after_bytes > told.rss_before_bytes > 0
        talk, serving = await made.talk()
        assert (serving.model, serving.slot, serving.slot_generation) == ("b", "stable", generation)
        await talk.finish()
        entry = (await made.history())[-1]
        assert (entry.generation, entry.wish.model, entry.model_before, entry.via) == (generation, "b", "a", "etcd")
        assert (entry.wish.actor, entry.wish.reason) == ("ann", "to try it")
        audits = [json.loads(kv.value) for kv in (await made.etcd.list(f"{PREFIX}audit/")).kvs]
        assert [a["actor"] for a in audits if a["generation"] == generation] == ["ann"]


async def test_going_back_to_the_warm_model_starts_no_process() -> None:
    async with stage() as made:
        pid = (await made.models())["a"].pid
        await made.want("b")
        await made.serves("b")
        await made.phase("a", model_pb2.PHASE_STANDBY)
        generation = await made.want("a")
        await made.serves("a", generation, within_s=3)
        assert (await made.models())["a"].pid == pid
        assert (await made.models())["b"].phase == model_pb2.PHASE_STANDBY


async def test_the_model_before_is_let_go_of_after_its_time_and_its_process_is_gone() -> None:
    async with stage("--standby-s", "0.5") as made:
        pid = (await made.models())["a"].pid
        await made.want("b")
        await made.serves("b")
        await made.gone("a")
        await gone(pid, 3)


async def test_past_the_drain_deadline_a_stream_ends_retryably_and_says_why() -> None:
    async with stage() as made:
        talk, _ = await made.talk()
        await talk.say("hang")
        began = time.monotonic()
        await made.want("b", drain_s=1.0)
        error = await asyncio.wait_for(talk.failure(), 15)
        assert time.monotonic() - began >= 1.0
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert detail(error, error_details_pb2.ErrorInfo).reason == "DRAINED"
        assert detail(error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 0
        assert await made.served_by() == "b"


async def test_a_model_that_is_wanted_again_ends_nobodys_stream() -> None:
    async with stage() as made:
        talk, _ = await made.talk()
        await talk.say("repeat 30 100")
        await made.want("b", drain_s=2.0)
        await made.serves("b")
        await made.want("a", drain_s=0)
        await made.serves("a")
        assert [await talk.hear() for _ in range(30)] == [str(index) for index in range(30)]
        await talk.finish()


async def test_a_newer_generation_cancels_an_older_load() -> None:
    async with stage() as made:
        await made.add("slow", options={"slow": 60})
        await made.want("slow")
        await made.phase("slow", model_pb2.PHASE_LOADING)
        pid = (await made.models())["slow"].pid
        await made.serves("b", await made.want("b"))
        await gone(pid, 5)
        assert "slow" not in await made.models()


async def test_wanting_again_what_is_being_loaded_goes_on_loading_it() -> None:
    async with stage() as made:
        await made.add("slow", options={"slow": 3})
        await made.want("slow")
        await made.phase("slow", model_pb2.PHASE_LOADING)
        pid = (await made.models())["slow"].pid
        await made.serves("slow", await made.want("slow"))
        assert (await made.models())["slow"].pid == pid


async def test_no_more_are_resident_than_the_budget_allows() -> None:
    async with stage() as made:
        most = 0

        async def count() -> None:
            nonlocal most
            host = psutil.Process(made.host.process.pid)
            while True:
                engines = [child for child in host.children() if child.status() != psutil.STATUS_ZOMBIE]
                most = max(most, len(engines))
                await asyncio.sleep(0.01)

        counting = asyncio.create_task(count())
        for model in ("b", "c", "a", "b", "c"):
            await made.serves(model, await made.want(model))
        counting.cancel()
        assert most == 2


async def test_what_does_not_fit_is_refused_with_the_reason() -> None:
    async with stage() as made:
        await made.want("b", slot="candidate")
        await made.serves("b", slot="candidate")
        error = await made.fails(await made.want("c"))
        assert "budget of 2 models" in error
        assert "a (active)" in error
        await made.etcd.put(budget_key(SERVICE), '{"models": 3}')
        await made.serves("c", await made.want("c"))


async def test_a_load_waits_for_streams_that_hold_the_room() -> None:
    async with stage() as made:
        talk, _ = await made.talk()
        await made.serves("b", await made.want("b"))
        generation = await made.want("c")

        async def waits() -> bool:
            return "waits for the streams of a" in (await made.slot()).error

        await until(waits, 5)
        await talk.finish()
        await made.serves("c", generation)


async def test_memory_is_held_to_the_budget_by_measure() -> None:
    async with stage() as made:
        await made.add("fat", options={"hold": 400})
        await made.etcd.put(budget_key(SERVICE), '{"models": 3, "memory_mb": 300}')
        error = await made.fails(await made.want("fat"))
        assert "memory_mb of 300" in error
        assert await made.served_by() == "a"
        await made.gone("fat")
        assert "memory_mb of 300" in await made.fails(await made.want("fat")), "known to be too large: not even loaded"
        await made.etcd.put(budget_key(SERVICE), '{"models": 3, "memory_mb": 2000}')
        await made.serves("fat", await made.want("fat"))


async def test_named_slots_serve_side_by_side_and_unknown_ones_are_refused() -> None:
    async with stage() as made:
        await made.want("b", slot="candidate")
        await made.serves("b", slot="candidate")
        talk, model = await made.talk("candidate")
        assert (model.model, model.slot) == ("b", "candidate")
        await talk.finish()
        assert await made.served_by() == "a"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await made.talk("nothing")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        await made.etcd.delete(f"{PREFIX}slots/{SERVICE}/candidate")

        async def is_closed() -> bool:
            return [slot.slot for slot in (await made.observed()).slots] == ["stable"]

        await until(is_closed, 5)


async def test_preloaded_models_are_warm_before_they_are_asked_for() -> None:
    async with stage() as made:
        await made.add("warm", preload=True)
        await made.phase("warm", model_pb2.PHASE_STANDBY)
        pid = (await made.models())["warm"].pid
        assert (await made.models())["warm"].preloaded
        await made.serves("warm", await made.want("warm"), within_s=3)
        assert (await made.models())["warm"].pid == pid
        await made.add("warm")
        await made.serves("a", await made.want("a", standby_s=0))
        await made.gone("warm")


async def test_what_was_used_of_late_stays_warm_where_a_memory_budget_gives_room() -> None:
    async with stage("--standby-s", "0") as made:
        await made.etcd.put(budget_key(SERVICE), '{"models": 2, "memory_mb": 4000}')
        assert await made.served_by() == "a"
        await made.serves("b", await made.want("b"))
        await asyncio.sleep(1.5)
        await made.phase("a", model_pb2.PHASE_STANDBY)
        await made.etcd.put(budget_key(SERVICE), '{"models": 2}')
        await made.gone("a")


async def test_eviction_frees_a_warm_model() -> None:
    async with stage() as made:
        await made.serves("b", await made.want("b"))
        await made.phase("a", model_pb2.PHASE_STANDBY)
        await made.etcd.put(eviction_key(SERVICE, "a"), '{"actor": "ann"}')
        await made.gone("a")
        await made.etcd.put(eviction_key(SERVICE, "b"), '{"actor": "ann"}')
        await asyncio.sleep(1)
        assert await made.served_by() == "b", "what serves stays"


async def test_a_vetoed_model_is_refused_and_a_changed_entry_counts_from_the_next_put() -> None:
    async with stage() as made:
        await made.etcd.put(veto_key(SERVICE, "b"), '{"actor": "ann", "reason": "it hums"}')
        error = await made.fails(await made.want("b"))
        assert "ann" in error
        assert "it hums" in error
        pid = (await made.models())["a"].pid
        await made.add("a", golden={"said": "hello"})
        await made.etcd.delete(veto_key(SERVICE, "b"))
        await made.serves("a", await made.want("a"))
        assert (await made.models())["a"].pid != pid, "the same name, but another entry: loaded anew"


async def test_a_put_every_100_ms_ends_on_the_last() -> None:
    async with stage() as made:
        generation = 0
        for index in range(PUTS):
            generation = await made.want("abc"[index % 3])
            await asyncio.sleep(0.1)
        last = "abc"[(PUTS - 1) % 3]
        await made.serves(last, generation)
        assert await made.served_by() == last
        history = await made.history()
        kept = len(history)
        # A quarter more than that, and what was put while the last trimming went on.
        assert HISTORY_KEPT <= kept <= HISTORY_KEPT + HISTORY_KEPT // 4 + TRIM_AFTER
        assert [entry.generation for entry in history] == list(range(generation - kept + 1, generation + 1))
        assert [entry.wish.model for entry in history] == ["abc"[index % 3] for index in range(PUTS - kept, PUTS)]


async def test_records_do_not_come_to_a_hosts_memory() -> None:
    async with stage() as made:

        async def swap(index: int, reason: str) -> None:
            generation = await made.want("ba"[index % 2], reason=reason)
            await made.serves("ba"[index % 2], generation)
            await until(lambda: is_written(made, generation), 20)

        long = "because " * 12_500
        for index in range(10):
            await swap(index, long)
        before = (host := psutil.Process(made.host.process.pid)).memory_info().rss
        for index in range(100):
            await swap(index, long)
        # What is written down of these is 20 MB.
        assert host.memory_info().rss - before < 8e6


async def is_written(made: Stage, generation: int) -> bool:
    return await made.etcd.get(history_key(SERVICE, "stable", generation)) is not None


async def test_watching_a_host_tells_every_change_and_ends_when_it_stops() -> None:
    async with stage() as made:
        stub = model_pb2_grpc.ModelServiceStub(made.host.channel)
        watch = stub.WatchModels(model_pb2.WatchModelsRequest())
        seen: list[model_pb2.HostStatus] = []
        await made.add("slow", options={"slow": 1})
        generation = await made.want("slow")
        async for told in watch:
            seen.append(told.host)
            if told.host.slots[0].generation == generation:
                break
        assert seen[0].slots[0].model == "a"
        assert seen[-1].slots[0].model == "slow"
        assert seen[-1].freshness == model_pb2.FRESHNESS_CURRENT
        assert model_pb2.PHASE_LOADING in {state.slots[0].phase for state in seen}


async def test_several_hosts_follow_the_same_keys() -> None:
    async with stage(instances=2) as made:
        await made.serves("b", await made.want("b"))
        assert {(await made.slot(instance=name)).model for name in made.hosts} == {"b"}
        assert len(await made.history()) == 2, "each generation is written down once"


async def test_a_models_entry_that_comes_after_the_put_is_found() -> None:
    async with stage(first="") as made:
        await made.want("late")
        await asyncio.sleep(1)
        await made.etcd.put(model_key(SERVICE, "late"), '{"engine": "echo"}')
        await made.serves("late")


async def test_hosts_with_nothing_to_do_leave_etcd_alone() -> None:
    async with stage(instances=2) as made:
        await asyncio.sleep(3)
        before = (await made.etcd.status()).revision
        await asyncio.sleep(5)
        assert (await made.etcd.status()).revision - before < 2 * 5 * 2 + 5


async def test_a_model_that_is_loaded_beside_another_gives_way_and_then_does_not() -> None:
    async with stage() as made:
        await made.add("slow", options={"slow": 2})
        await made.want("slow")
        await made.phase("slow", model_pb2.PHASE_LOADING)
        status = (await made.models())["slow"]
        assert os.sched_getscheduler(status.pid) in (os.SCHED_IDLE, os.SCHED_BATCH)
        assert os.sched_getscheduler((await made.models())["a"].pid) == os.SCHED_OTHER
        await made.serves("slow")
        threads = [thread.id for thread in psutil.Process(status.pid).threads()]
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {0}
