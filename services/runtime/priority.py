"""Processor time, while models come and go and always: whoever is talking goes first."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

HURRIED_NICE = 10
PICTURES_NICE = 5
"""Of the services whose work is seen and not heard: a picture may be left out, a word may not."""
CAP_SYS_NICE = 23
PATIENCE_S = 20.0
"""How long a model is loaded from idle time alone: on a machine that is never idle it would otherwise never be there."""


def yield_to_others(pid: int) -> None:
    """Let a process run only when nobody else wants to: it is stopped in the middle when another wakes up.

    Only if that can be taken back: raising a priority takes a capability that containers often lack. Without it the process
    is scheduled as a batch job, which at least never stops another when it wakes up.
    """
    policy = os.SCHED_IDLE if may_raise() else os.SCHED_BATCH
    every_thread(pid, lambda thread: os.sched_setscheduler(thread, policy, os.sched_param(0)))


def step_back() -> None:
    """Let this thread wait for others that want to run, without starving it."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), HURRIED_NICE)


def yields() -> bool:
    """Whether this thread, and those that it starts, yield to others."""
    return os.sched_getscheduler(0) in (os.SCHED_IDLE, os.SCHED_BATCH)


def hurry(pid: int) -> None:
    """Give a process that has yielded for long enough a share, if a small one."""

    def take_share(thread: int) -> None:
        os.setpriority(os.PRIO_PROCESS, thread, HURRIED_NICE)
        os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))

    if may_raise():
        every_thread(pid, take_share)


def be_equal(pid: int, nice: int = 0) -> None:
    """Have a process scheduled like all others of its niceness again."""

    def equal(thread: int) -> None:
        os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
        if may_raise() or nice:
            os.setpriority(os.PRIO_PROCESS, thread, nice)

    every_thread(pid, equal)


def every_thread(pid: int, change: Callable[[int], None]) -> None:
    """Do this to each thread that a process has now, as far as it is allowed."""
    for thread in threads(pid):
        with contextlib.suppress(OSError):
            change(thread)


def threads(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]


@functools.cache
def may_raise() -> bool:
    """Whether this process may give others a higher priority."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        effective = next(line for line in lines if line.startswith("CapEff:"))
        return bool(int(effective.split()[1], 16) >> CAP_SYS_NICE & 1)
    return False
