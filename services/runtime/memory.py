"""Memory of engine processes: measured, and held to a limit."""

import asyncio
import contextlib
import functools
import importlib
from collections.abc import Callable
from typing import Any

import psutil

MIB = 2**20
LOADING_INTERVAL_S = 0.05
SERVING_INTERVAL_S = 1.0


def rss_bytes(pid: int) -> int:
    """Resident memory of a process; 0 if there is none."""
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss) if pid else 0
    return 0


def vram_bytes(pid: int) -> int:
    """Memory of a process on NVIDIA accelerators, as their driver tells it; 0 where there is none, or no way to ask."""
    nvml = driver()
    if not pid or nvml is None:
        return 0
    total = 0
    with contextlib.suppress(nvml.NVMLError):
        for index in range(nvml.nvmlDeviceGetCount()):
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            users = nvml.nvmlDeviceGetComputeRunningProcesses(device)
            total += sum(user.usedGpuMemory or 0 for user in users if user.pid == pid)
    return total


@functools.cache
def driver() -> Any:
    """NVIDIA's management library, if the package for it (nvidia-ml-py) and a driver are there."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


async def limited(pid: int, limit_mb: int | None, interval_s: float, kill: Callable[[str], None]) -> None:
    """Look at a process's memory now and then; past the limit, `kill` is told why, once.

    Looking is no wall: between two looks a process can take what it can take in that time. A container's limit is the wall.
    """
    if limit_mb is None:
        return
    while (used := rss_bytes(pid)) <= limit_mb * MIB:
        await asyncio.sleep(interval_s)
    kill(f"used {used // MIB} MiB, more than its memory_limit_mb of {limit_mb}")
