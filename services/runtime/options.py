"""Settings models filled from the command line and the environment."""

import argparse
import os
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Settings = TypeVar("Settings", bound=BaseModel)


def from_command_line(
    kind: type[Settings], program: str, description: str, prefix: str, arguments: list[str] | None = None
) -> Settings:
    """A `kind` whose fields come as --field-name, else as {PREFIX}_FIELD_NAME, else are the model's defaults.

    Ends the process with status 2 and a message that names the option when a value is wrong.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description=f"{description} Every option may also be given in the environment, as {prefix}_OPTION.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for name, field in kind.model_fields.items():
        default = os.environ.get(f"{prefix}_{name.upper()}", field.default)
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, help=field.description or " ")
    try:
        return kind.model_validate(vars(parser.parse_args(arguments)))
    except ValidationError as error:
        first = error.errors()[0]
        parser.error(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}")
