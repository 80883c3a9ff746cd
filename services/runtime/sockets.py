"""Where the sockets of engine processes are."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "talkmesh-engine-"
SETTLED_S = 10.0


@contextmanager
def socket_folder() -> Iterator[Path]:
    """A folder that only this user may enter, removed with what is in it on leaving. Raises OSError.

    A host that is killed cannot remove its own: those are removed here, by whoever comes next. A lock on a folder, which
    ends with the process that holds it, tells that it is in use.
    """
    remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(descriptor)


def remove_abandoned() -> None:
    """Remove the folders of hosts that are gone. One made just now may not be locked yet, so it is left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if folder.stat().st_uid == os.getuid() and time.time() - folder.stat().st_mtime > SETTLED_S:
                remove_unlocked(folder)


def remove_unlocked(folder: Path) -> None:
    """Remove a folder with its socket. Raises OSError if it is in use or holds anything else."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for socket in folder.glob("*.sock"):
            socket.unlink()
        folder.rmdir()
    finally:
        os.close(descriptor)
