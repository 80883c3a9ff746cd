"""What several commands share."""

import argparse
import getpass
import socket
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from talkmesh.control import STABLE

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run = Callable[[argparse.Namespace], Awaitable[int]]
WELL, FAILED, WRONG_USE, UNHEALTHY, UNREACHABLE, OUTRUN, NOT_IN_TIME = 0, 1, 2, 3, 4, 5, 6
SERVICES = ("asr", "llm", "tts", "animation", "render")


def command(commands: Commands, name: str, what: str, run: Run) -> argparse.ArgumentParser:
    """A command that `run` runs, which returns the exit code."""
    made = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    made.set_defaults(run=run)
    return made


def takes_service(made: argparse.ArgumentParser) -> None:
    made.add_argument("service", help=", ".join(SERVICES))


def takes_slot(made: argparse.ArgumentParser) -> None:
    made.add_argument("--slot", default=STABLE, help=f"the place for the model ({STABLE})")


def takes_author(made: argparse.ArgumentParser) -> None:
    made.add_argument("--actor", default=default_actor(), help="who is named as the author (user@host)")
    made.add_argument("--reason", default="", help="why; it is kept in the history")


def takes_json(made: argparse.ArgumentParser, what: str = "print JSON") -> None:
    made.add_argument("--json", action="store_true", help=what)


def seconds(text: str) -> float:
    """A time that is not negative."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time in seconds")
    return value


def default_actor() -> str:
    """The user and the machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
