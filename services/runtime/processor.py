"""Processor time: what a process and its helpers take, and what there is where they run."""

import contextlib
import functools
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

WINDOW_S = 10.0
LEAST_STEP_S = 0.5
"""Asked again sooner, the last answer is given."""
LEAST_CHANGE = 0.03
"""Cores. Less is nothing new: a host that hardly does anything has nothing to tell."""
QUOTA = Path("/sys/fs/cgroup/cpu.max")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Place(NamedTuple):
    """Where processes share cores."""

    machine: str
    cores: float


def seconds(pid: int) -> float:
    """Processor time that a process has taken so far, in user and in system; 0 if there is none."""
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0


@functools.cache
def place() -> Place:
    """Where this process runs."""
    cores, machine = float(len(os.sched_getaffinity(0))), boot_id()
    quota = quota_in(QUOTA)
    if quota is not None and quota < cores:
        return Place(f"{machine}/{socket.gethostname()}", quota)
    return Place(machine, cores)


def boot_id() -> str:
    """The same for all containers of a machine, and for no other machine."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def quota_in(path: Path) -> float | None:
    """Cores that a cgroup (version 2) may use; None without a limit, or where nobody says."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = path.read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    return None


class Processor:
    """Cores that this process and others take, as a mean of the last `WINDOW_S`."""

    def __init__(
        self,
        others: Callable[[], Iterable[int]] = tuple,
        now: Callable[[], float] = time.monotonic,
        taken: Callable[[int], float] = seconds,
    ) -> None:
        """`others`: process ids that count beside this process; one that is new counts from when it is first seen."""
        self._others = others
        self._now = now
        self._taken = taken
        self._seen: dict[int, float] = {}
        self._total = 0.0
        self._samples: deque[tuple[float, float]] = deque()
        self._told = 0.0

    def used(self) -> float:
        """Cores taken."""
        now = self._now()
        if not self._samples or now - self._samples[-1][0] >= LEAST_STEP_S:
            self._sample(now)
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        used = (after - before) / (ended - began) if ended > began else 0.0
        if abs(used - self._told) >= LEAST_CHANGE:
            self._told = round(used, 2)
        return self._told

    def _sample(self, now: float) -> None:
        seen = {pid: self._taken(pid) for pid in {os.getpid(), *self._others()}}
        self._total += sum(max(0.0, taken - self._seen.get(pid, taken)) for pid, taken in seen.items())
        self._seen = seen
        self._samples.append((now, self._total))
        while now - self._samples[0][0] > WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()
