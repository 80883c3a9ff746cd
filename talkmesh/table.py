"""Tables for a terminal."""

import datetime
from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A line of column names and a line for each row, in columns as wide as they need to be."""
    lines = [columns, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def mebibytes(size_bytes: int) -> str:
    """A size for a cell; a dash for one that is not known."""
    return f"{size_bytes / 2**20:.0f} MB" if size_bytes else "-"


def cell(text: str) -> str:
    """Text for a cell, a dash for none."""
    return text or "-"


def local_time(at_ms: int, timespec: str = "seconds") -> str:
    """When something was, by the clock of whoever reads. `at_ms`: since 1970; `timespec` as of `datetime.isoformat`."""
    return datetime.datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(" ", timespec)
