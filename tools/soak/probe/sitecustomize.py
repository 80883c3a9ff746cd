"""Makes a Python process tell what it holds: on SIGUSR2 it writes PID.json into the folder that TALKMESH_PROBE names.

Python loads a module of this name by itself from PYTHONPATH; the processes under watch know nothing of it. The garbage is
collected and free memory given back first, so that what is told is what is held. With TALKMESH_PROBE_TRACE in the
environment it also tells where the memory that has come since the first time was allocated; that makes everything slow.
"""

import os
import signal
from typing import Any

MOST = 25
MALLINFO = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
first: Any = None
libc: Any = None
"""Made once, because making it leaves types behind."""


def told() -> dict[str, Any]:
    """Everything countable."""
    import asyncio
    import gc
    import sys
    import threading
    from collections import Counter

    gc.collect()
    gc.collect()
    malloc_kib = used_by_malloc_kib()
    objects = gc.get_objects()
    tasks = [each for each in objects if isinstance(each, asyncio.Task) and not each.done()]
    types = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in objects)
    return {
        "objects": len(objects),
        "blocks": sys.getallocatedblocks(),
        "malloc_kib": malloc_kib,
        "types": dict(types.most_common(400)),
        "tasks": dict(Counter(getattr(each.get_coro(), "__qualname__", "?") for each in tasks)),
        "python_threads": sorted(each.name for each in threading.enumerate()),
        "allocated": allocated(),
    }


def used_by_malloc_kib() -> float:
    """What is allocated with malloc now, without what lies free in between; what is free at the ends is given back."""
    import ctypes

    global libc  # noqa: PLW0603
    if libc is None:
        libc = ctypes.CDLL(None)
        libc.mallinfo2.restype = type(
            "Mallinfo", (ctypes.Structure,), {"_fields_": [(n, ctypes.c_size_t) for n in MALLINFO]}
        )
    libc.malloc_trim(0)
    info = libc.mallinfo2()
    return float(info.uordblks + info.hblkhd) / 1024


def allocated() -> list[str]:
    """Where the memory that came since the first time was allocated."""
    import tracemalloc

    global first  # noqa: PLW0603
    if not tracemalloc.is_tracing():
        return []
    now = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, __file__)])
    if first is None:
        first = now
        return []
    return [str(each) for each in now.compare_to(first, "traceback")[:MOST]] + [
        line for each in now.compare_to(first, "traceback")[:5] for line in each.traceback.format()
    ]


def tell(number: int, frame: object) -> None:
    import json

    path = f"{os.environ['TALKMESH_PROBE']}/{os.getpid()}.json"
    with open(f"{path}.new", "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(told(), file)
    os.replace(f"{path}.new", path)  # noqa: PTH105


if os.environ.get("TALKMESH_PROBE"):
    signal.signal(signal.SIGUSR2, tell)
    if os.environ.get("TALKMESH_PROBE_TRACE"):
        import tracemalloc

        tracemalloc.start(6)
