"""The swap bench on real hosts with fake models; and its load on a server that does wrong, which has to be noticed."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.runtime import channels, sources
from talkmesh.llm.v1 import llm_pb2, llm_pb2_grpc
from talkmesh.model.v1 import model_pb2
from tools.bench.peers import mlserver
from tools.bench.swap import parsed
from tools.bench.swapping import blocks, fakes, gaps, report
from tools.bench.swapping.load import LoadJob
from tools.bench.swapping.processes import loading
from tools.bench.swapping.records import StreamRecord

pytestmark = pytest.mark.mesh
KEYS = {
    *("service", "engine", "swaps", "streams", "streams_failed", "streams_truncated", "mixed_chunks", "gap_ms"),
    *("neighbour_added_ms", "rss_growth_pct", "rollback_ms", "put_to_observed_ms", "phases_ms"),
}
STREAMS = "--streams 4 --least-s 0.2 --most-s 0.5"
SMALL = f"--swaps 4 {STREAMS} --load-s 0.02 --load-mb 4 --block-s 0.5 --flips 3 --hosts 1 --models a,b,c"


class Wrong(llm_pb2_grpc.LlmServiceServicer):
    """Streams, in turn: sound; with a chunk by another model; ended before all was sent; broken off; refused."""

    def __init__(self) -> None:
        self.opened = 0

    async def Generate(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[llm_pb2.GenerateResponse]:
        fault = ("", "mixed", "ended", "broken")[self.opened % 4]
        self.opened += 1
        number = 0
        async for request in requests:
            if request.HasField("config"):
                started = llm_pb2.GenerationStarted(model=model_pb2.ServingModel(model="a", slot_generation=3))
                yield llm_pb2.GenerateResponse(started=started)
                continue
            if fault == "ended" and number == 2:
                return
            if fault == "broken" and number == 2:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            maker = "b/1" if fault == "mixed" and number == 2 else "a/1"
            yield llm_pb2.GenerateResponse(delta=llm_pb2.TextDelta(text=f"{maker} {number}"))
            number += 1


async def test_faults_of_streams_are_counted(tmp_path: Path) -> None:
    server = channels.server()
    llm_pb2_grpc.add_LlmServiceServicer_to_server(Wrong(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    job = LoadJob(
        wire="llm",
        targets=[f"127.0.0.1:{port}"],
        streams=4,
        interval_ms=10,
        least_s=0.2,
        most_s=0.3,
        stem=tmp_path / "load",
    )
    try:
        async with loading(job) as load:
            await asyncio.sleep(0.5)
            seen = await load.finish()
    finally:
        await server.stop(None)
    whole = [stream for stream in seen.streams if not kind_of(stream)]
    kinds = {kind_of(stream) for stream in seen.streams}
    assert kinds == {"", "mixed", "truncated", "failed"}
    assert whole[0].model == "a"
    assert whole[0].generation == 3
    assert whole[0].got == whole[0].wanted >= 20
    assert gaps.failures(seen.streams) == ["UNAVAILABLE: gone"]
    assert len(seen.gaps) == sum(max(0, stream.got - 1) for stream in seen.streams)


def kind_of(stream: StreamRecord) -> str:
    assert stream.truncated or not stream.failed
    return "mixed" if stream.mixed else "failed" if stream.failed else "truncated" if stream.truncated else ""


async def test_a_small_run_finds_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SETTLE_S", 0.2)
    monkeypatch.setattr(blocks, "PAUSE_S", 0.2)
    found = await fakes.measure(parsed(SMALL.split()))
    assert found.keys() >= KEYS
    assert (found["swaps"], found["streams_failed"], found["streams_truncated"], found["mixed_chunks"]) == (4, 0, 0, 0)
    assert 2 <= found["swaps_loaded"] <= 4
    assert found["streams"] >= 4
    assert found["gap_ms"]["base_n"] > 0
    assert found["gap_ms"]["swap_n"] > 0
    assert found["rollback_ms"]["n"] == found["put_to_observed_ms"]["n"] == 3
    assert found["neighbour_streams"]["streams_failed"] == 0
    assert found["resources"]["after_swap_4"]["engines"]["processes"] == 1
    json.dumps(found)
    assert "4 swaps, " in report.told(found | {"machine": "this one", "peer": {}})


async def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sources.CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(mlserver.NotInstalled, match="no luck"):
        await mlserver.ran(sys.executable, "-c", "import sys; sys.exit('no luck')")
    assert mlserver.environment().is_relative_to(tmp_path)
