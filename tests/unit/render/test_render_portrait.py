"""Which packs and sizes are taken, and what broken ones are told."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from services.render.portrait import KEYS, load_portrait
from services.runtime.errors import InvalidInput, LoadFailed


@pytest.fixture
def pack(packs: Path, tmp_path: Path) -> Path:
    """A copy of a pack, to break."""
    return shutil.copytree(packs / "mei", tmp_path / "mei")


@pytest.mark.parametrize("size", [128, 272, 768])
def test_a_pack_is_scaled_to_the_size(packs: Path, size: int) -> None:
    portrait = load_portrait(packs / "leo", size)
    assert portrait.name == "leo"
    assert {portrait.keys[key].shape for key in KEYS} == {(size, size, 4)}
    assert portrait.background.shape == (size, size, 3)
    assert portrait.landmarks[4, 0] == pytest.approx(size / 2 - 0.5, abs=size / 100)
    full = load_portrait(packs / "leo", 768)
    np.testing.assert_allclose(portrait.units * 768 / size, full.units, atol=0.01)


@pytest.mark.parametrize("size", [0, 112, 130, 784, -256])
def test_a_size_that_cannot_be_drawn_is_refused(packs: Path, size: int) -> None:
    with pytest.raises(InvalidInput, match="128 to 768"):
        load_portrait(packs / "mei", size)


@pytest.mark.parametrize("name", ["manifest.json", "landmarks.npy", "arkit.npz", "open.png", "background.png"])
def test_a_missing_file_is_named(pack: Path, name: str) -> None:
    (pack / name).unlink()
    with pytest.raises(LoadFailed, match=name):
        load_portrait(pack, 256)


def test_pickled_landmarks_are_not_read(pack: Path) -> None:
    np.save(pack / "landmarks.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(LoadFailed, match="allow_pickle"):
        load_portrait(pack, 256)


def test_landmarks_of_another_mesh_are_refused(pack: Path) -> None:
    np.save(pack / "landmarks.npy", np.zeros((478, 3), np.float32))
    with pytest.raises(LoadFailed, match="478"):
        load_portrait(pack, 256)


def test_landmarks_that_are_no_numbers_are_refused(pack: Path) -> None:
    marks = np.load(pack / "landmarks.npy")
    marks[7] = np.nan
    np.save(pack / "landmarks.npy", marks)
    with pytest.raises(LoadFailed, match="not finite"):
        load_portrait(pack, 256)


def test_a_key_that_dials_an_unknown_unit_is_refused(pack: Path) -> None:
    manifest = json.loads((pack / "manifest.json").read_text(encoding="utf-8"))
    manifest["key_weights"]["open"]["on_top_of_neutral"]["jawDrop"] = 1.0
    (pack / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(LoadFailed, match="jawDrop"):
        load_portrait(pack, 256)


def test_a_picture_that_is_none_is_named(pack: Path) -> None:
    (pack / "smile.png").write_bytes(b"not a picture")
    with pytest.raises(LoadFailed, match=r"smile\.png"):
        load_portrait(pack, 256)
