"""Outcomes on disk while the store is away: lines of JSON in files of a few, oldest first. Every method blocks.

A file is deleted when all of it is in the store; whoever is killed before reads it again from its begin, which does no
harm, since writing a record twice is writing it once.
"""

import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from gateway.outcomes.records import Record, line_of, record_of
from services.runtime.errors import InvalidInput

FILES = 16
"""The spool is divided by this many files: what is dropped at once when it is full."""
log = logging.getLogger(__name__)


@dataclass
class Part:
    """One file."""

    path: Path
    size: int = 0
    lines: int = 0


class Spool:
    """Use through `spooling`; by one thread at a time."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most = most_bytes
        self._parts: list[Part] = []
        self._file: FileIO | None = None
        """The newest part, while it is written to."""
        self._read = self._taken = 0
        """Of the oldest part: bytes that are done with, and bytes that `head` has given."""
        self._number = 0
        self.dropped = self.unreadable = 0
        """Lines that were lost, since this was last looked at."""

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(part.size for part in self._parts) - self._read

    @property
    def lines(self) -> int:
        """How many records, about: of the oldest file all are counted until it is deleted."""
        return sum(part.lines for part in self._parts)

    def load(self) -> None:
        """Take up what lies there. Raises OSError."""
        for path in sorted(self._folder.glob("*.jsonl")):
            data = path.read_bytes()
            self._parts.append(Part(path, len(data), lines_in(data)))
            self._number = max(self._number, int(path.stem) if path.stem.isdecimal() else 0)

    def append(self, records: Sequence[Record]) -> None:
        """Put records behind all others; the oldest are dropped when there is no room. Raises OSError: put them again."""
        for line in map(line_of, records):
            if len(line) > self._most:
                self.dropped += 1
                continue
            while self.size + len(line) > self._most:
                self._drop_oldest()
            self._write(line)
        if self._file:
            os.fsync(self._file.fileno())

    def head(self, most: int) -> list[Record]:
        """The oldest records, until `forget` is called; empty only if there is nothing left. Raises OSError."""
        records: list[Record] = []
        while self._parts and not records:
            part = self._parts[0]
            try:
                records = self._records(part, most)
            except FileNotFoundError:
                log.error("%s is gone, and with it what waited there", part.path)
                self.unreadable += part.lines
                self._taken = part.size
            if not records:
                self.forget()
        return records

    def forget(self) -> None:
        """What `head` has given is in the store. Raises OSError."""
        self._read = self._taken
        if self._parts and self._read >= self._parts[0].size:
            self._remove()

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def _records(self, part: Part, most: int) -> list[Record]:
        records: list[Record] = []
        skipped: list[str] = []
        self._taken = self._read
        with part.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                self._taken += len(line)
                try:
                    records.append(record_of(line))
                except ValueError as error:
                    skipped.append(f"what ends at byte {self._taken} {error}")
                if len(records) == most:
                    break
            else:
                self._taken = part.size
        if skipped:
            self.unreadable += len(skipped)
            log.warning("%s: %d lines are skipped: %s", part.path.name, len(skipped), skipped[0])
        return records

    def _write(self, line: bytes) -> None:
        part = self._parts[-1] if self._file else None
        if self._file is None or part is None or part.size + len(line) > max(self._most // FILES, 4096):
            part = self._begin()
        assert self._file
        try:
            written = self._file.write(line)
            if written < len(line):
                raise OSError(f"only {written} of {len(line)} bytes could be written")
        except OSError:
            # What comes after must not continue half a line.
            self.close()
            part.size = part.path.stat().st_size
            raise
        part.size += len(line)
        part.lines += 1

    def _begin(self) -> Part:
        self.close()
        self._number += 1
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = Part(self._folder / f"{self._number:012}.jsonl")
        self._file = FileIO(os.open(part.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600), "w")
        self._parts.append(part)
        return part

    def _drop_oldest(self) -> None:
        part = self._parts[0]
        lost = lines_in(part.path.read_bytes()[self._read :]) if part.path.exists() else part.lines
        self.dropped += lost
        log.error("the spool of outcomes is full: %d of the oldest are dropped", lost)
        self._remove()

    def _remove(self) -> None:
        """The oldest part."""
        if len(self._parts) == 1:
            self.close()
        self._parts[0].path.unlink(missing_ok=True)
        del self._parts[0]
        self._read = self._taken = 0


def lines_in(data: bytes) -> int:
    return data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


@contextmanager
def spooling(folder: Path, most_bytes: int) -> Iterator[Spool]:
    """A spool in a folder that no other gateway has. Raises InvalidInput when one does.

    A folder that cannot be used is logged, and every `append` to it fails.
    """
    with ExitStack() as stack:
        spool = Spool(folder, most_bytes)
        stack.callback(spool.close)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            spool.load()
        except BlockingIOError:
            raise InvalidInput("outcomes_folder", f"{folder} is in use by another gateway", "one of its own") from None
        except OSError as error:
            log.error("outcomes cannot wait on disk: %s", error)
        yield spool
