"""Where a model's files come from, and whether they are the right ones.

A source is one of
    package:NAME/PATH   a file or folder inside an installed Python package (the package is not imported)
    prepared:NAME       a folder that `tools.models prepare` has made in the cache
    /absolute/path      a file or folder below one of the allowed roots
    hub:OWNER/NAME      a model hub id; only for engines that fetch by themselves
"""

import hashlib
import importlib.util
import os
from pathlib import Path

from services.runtime.errors import InvalidInput, LoadFailed, NotFound, WeightsMismatch

ROOTS_VARIABLE = "TALKMESH_MODEL_ROOTS"
CACHE_VARIABLE = "TALKMESH_CACHE"


def cache() -> Path:
    """The folder of prepared models: $TALKMESH_CACHE, else the user's cache folder."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "talkmesh"


def allowed_roots() -> list[Path]:
    """Folders below which an absolute source may lie: $TALKMESH_MODEL_ROOTS, separated by ':'."""
    return [Path(root).resolve() for root in os.environ.get(ROOTS_VARIABLE, "").split(":") if root]


def resolve(source: str) -> Path | None:
    """The local path of a source; None for no source and for a hub id.

    Raises InvalidInput for a source of no known form or outside the allowed roots, LoadFailed if nothing is there.
    """
    scheme, colon, rest = source.partition(":")
    if not source or (scheme == "hub" and colon):
        return None
    if scheme == "package" and colon:
        path = inside_package(rest)
    elif scheme == "prepared" and colon:
        path = inside_cache(rest)
    elif source.startswith("/"):
        path = below_a_root(source)
    else:
        raise InvalidInput("source", f"{source!r} is of no known form", "package:, prepared:, hub: or an absolute path")
    if not path.exists():
        raise LoadFailed(f"source {source!r}: no file or folder is there")
    return path


def inside_cache(name: str) -> Path:
    if name in ("", "..") or name != Path(name).name:
        raise InvalidInput("source", f"'prepared:{name}' is no name of a prepared model", "prepared:NAME")
    if not (path := cache() / name).exists():
        raise LoadFailed(f"source 'prepared:{name}': not prepared yet; run python -m tools.models prepare {name}")
    return path


def inside_package(rest: str) -> Path:
    name, _, inner = rest.partition("/")
    if not name.isidentifier():  # A dotted name would make Python import the packages that it is in.
        raise InvalidInput("source", f"package:{rest} names no top-level package", "package:NAME/PATH")
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise NotFound("package", name)
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    path = (root / inner).resolve()
    if not path.is_relative_to(root):
        raise InvalidInput("source", f"package:{rest} leads out of the package", "a path inside it")
    return path


def below_a_root(source: str) -> Path:
    path, roots = Path(source).resolve(), allowed_roots()
    if not any(path.is_relative_to(root) for root in roots):
        listed = ", ".join(map(str, roots)) or f"none; set {ROOTS_VARIABLE}"
        raise InvalidInput("source", f"{source!r} is outside the allowed roots", f"a path below one of: {listed}")
    return path


def digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of the lines "{file digest}  {relative path}\\n" in the order of the paths.

    README files are for people and do not count: their words may change while the model stays the same.
    """
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(inner.relative_to(path).as_posix() for inner in path.rglob("*") if inner.is_file())
    files = [name for name in files if "__pycache__" not in name and not name.rpartition("/")[2].startswith("README")]
    lines = (f"{digest(path / name)}  {name}\n" for name in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def verify(path: Path, sha256: str) -> None:
    """Raises WeightsMismatch unless the digest of `path` is `sha256`."""
    if (found := digest(path)) != sha256:
        raise WeightsMismatch(f"{path.name}: sha256 is {found}, the catalog says {sha256}")
