"""What the processes of a mesh hold at one moment."""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

PROBE = Path(__file__).resolve().parent / "probe"
ANSWER_S = 20.0
POOLED = re.compile(r"(?!ThreadPoolExecutor-).+_\d+")
"""Names of the threads of pools that somebody has named: each pool has a fixed number of them, made when first needed."""
COUNTS = ("processes", "threads", "fds", "tasks")
"""What has to come back exactly."""


class NoAnswer(Exception):
    """A process does not tell what it holds."""


@dataclass(frozen=True)
class Holding:
    """One process. Memory in KiB; -1 stands for what a process that is no Python cannot tell."""

    rss_kib: float
    uss_kib: float
    """Unique: grows and shrinks with what other processes map of the same files too."""
    anonymous_kib: float
    """Heaps and stacks: what a process can leak."""
    processes: int
    """Itself and all below it."""
    threads: int
    """Without those of named pools, each name once: two of one name are two pools, where there should be one."""
    fds: int
    tasks: int = -1
    malloc_kib: float = -1
    """Of `anonymous_kib`, what is allocated; the rest is Python's small objects and what lies free between what is."""
    objects: int = -1
    blocks: int = -1
    """Of memory that small objects have."""
    types: dict[str, int] = field(default_factory=dict, repr=False)
    task_names: dict[str, int] = field(default_factory=dict, repr=False)
    python_threads: tuple[str, ...] = field(default=(), repr=False)
    allocated: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_python(self) -> bool:
        """Whether it tells of itself. What does not is etcd, whose Go runtime keeps threads as it likes."""
        return self.tasks >= 0

    def figures(self) -> dict[str, Any]:
        """The numbers alone."""
        left_out = ("types", "task_names", "python_threads", "allocated")
        return {name: value for name, value in asdict(self).items() if name not in left_out}


Census = Mapping[str, Holding]


def environment(folder: Path, trace: bool = False) -> dict[str, str]:
    """What the processes need in theirs to be able to tell."""
    paths = [str(PROBE), *filter(None, [os.environ.get("PYTHONPATH")])]
    traced = {"TALKMESH_PROBE_TRACE": "1"} if trace else {}
    return {"PYTHONPATH": os.pathsep.join(paths), "TALKMESH_PROBE": str(folder), **traced}


async def take(pids: Mapping[str, int], folder: Path, silent: frozenset[str] = frozenset()) -> dict[str, Holding]:
    """What each process holds; those named in `silent` are looked at from outside only. Raises NoAnswer."""
    for name in pids.keys() - silent:
        path_of(folder, pids[name]).unlink(missing_ok=True)
        os.kill(pids[name], signal.SIGUSR2)
    told = {name: await answer(name, folder, pid) for name, pid in pids.items() if name not in silent}
    return {name: holding(pid, told.get(name)) for name, pid in pids.items()}


async def answer(name: str, folder: Path, pid: int) -> dict[str, Any]:
    path, deadline = path_of(folder, pid), time.monotonic() + ANSWER_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise NoAnswer(f"{name} (process {pid}) did not tell what it holds within {ANSWER_S:g} s")
        await asyncio.sleep(0.02)
    told: dict[str, Any] = json.loads(path.read_text())
    return told


def path_of(folder: Path, pid: int) -> Path:
    return folder / f"{pid}.json"


def holding(pid: int, told: Mapping[str, Any] | None) -> Holding:
    """A process seen from outside, with what it has told."""
    process = psutil.Process(pid)
    memory = process.memory_full_info()
    told = told or {}
    names = told.get("python_threads", [])
    return Holding(
        rss_kib=memory.rss / 1024,
        uss_kib=memory.uss / 1024,
        anonymous_kib=anonymous_kib(pid),
        processes=1 + len(process.children(recursive=True)),
        threads=process.num_threads() - len({name for name in names if POOLED.fullmatch(name)}),
        fds=process.num_fds(),
        tasks=sum(told["tasks"].values()) if told else -1,
        malloc_kib=told.get("malloc_kib", -1),
        objects=told.get("objects", -1),
        blocks=told.get("blocks", -1),
        types=told.get("types", {}),
        task_names=told.get("tasks", {}),
        python_threads=tuple(names),
        allocated=tuple(told.get("allocated", ())),
    )


def anonymous_kib(pid: int) -> float:
    """Resident memory that belongs to no file, by Linux."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return float(line.split()[1])
    raise NoAnswer(f"process {pid} has no memory any more")
