"""The figures of a peer, taken like our own."""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc

from tools.bench.figures import spread
from tools.bench.peers import inference, mlserver
from tools.bench.swapping import gaps, memory
from tools.bench.swapping.blocks import Blocks, alternate
from tools.bench.swapping.load import LoadJob
from tools.bench.swapping.processes import NotReady, loading
from tools.etcd import free_ports


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """MLServer under the same load, reloading a model of the same cost; where that cannot be, only why.

    Runtimes that come with it load on the event loop (scikit-learn's) or in a thread (Hugging Face's): both are measured,
    unless one is asked for. What is better for the peer, the thread, comes first; the other is under "inline".
    """
    about: dict[str, Any] = {"name": mlserver.NAME, "version": mlserver.VERSION}
    first, *rest = ("thread", "inline") if options.peer_load == "both" else (options.peer_load,)
    try:
        await mlserver.installed()
        found = about | await measured(options, first)
        return found | {how: await measured(options, how) for how in rest}
    except mlserver.NotInstalled as error:
        return about | {"not_measured": f"cannot be installed here: {error}"}
    except (NotReady, grpc.aio.AioRpcError) as error:
        # Our own figures, which may have taken an hour, are not to be lost over this.
        return about | {"not_measured": f"did not serve: {error}"}


async def measured(options: argparse.Namespace, how: str) -> dict[str, Any]:
    """The figures of one way to load."""
    with tempfile.TemporaryDirectory(prefix="bench-peer-") as name:
        return {"load": how} | await in_folder(Path(name), options, how)


async def in_folder(folder: Path, options: argparse.Namespace, how: str) -> dict[str, Any]:
    cost = options.load_s, options.load_mb, how
    repository = folder / inference.MODEL
    repository.mkdir()
    job = LoadJob(
        wire="v2",
        targets=[],
        streams=options.streams,
        interval_ms=options.interval_ms,
        least_s=options.least_s,
        most_s=options.most_s,
        stem=folder / "load-peer",
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
