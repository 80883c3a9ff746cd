"""A line on the terminal that fills up."""

import sys
from typing import TextIO

WIDTH = 30


class Bar:
    """Draws how far a piece of work has come; says nothing where nobody watches."""

    def __init__(self, title: str, stream: TextIO = sys.stderr, shown: bool = True) -> None:
        self._title = title
        self._stream = stream
        self._shown = shown and stream.isatty()

    def __call__(self, done: int, total: int) -> None:
        if not self._shown:
            return
        filled = WIDTH * done // total
        end = "\n" if done == total else ""
        self._stream.write(f"\r{self._title} [{'#' * filled}{'.' * (WIDTH - filled)}] {100 * done // total:3d} %{end}")
        self._stream.flush()
