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
PARENT_VARIABLE = "TALKMESH_PARENT_PID"


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent, the process `parent`, dies; a no-op where the kernel cannot.

    Ends this process at once if the parent is gone already. That is told by its id: a host in a container may well be
    process 1, so a parent of 1 alone says nothing.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def die_with_parent_if_asked() -> None:
    """The same for a server, when whoever started it left its process id in $TALKMESH_PARENT_PID."""
    if parent := os.environ.pop(PARENT_VARIABLE, ""):
        die_with_parent(int(parent))


def end_with_parent() -> None:
    """End this process when the parent closes, or loses, its end of this process's standard input. Needs a running loop."""
    reader = sys.stdin.fileno()

    def read() -> None:
        if not os.read(reader, 4096):
            os._exit(0)

    asyncio.get_running_loop().add_reader(reader, read)
