"""A service's settings: read once from the command line and the environment, checked, then frozen."""

import json
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from services.runtime.access import EtcdOptions
from services.runtime.controller import DRAIN_S, STANDBY_S
from services.runtime.engine import ModelSpec
from services.runtime.errors import InvalidInput, NotFound
from services.runtime.options import from_command_line
from services.runtime.telemetry import LogLevel

CATALOG_FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "catalog"
Catalog = dict[str, ModelSpec]


class ServiceSettings(EtcdOptions):
    """How one service runs."""

    listen: str = Field("127.0.0.1:0", description="host:port to listen on; port 0 takes a free one")
    instance: str = Field("", description="name of this host among those of its service; empty makes one up")
    advertise: str = Field("", description="host:port by which others reach this host; empty is the one it listens on")
    state: Path | None = Field(
        default=None, description="file that keeps what is known, for a start while etcd is away"
    )
    metrics: str = Field("", description="host:port for Prometheus; empty serves none")
    drain_s: float = Field(DRAIN_S, ge=0, description="seconds that streams on a replaced model get to end")
    standby_s: float = Field(STANDBY_S, ge=0, description="seconds that a replaced model stays warm")
    model: str = Field("", description="without etcd: the catalog's model to serve; empty takes its first")
    catalog: Path = Field(CATALOG_FOLDER, description="without etcd: file that lists the models")
    grace_s: float = Field(20, ge=0, description="seconds that calls in flight get to end after the first stop signal")
    log_level: LogLevel = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")

    @field_validator("state", mode="before")
    @classmethod
    def _no_state(cls, value: Any) -> Any:
        return value or None


def service_settings(service: str, arguments: list[str] | None = None) -> ServiceSettings:
    """The settings of `service`, from the command line and TALKMESH_{SERVICE}_… in the environment.

    Ends the process with status 2 and a message for a person when something is wrong.
    """
    return from_command_line(
        ServiceSettings,
        f"python -m services.{service}",
        f"The {service} service of talkmesh.",
        f"TALKMESH_{service.upper()}",
        arguments,
        {"catalog": CATALOG_FOLDER / f"{service}.json"},
    )


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
