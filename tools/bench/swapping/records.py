"""What the load process writes and the bench reads: arrivals as pairs of doubles, streams as lines of JSON."""

import json
from array import array
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Gap:
    """How late a chunk came: the time since the chunk before it, less the pace."""

    at: float
    """When it arrived, in seconds of time.monotonic, which all processes of a machine share."""
    late_ms: float


@dataclass(frozen=True)
class StreamRecord:
    """One stream from its opening to its end."""

    began: float
    ended: float
    wanted: int
    """Chunks asked for."""
    got: int
    mixed: int
    """Chunks by another model or process than the stream's first, or out of order."""
    code: str
    """gRPC status."""
    details: str
    model: str
    generation: int
    first_ms: float
    """From the opening to the first response."""

    @property
    def failed(self) -> bool:
        return self.code != "OK"

    @property
    def truncated(self) -> bool:
        return self.got < self.wanted


@dataclass(frozen=True)
class Records:
    """Everything that one load process has seen."""

    gaps: list[Gap]
    streams: list[StreamRecord]


def paths(stem: Path) -> tuple[Path, Path]:
    return stem.with_suffix(".gaps"), stem.with_suffix(".jsonl")


def write(stem: Path, gaps: "array[float]", streams: Iterable[StreamRecord]) -> None:
    """`gaps` holds arrival and lateness by turns."""
    binary, lines = paths(stem)
    binary.write_bytes(gaps.tobytes())
    lines.write_text("".join(json.dumps(asdict(stream)) + "\n" for stream in streams))


def read(stem: Path) -> Records:
    binary, lines = paths(stem)
    flat = array("d", binary.read_bytes())
    gaps = [Gap(at, late) for at, late in zip(flat[::2], flat[1::2], strict=True)]
    return Records(gaps, [StreamRecord(**json.loads(line)) for line in lines.read_text().splitlines()])
