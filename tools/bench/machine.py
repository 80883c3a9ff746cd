"""The machine under measurement, and what processes use of it."""

import asyncio
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import psutil

IDLE_S = 10.0


def machine() -> str:
    """The processor, its cores and the memory."""
    names = [line.partition(":")[2].strip() for line in cpu_lines() if line.startswith("model name")]
    memory = psutil.virtual_memory().total / 2**30
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"


def cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def cpu_seconds(pids: Mapping[str, int]) -> float:
    """Processor time used so far by processes that are still there."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids.values())


async def idle_cpu(pids: Mapping[str, int]) -> float:
    """Percent of one core that all these processes use together while nobody talks."""
    await asyncio.sleep(2)
    before = cpu_seconds(pids)
    await asyncio.sleep(IDLE_S)
    return round(100 * (cpu_seconds(pids) - before) / IDLE_S, 2)


def memory_mb(pids: Mapping[str, int]) -> dict[str, float]:
    """Memory that each process has for itself (unique set size), in MiB, and their sum."""
    found = {name: round(psutil.Process(pid).memory_full_info().uss / 2**20, 1) for name, pid in pids.items()}
    return found | {"total": round(sum(found.values()), 1)}
