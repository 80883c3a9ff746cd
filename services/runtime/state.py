"""What a host knew last, on disk: enough to serve when etcd is away at its start."""

import json
import logging
import os
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.runtime.etcd import KeyValue

log = logging.getLogger(__name__)


class KeptValue(BaseModel):
    """A value of the desired state, with what its generation follows from."""

    key: str
    value: str
    create_revision: int
    mod_revision: int
    version: int

    def restored(self) -> KeyValue:
        return KeyValue(**self.model_dump(), lease=0)


class State(BaseModel):
    """Everything that a host keeps over a restart."""

    model_config = ConfigDict(extra="ignore")

    revision: int = 0
    values: list[KeptValue] = Field(default_factory=list)
    serving: dict[str, str] = Field(default_factory=dict, description="slot → the model that served it")
    sizes: dict[str, int] = Field(default_factory=dict, description="model → its measured resident memory, bytes")
    usage: dict[str, dict[str, int]] = Field(default_factory=dict)


def kept(kv: KeyValue) -> KeptValue:
    return KeptValue(
        key=kv.key,
        value=kv.value,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
    )


def read(path: Path) -> State:
    """What was kept; nothing if there is nothing, or nothing that can be read."""
    try:
        return State.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return State()
    except (OSError, UnicodeDecodeError, ValidationError, json.JSONDecodeError) as error:
        log.warning("the state kept in %s cannot be read, so it is left aside: %s", path.name, error)
        return State()


def write(path: Path, state: State) -> None:
    """Keep this: all of it or, if that fails, what was kept before. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(state.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
