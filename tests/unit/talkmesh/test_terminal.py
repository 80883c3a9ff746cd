"""What is drawn, where it can be drawn over and where it cannot."""

import io

import pytest

from talkmesh.table import table
from talkmesh.terminal import Terminal, clean


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "5")
    monkeypatch.setenv("TERM", "xterm")


def test_drawn_lines_are_drawn_over_and_said_lines_stay() -> None:
    out = Tty()
    terminal = Terminal(out)
    terminal.draw(["a", "b"])
    terminal.draw(["c"])
    terminal.say("said")
    terminal.draw(["d"])
    terminal.keep()
    terminal.say("end")
    assert out.getvalue() == "a\nb\n\x1b[2F\x1b[Jc\n\x1b[1F\x1b[Jsaid\nd\nend\n"


def test_a_drawing_never_wraps_nor_scrolls() -> None:
    out = Tty()
    Terminal(out).draw(["x" * 50] * 10)
    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert all(len(line) == 19 for line in lines)


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_nothing_is_drawn_where_it_cannot_be_undone(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    monkeypatch.setenv("TERM", term)
    out = Tty() if term == "dumb" else io.StringIO()
    terminal = Terminal(out)
    terminal.draw(["a"])
    terminal.say("b")
    assert out.getvalue() == "b\n"


def test_nobody_elses_text_moves_the_cursor() -> None:
    assert clean("a\x1b[2J\r\nb\x9b1m ü → \t") == "a [2J  b 1m ü → \t"


def test_columns_are_as_wide_as_they_need_to_be() -> None:
    assert table(("A", "LONG"), [("wide", "x"), ("", "y")]) == ["A     LONG", "wide  x", "      y"]
