"""A service's settings: read once from the command line and the environment, checked, then frozen."""

import argparse
import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from services.runtime.engine import ModelSpec
from services.runtime.errors import InvalidInput, NotFound
from services.runtime.telemetry import LogLevel

CATALOG_FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "catalog"
Catalog = dict[str, ModelSpec]


class ServiceSettings(BaseModel):
    """How one service runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = Field(description="host:port; port 0 takes a free one")
    model: str = Field(description="a model of the catalog; empty takes its first")
    catalog: Path
    grace_s: float = Field(ge=0, description="time that calls in flight get to end after the first stop signal")
    log_level: LogLevel


def service_settings(service: str, arguments: list[str] | None = None) -> ServiceSettings:
    """The settings of `service`. Each option may also come as TALKMESH_{SERVICE}_{OPTION}.

    Ends the process with status 2 and a message for a person when something is wrong.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{service}",
        description=f"The {service} service of talkmesh. Every option may also be given as "
        f"TALKMESH_{service.upper()}_OPTION in the environment.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )

    def option(name: str, default: str, text: str) -> None:
        variable = f"TALKMESH_{service.upper()}_{name.upper().replace('-', '_')}"
        parser.add_argument(f"--{name}", default=os.environ.get(variable, default), help=text)

    option("listen", "127.0.0.1:0", "host:port to listen on; port 0 takes a free one")
    option("model", "", "model of the catalog to serve; empty takes the catalog's first")
    option("catalog", str(CATALOG_FOLDER / f"{service}.json"), "file that lists the models")
    option("grace-s", "20", "seconds that calls in flight get to end after the first stop signal")
    option("log-level", "INFO", "DEBUG, INFO, WARNING or ERROR")
    try:
        return ServiceSettings.model_validate(vars(parser.parse_args(arguments)))
    except ValidationError as error:
        first = error.errors()[0]
        parser.error(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}")


def read_catalog(path: Path) -> Catalog:
    """The models listed in a catalog file, in its order. Raises InvalidInput naming the entry and field at fault."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(Catalog).validate_python(entries)
    except OSError as error:
        raise InvalidInput("catalog", f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput("catalog", f"{path}: not UTF-8 text at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise InvalidInput("catalog", f"{path}: not JSON at line {error.lineno}: {error.msg}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["catalog", *map(str, first["loc"])])
        raise InvalidInput(where, f"{path}: {first['msg']}") from error


def chosen(catalog: Catalog, model: str) -> tuple[str, ModelSpec]:
    """The catalog's entry for `model`, or its first for "". Raises NotFound, and InvalidInput for an empty catalog."""
    if not catalog:
        raise InvalidInput("catalog", "lists no model")
    name = model or next(iter(catalog))
    if name not in catalog:
        raise NotFound("model", name, catalog)
    return name, catalog[name]
