"""The models that the catalogs list, and which of them are here."""

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.runtime import sources
from services.runtime.engine import ModelSpec
from services.runtime.errors import DomainError, LoadFailed, NotFound
from services.runtime.settings import read_catalog


class State(enum.Enum):
    """Whether a model can be served now."""

    READY = "ready"
    NOT_INSTALLED = "not installed"
    NOT_PREPARED = "not prepared"
    WRONG_HASH = "wrong hash"
    MISSING = "missing"
    """An absolute source that is not there or lies outside the allowed roots."""
    ON_DEMAND = "on demand"
    """Its engine fetches it from a hub."""


@dataclass(frozen=True)
class Model:
    """One entry of a service's catalog."""

    service: str
    name: str
    spec: ModelSpec

    @property
    def full_name(self) -> str:
        return f"{self.service}/{self.name}"

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called."""
        return (self.name, self.full_name, self.spec.source.removeprefix("prepared:"))


@dataclass(frozen=True)
class Found:
    """A model as it is here."""

    model: Model
    state: State
    size_bytes: int | None
    sha256: str
    """Of what is here; empty if the catalog says none or nothing is here."""
    problem: str = ""


def models(catalogs: Path, name: str = "") -> list[Model]:
    """The models of every catalog in the folder `catalogs`, or those called `name`.

    A model is called "model", "service/model" or, if it is a prepared one, as its folder is. Raises NotFound if there
    is none of that name, InvalidInput for a broken catalog.
    """
    listed = list(read(catalogs))
    if not name:
        return listed
    if not (chosen := [model for model in listed if name in model.names]):
        raise NotFound("model", name, [model.full_name for model in listed])
    return chosen


def read(catalogs: Path) -> Iterator[Model]:
    for path in sorted(catalogs.glob("*.json")):
        for name, spec in read_catalog(path).items():
            yield Model(path.stem, name, spec)


def look_up(model: Model) -> Found:
    """Where `model` stands. Reads all of its files, to compare their digest with the catalog's."""
    spec = model.spec
    try:
        path = sources.resolve(spec.source)
    except DomainError as error:
        return Found(model, absence(spec.source, error), None, "", str(error))
    if path is None:
        state = State.ON_DEMAND if spec.source else State.READY
        return Found(model, state, None, "")
    if not spec.sha256:
        return Found(model, State.READY, size(path), "")
    found = sources.digest(path)
    if found == spec.sha256:
        return Found(model, State.READY, size(path), found)
    problem = f"sha256 is {found}, the catalog says {spec.sha256}"
    return Found(model, State.WRONG_HASH, size(path), found, problem)


def absence(source: str, error: DomainError) -> State:
    if isinstance(error, NotFound):
        return State.NOT_INSTALLED
    if isinstance(error, LoadFailed) and source.startswith("prepared:"):
        return State.NOT_PREPARED
    return State.MISSING


def size(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    files: Sequence[Path] = [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]
    return sum(file.stat().st_size for file in files)
