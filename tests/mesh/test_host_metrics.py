"""What Prometheus reads from a host."""

import asyncio
import os
import re
import signal
import urllib.request

import pytest

from services.runtime.desired import budget_key
from tests.fakes.hosts import running, until
from tests.fakes.swapping import SERVICE, Stage, stage

pytestmark = pytest.mark.mesh


async def figures(made: Stage) -> dict[str, float]:
    """Every sample by its name with labels."""
    address = next(found[1] for line in made.host.log if (found := re.search(r"metrics on (http://\S+)", line)))

    def read() -> str:
        with urllib.request.urlopen(address, timeout=5) as response:
            return str(response.read().decode())

    lines = (await asyncio.to_thread(read)).splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


async def test_swaps_streams_memory_forwarding_and_lag_are_counted() -> None:
    async with stage("--metrics", "127.0.0.1:0", clean=False) as made:
        await made.etcd.put(budget_key(SERVICE), '{"models": 3}')
        talk, _ = await made.talk()
        await talk.say("hello")
        await talk.hear()
        await made.serves("b", await made.want("b"))
        await made.add("bad", options={"fail": "no"})
        await made.fails(await made.want("bad"))
        found = await figures(made)
        assert found['talkmesh_swaps_total{result="done",service="echo"}'] == 2
        assert found['talkmesh_swaps_total{result="failed",service="echo"}'] == 1
        assert found['talkmesh_swap_phase_seconds_count{phase="loading",service="echo"}'] == 2
        assert found['talkmesh_swap_phase_seconds_sum{phase="loading",service="echo"}'] > 0
        assert found['talkmesh_model_streams{model="a",service="echo"}'] == 1
        assert found['talkmesh_resident_models{phase="active",service="echo"}'] == 1
        assert found['talkmesh_resident_models{phase="draining",service="echo"}'] == 1
        assert found['talkmesh_engine_memory_bytes{kind="rss",model="b",service="echo"}'] > 1e6
        assert found['talkmesh_forwarding_seconds_count{service="echo"}'] >= 2
        assert found['talkmesh_slot_generation{model="b",service="echo",slot="stable"}'] > 0
        assert found['talkmesh_watch_lag_seconds{service="echo"}'] == 0
        await talk.finish()
        broken, _ = await made.talk()
        await broken.say("hang")
        os.kill((await made.models())["b"].pid, signal.SIGKILL)
        await broken.failure()
        assert (await figures(made))['talkmesh_stream_failures_total{reason="Unavailable",service="echo"}'] == 1
        await made.server.stop()

        async def lags() -> bool:
            return (await figures(made))['talkmesh_watch_lag_seconds{service="echo"}'] > 0.5

        await until(lags, 15, every_s=0.2)
        await made.server.start()


async def test_a_port_for_metrics_that_is_taken_ends_the_host_with_its_name() -> None:
    async with running({"parrot": {"engine": "echo"}}) as host:
        with pytest.raises(AssertionError, match="cannot serve metrics on"):
            async with running({"parrot": {"engine": "echo"}}, "--metrics", host.target):
                pass
