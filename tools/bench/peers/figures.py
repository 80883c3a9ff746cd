"""The figures of a peer, taken like our own."""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from tools.bench.figures import spread
from tools.bench.peers import inference, mlserver
from tools.bench.swapping import gaps, memory
from tools.bench.swapping.blocks import Blocks, alternate
from tools.bench.swapping.load import LoadJob
from tools.bench.swapping.processes import loading
from tools.up import free_ports


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """MLServer under the same load, reloading a model of the same cost. Where it cannot be had: only why.

    Raises NotReady when it is installed and does not serve.
    """
    about: dict[str, Any] = {"name": mlserver.NAME, "version": mlserver.VERSION, "load": options.peer_load}
    try:
        await mlserver.installed()
    except mlserver.NotInstalled as error:
        return about | {"not_measured": f"cannot be installed here: {error}"}
    with tempfile.TemporaryDirectory(prefix="bench-peer-") as name:
        return about | await measured(Path(name), options)


async def measured(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    cost = options.load_s, options.load_mb, options.peer_load
    repository = folder / inference.MODEL
    repository.mkdir()
    job = LoadJob(
        wire="v2", targets=[], streams=options.streams, interval_ms=options.interval_ms, stem=folder / "load-peer"
    )
    blocks, took = Blocks(), list[float]()
    async with mlserver.running(repository, free_ports(3), *cost) as peer:

        async def swap(number: int) -> None:
            began = time.monotonic()
            await peer.load("ba"[number % 2], *cost)
            took.append(1000 * (time.monotonic() - began))

        before = memory.of_host(peer.pid)
        async with loading(job.model_copy(update={"targets": [peer.target]})) as load:
            await alternate(blocks, options.peer_swaps, options.block_s, swap)
            seen = await load.finish()
        after = memory.of_host(peer.pid)
    kinds = gaps.by_kind(seen.gaps, blocks)
    return {
        "swaps": len(took),
        "swap_ms": spread(took),
        **gaps.stream_figures(seen.streams),
        "failures": gaps.failures(seen.streams),
        "gap_ms": gaps.gap_figures(kinds["base"], kinds["swap"]),
        "rss_mb": {"before": round(before.host.rss / 2**20, 1), "after": round(after.host.rss / 2**20, 1)},
        "models_served": sorted({stream.model for stream in seen.streams}),
    }
