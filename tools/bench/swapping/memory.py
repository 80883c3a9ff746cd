"""What processes hold: memory, descriptors, threads, children."""

import asyncio
import contextlib
import time
from dataclasses import asdict, dataclass

import psutil

SETTLED_S = 15.0


@dataclass(frozen=True)
class Resources:
    """What one process holds, or several together. Memory in bytes."""

    rss: int
    uss: int
    """Memory that would come back if it ended: nothing that it shares with others."""
    fds: int
    threads: int
    processes: int

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(*(mine + its for mine, its in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    def told(self) -> dict[str, float]:
        """With memory in MiB."""
        return asdict(self) | {"rss": round(self.rss / 2**20, 2), "uss": round(self.uss / 2**20, 2)}


NOTHING = Resources(0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Holding:
    """A host and its engine processes at one moment."""

    host: Resources
    engines: Resources

    @property
    def service(self) -> Resources:
        return self.host + self.engines

    def told(self) -> dict[str, dict[str, float]]:
        return {"host": self.host.told(), "engines": self.engines.told()}


def of_process(process: psutil.Process) -> Resources:
    """Raises psutil.Error for a process that is gone."""
    with process.oneshot():
        memory = process.memory_full_info()
        return Resources(memory.rss, memory.uss, process.num_fds(), process.num_threads(), 1)


def of_host(pid: int) -> Holding:
    """What the host `pid` holds, and its children. Raises psutil.Error when it is gone."""
    host, engines = psutil.Process(pid), NOTHING
    for child in host.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            engines += of_process(child)
    return Holding(of_process(host), engines)


async def settled(pid: int, engines: int) -> Holding:
    """What a host holds once it has no more than `engines` children, or after SETTLED_S."""
    deadline = time.monotonic() + SETTLED_S
    while len(psutil.Process(pid).children(recursive=True)) > engines and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return await asyncio.to_thread(of_host, pid)


def growth_pct(before: int, after: int) -> float:
    """By how much more than before, in percent."""
    return round(100 * (after - before) / before, 2) if before else 0.0
