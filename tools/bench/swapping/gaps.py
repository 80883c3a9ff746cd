"""What swaps do to the gaps between chunks: figures of the stretches with swaps and of those without."""

from collections.abc import Iterable, Sequence

from tools.bench.figures import percentile
from tools.bench.swapping.blocks import Blocks, Kind
from tools.bench.swapping.records import Gap, StreamRecord
from tools.bench.swapping.stalls import Stalls


def by_kind(gaps: Iterable[Gap], blocks: Blocks, stalls: Stalls | None = None) -> dict[Kind, list[float]]:
    """Lateness in ms by the kind of block that the late chunk arrived in; chunks between blocks are left out.

    With `stalls`, so are those that came when the whole machine had stood still.
    """
    found: dict[Kind, list[float]] = {"base": [], "swap": []}
    for gap in gaps:
        if (kind := blocks.kind_at(gap.at)) and not (stalls and stalls.hit(gap.at)):
            found[kind].append(gap.late_ms)
    return found


def gap_figures(base: Sequence[float], swap: Sequence[float]) -> dict[str, float]:
    """Percentiles and worst of both kinds in ms, and the differences swap − base. Raises ValueError for no values.

    `added_max` compares two single worst chunks: it says how bad it gets, not how often. `share_over` is the percentage of
    chunks in swap blocks that came later than 99 of 100 did without swaps; 1 % of them would, had swaps no effect.
    """
    base_p99, swap_p99 = percentile(base, 99), percentile(swap, 99)
    figures = {
        "base_p50": percentile(base, 50),
        "base_p99": base_p99,
        "base_p999": percentile(base, 99.9),
        "base_max": max(base),
        "swap_p50": percentile(swap, 50),
        "swap_p99": swap_p99,
        "swap_p999": percentile(swap, 99.9),
        "swap_max": max(swap),
        "added_p99": swap_p99 - base_p99,
        "added_max": max(swap) - max(base),
        "share_over": 100 * sum(late > base_p99 for late in swap) / len(swap),
    }
    return {name: round(value, 2) for name, value in figures.items()} | {"base_n": len(base), "swap_n": len(swap)}


def stream_figures(streams: Sequence[StreamRecord]) -> dict[str, int]:
    """How streams ended: not OK, with fewer chunks than were asked for, with chunks that are not their model's."""
    return {
        "streams": len(streams),
        "streams_failed": sum(stream.failed for stream in streams),
        "streams_truncated": sum(stream.truncated for stream in streams),
        "mixed_chunks": sum(stream.mixed for stream in streams),
    }


def failures(streams: Iterable[StreamRecord], most: int = 5) -> list[str]:
    """The first few different ways in which streams failed."""
    told = dict.fromkeys(f"{stream.code}: {stream.details}" for stream in streams if stream.failed)
    return list(told)[:most]
