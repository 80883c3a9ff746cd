"""Processor time while a model is loaded: whoever is talking goes first."""

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

LOADING_NICE = 15
CAP_SYS_NICE = 23


def yield_to_others(pid: int) -> None:
    """Let a process that has just been started give way to all others.

    Only if it can be taken back: raising a priority needs a capability that containers often lack. Without it the process is
    scheduled as a batch job, which at least never interrupts another when it wakes up.
    """
    with contextlib.suppress(OSError):
        if may_raise():
            os.setpriority(os.PRIO_PROCESS, pid, LOADING_NICE)
        else:
            os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))


def be_equal(pid: int) -> None:
    """Undo that, for every thread that the process has by now."""
    for thread in threads(pid):
        with contextlib.suppress(OSError):
            if may_raise():
                os.setpriority(os.PRIO_PROCESS, thread, 0)
            else:
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def threads(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from (int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir())


@functools.cache
def may_raise() -> bool:
    """Whether this process may give others a higher priority."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        effective = next(line for line in lines if line.startswith("CapEff:"))
        return bool(int(effective.split()[1], 16) >> CAP_SYS_NICE & 1)
    return False
