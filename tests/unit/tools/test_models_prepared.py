"""Preparing models: in one step, only when needed, never from or to the wrong bytes."""

import hashlib
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.runtime import sources
from services.runtime.errors import InvalidInput, LoadFailed, NotFound, WeightsMismatch
from services.runtime.settings import CATALOG_FOLDER, read_catalog
from tools.models import prepared
from tools.models.prepared import Material, Progress, Recipe, prepare

MATERIAL = "package:grpc/__init__.py"
CONTENT = b"made of it"
DIGEST = hashlib.sha256(f"{hashlib.sha256(CONTENT).hexdigest()}  weights\n".encode()).hexdigest()


def make_toy(materials: Sequence[Path], folder: Path, progress: Progress) -> None:
    assert [material.name for material in materials] == ["__init__.py"]
    (folder / "weights").write_bytes(CONTENT)
    progress(1, 1)


def fail(materials: Sequence[Path], folder: Path, progress: Progress) -> None:
    (folder / "weights").write_bytes(b"half")
    raise LoadFailed("broken on the way")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(sources.CACHE_VARIABLE, str(tmp_path / "cache"))
    material = sources.resolve(MATERIAL)
    assert material is not None
    monkeypatch.setitem(prepared.RECIPES, "toy", Recipe([Material(MATERIAL, sources.digest(material))], make_toy))
    return tmp_path / "cache"


def visible(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if not path.name.endswith(".lock")]


def no_progress(done: int, total: int) -> None: ...


def test_a_model_is_made_once(cache: Path) -> None:
    told: list[tuple[int, int]] = []
    assert prepare("prepared:toy", DIGEST, lambda done, total: told.append((done, total)))
    assert told == [(1, 1)]
    assert not prepare("prepared:toy", DIGEST, no_progress)
    assert visible(cache) == ["toy"]
    path = sources.resolve("prepared:toy")
    assert path is not None
    assert sources.digest(path) == DIGEST


def test_a_damaged_model_is_made_again(cache: Path) -> None:
    prepare("prepared:toy", DIGEST, no_progress)
    (cache / "toy" / "weights").write_bytes(b"damaged")
    assert prepare("prepared:toy", DIGEST, no_progress)
    assert (cache / "toy" / "weights").read_bytes() == CONTENT


def test_a_result_that_the_catalog_does_not_expect_is_thrown_away(cache: Path) -> None:
    with pytest.raises(WeightsMismatch, match=DIGEST):
        prepare("prepared:toy", "0" * 64, no_progress)
    assert visible(cache) == []


def test_material_with_the_wrong_digest_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(prepared.RECIPES, "toy", Recipe([Material(MATERIAL, "0" * 64)], make_toy))
    with pytest.raises(WeightsMismatch, match="0" * 64):
        prepare("prepared:toy", DIGEST, no_progress)
    assert visible(cache) == []


def test_a_failure_leaves_nothing_and_keeps_what_was_there(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare("prepared:toy", DIGEST, no_progress)
    known = prepared.RECIPES["toy"]
    monkeypatch.setitem(prepared.RECIPES, "toy", Recipe(known.materials, fail))
    with pytest.raises(LoadFailed):
        prepare("prepared:toy", "1" * 64, no_progress)
    assert visible(cache) == ["toy"]
    assert (cache / "toy" / "weights").read_bytes() == CONTENT


def test_material_that_is_not_installed_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(prepared.RECIPES, "toy", Recipe([Material("package:no_such_weights/x", "0" * 64)], make_toy))
    with pytest.raises(NotFound, match="no_such_weights"):
        prepare("prepared:toy", DIGEST, no_progress)


def test_a_source_that_is_not_prepared_here_is_refused() -> None:
    with pytest.raises(InvalidInput):
        prepare("package:grpc/__init__.py", DIGEST, no_progress)
    with pytest.raises(NotFound, match="recipe 'nothing'"):
        prepare("prepared:nothing", DIGEST, no_progress)


def test_processes_that_prepare_at_once_make_it_once() -> None:
    with multiprocessing.get_context("fork").Pool(3) as pool:
        made = pool.starmap(prepare, [("prepared:toy", DIGEST, no_progress)] * 3)
    assert sorted(made) == [False, False, True]


def test_the_catalogs_language_model_comes_out_byte_for_byte(cache: Path) -> None:
    spec = read_catalog(CATALOG_FOLDER / "llm.json")["smollm2-135m"]
    assert prepare(spec.source, spec.sha256, no_progress)
    assert sources.digest(cache / "smollm2-135m-instruct-int8") == spec.sha256


def test_files_in_parts_become_one_in_the_order_of_the_materials(tmp_path: Path) -> None:
    halves = [tmp_path / "z", tmp_path / "a"]
    made = tmp_path / "made"
    for folder in (*halves, made):
        folder.mkdir()
    (halves[0] / "model.bin.part1").write_bytes(b"first, ")
    (halves[0] / "config.json").write_bytes(b"{}")
    (halves[1] / "model.bin.part2").write_bytes(b"second")
    prepared.joined(halves, made, no_progress)
    assert {path.name: path.read_bytes() for path in made.iterdir()} == {
        "model.bin": b"first, second",
        "config.json": b"{}",
    }
