"""A child process that cannot outlive its parent.

Two independent ties, since each has a hole: the kernel's parent-death signal (Linux only; lost if the parent's *thread*
is recycled), and the end of a pipe that only the parent holds (works everywhere, but needs the child's loop to run).
"""

import asyncio
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies; a no-op where the kernel cannot."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            os._exit(1)


async def parent_gone() -> None:
    """Return when the parent closes, or loses, its end of this process's standard input."""
    loop = asyncio.get_running_loop()
    gone = loop.create_future()
    reader = sys.stdin.fileno()

    def read() -> None:
        if not os.read(reader, 4096) and not gone.done():
            gone.set_result(None)

    loop.add_reader(reader, read)
    try:
        await gone
    finally:
        loop.remove_reader(reader)
