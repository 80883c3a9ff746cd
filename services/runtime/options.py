"""Typed options: of engines, from the catalog; of processes, from the command line and the environment."""

import argparse
import os
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from services.runtime.errors import InvalidInput

Settings = TypeVar("Settings", bound=BaseModel)


def of_engine(kind: type[Settings], options: Mapping[str, Any]) -> Settings:
    """A catalog entry's options as `kind`. Raises InvalidInput naming the first option that is wrong, and the known ones."""
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(["options", *map(str, first["loc"])])
        raise InvalidInput(name, str(first["msg"]), f"one of {', '.join(kind.model_fields)}") from error


def from_command_line(
    kind: type[Settings],
    program: str,
    description: str,
    prefix: str,
    arguments: list[str] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """A `kind` whose fields come as --field-name, else as {PREFIX}_FIELD_NAME, else from `defaults`, else from the model.

    Ends the process with status 2 and a message that names the option when a value is wrong.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description=f"{description} Every option may also be given in the environment, as {prefix}_OPTION.",
    )
    for name, field in kind.model_fields.items():
        default = os.environ.get(f"{prefix}_{name.upper()}", (defaults or {}).get(name, field.default))
        # What is not to be shown is not shown as a default either.
        shown = " (default: %(default)s)" if field.repr else "%(default).0s"
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, help=f"{field.description or ' '}{shown}")
    try:
        return kind.model_validate(vars(parser.parse_args(arguments)))
    except ValidationError as error:
        first = error.errors()[0]
        parser.error(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}")
