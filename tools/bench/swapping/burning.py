"""The imitation of loading a model. Nothing but the standard library, so that a peer's own environment can import it."""

import time

PAGE_BYTES = 4096


def imitated_weights(cpu_s: float, mb: int) -> bytearray:
    """Compute for `cpu_s` seconds of this thread's processor time, then return `mb` MiB that really are resident.

    Processor time and not time on the wall: the same work on a busy machine takes longer, as real loading does.
    """
    until = time.thread_time() + cpu_s
    while time.thread_time() < until:
        sum(range(2000))
    weights = bytearray(mb * 2**20)
    weights[::PAGE_BYTES] = b"\1" * len(range(0, len(weights), PAGE_BYTES))
    return weights
