"""Where commands write: lines that stay, and on a terminal lines that the next ones replace."""

import os
import re
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

UP_AND_CLEAR = "\x1b[{}F\x1b[J"
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class Terminal:
    """Standard output, or another text stream."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self.live = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = 0

    def say(self, *lines: str) -> None:
        """Lines that stay."""
        self._write(self._erasure() + "".join(f"{clean(line)}\n" for line in lines))

    def draw(self, lines: Sequence[str]) -> None:
        """Lines in place of those drawn before; nothing where it cannot be undone."""
        if not self.live:
            return
        width, height = shutil.get_terminal_size()
        shown = [clean(line)[: width - 1] for line in lines[: height - 1]]
        erasure = self._erasure()
        self._drawn = len(shown)
        self._write(erasure + "".join(f"{line}\n" for line in shown))

    def keep(self) -> None:
        """Let what was drawn stay."""
        self._drawn = 0

    def _erasure(self) -> str:
        drawn, self._drawn = self._drawn, 0
        return UP_AND_CLEAR.format(drawn) if drawn else ""

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def clean(text: str) -> str:
    """Text without what a terminal would obey: it may come from anybody who can write to etcd."""
    return CONTROL.sub(" ", text)
