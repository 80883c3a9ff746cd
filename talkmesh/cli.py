"""The command line: `talkmesh ask`, `talkmesh swap` and the others; each is in `talkmesh.commands`."""

import argparse
import asyncio
import os
import sys

from talkmesh.client import DEFAULT_ADDRESS
from talkmesh.commands import (
    ask,
    audit,
    experiment,
    feedback,
    history,
    key,
    live,
    marks,
    models,
    push,
    rollback,
    say,
    status,
    swap,
    watch,
)
from talkmesh.commands.options import FAILED, NOT_IN_TIME, OUTRUN, UNREACHABLE, WELL
from talkmesh.credentials import TOKEN, TOKEN_FILE
from talkmesh.errors import TalkmeshError
from talkmesh.swap import NotInTime
from talkmesh.terminal import clean

COMMANDS = (
    ask,
    audit,
    live,
    say,
    push,
    status,
    models,
    swap,
    rollback,
    marks,
    history,
    watch,
    experiment,
    feedback,
    key,
)
CODES = {"UNAVAILABLE": UNREACHABLE, "DEADLINE_EXCEEDED": UNREACHABLE, "ABORTED": OUTRUN}


def parser() -> argparse.ArgumentParser:
    address = os.environ.get("TALKMESH_ADDRESS", DEFAULT_ADDRESS)
    top = argparse.ArgumentParser(prog="talkmesh", description="Talk to a digital human, and replace its models.")
    top.add_argument("--address", default=address, help=f"the gateway's host:port ($TALKMESH_ADDRESS; {address})")
    top.add_argument(
        "--token", default="", help=f"to show to the gateway; other users can see it here, not in ${TOKEN}"
    )
    top.add_argument("--token-file", default="", help=f"file that holds the token (${TOKEN_FILE})")
    commands = top.add_subparsers(dest="command", required=True)
    for module in COMMANDS:
        module.add(commands)
    return top


def main(arguments: list[str] | None = None) -> None:
    """The entry point.

    Exit codes: 0 well, 1 failed or refused, 2 wrong use, 3 a service is not serving, 4 no gateway answers or etcd is away,
    5 somebody else changed the same thing first, 6 not done in the time given, 130 interrupted.
    """
    options = parser().parse_args(arguments)
    # Every command's clients look here.
    os.environ |= {TOKEN: options.token} if options.token else {}
    os.environ |= {TOKEN: "", TOKEN_FILE: options.token_file} if options.token_file and not options.token else {}
    try:
        sys.exit(asyncio.run(options.run(options)))
    except TalkmeshError as error:
        hint = f" (try again in {error.retry_after_s:g} s)" if error.retryable else ""
        sys.stderr.write(f"talkmesh: {clean(str(error))}{hint}\n")
        sys.exit(NOT_IN_TIME if isinstance(error, NotInTime) else CODES.get(error.code, FAILED))
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not try to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(WELL)
    except OSError as error:
        sys.stderr.write(f"talkmesh: {error}\n")
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
