import hashlib
from pathlib import Path

import pytest

from services.runtime import sources
from services.runtime.errors import InvalidInput, LoadFailed, NotFound, WeightsMismatch


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sources.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(sources.ROOTS_VARIABLE, f"{tmp_path}/one:{tmp_path}/two")
    for name in ("cache/made", "one/model", "two", "three"):
        (tmp_path / name).mkdir(parents=True)


def test_no_source_and_a_hub_id_have_no_path() -> None:
    assert sources.resolve("") is None
    assert sources.resolve("hub:someone/something") is None


def test_a_file_inside_a_package_is_found() -> None:
    path = sources.resolve("package:json/decoder.py")
    assert path is not None
    assert path.read_text().startswith('"""Implementation of JSONDecoder')


def test_a_prepared_model_and_one_below_a_root_are_found(tmp_path: Path) -> None:
    assert sources.resolve("prepared:made") == tmp_path / "cache" / "made"
    assert sources.resolve(f"{tmp_path}/one/model") == tmp_path / "one" / "model"
    assert sources.resolve(f"{tmp_path}/two") == tmp_path / "two"


@pytest.mark.parametrize(
    "source",
    (
        *("weights.bin", "ftp:x", "hub", "package:", "package:os.path/x", "package:../json/x", "package:json/../os.py"),
        *("prepared:", "prepared:..", "prepared:.", "prepared:a/b", "prepared:../made"),
        *("/etc/passwd", "{tmp}/three", "{tmp}/one/../three", "{tmp}/onerous"),
    ),
)
def test_a_source_that_is_not_allowed_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        sources.resolve(source.format(tmp=tmp_path))
    assert caught.value.field == "source"


def test_a_link_does_not_lead_out_of_a_root(tmp_path: Path) -> None:
    (tmp_path / "one" / "link").symlink_to(tmp_path / "three")
    with pytest.raises(InvalidInput, match="outside the allowed roots"):
        sources.resolve(f"{tmp_path}/one/link")


def test_without_roots_no_absolute_path_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sources.ROOTS_VARIABLE)
    with pytest.raises(InvalidInput, match=sources.ROOTS_VARIABLE):
        sources.resolve(f"{tmp_path}/one/model")


@pytest.mark.parametrize("source", ["{tmp}/one/nothing", "package:json/nothing", "prepared:nothing"])
def test_what_is_allowed_but_not_there_failed_to_load(source: str, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="nothing"):
        sources.resolve(source.format(tmp=tmp_path))


@pytest.mark.parametrize("name", ["no_such_package", "bisect"], ids=["none", "a module"])
def test_a_package_that_is_none_is_not_known(name: str) -> None:
    with pytest.raises(NotFound, match=name):
        sources.resolve(f"package:{name}/x")


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert sources.digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_digest_of_a_folder_is_that_of_its_list(tmp_path: Path) -> None:
    folder = tmp_path / "three"
    (folder / "b").mkdir()
    (folder / "b" / "inner").write_bytes(b"2")
    (folder / "a").write_bytes(b"1")
    lines = "".join(
        f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in ((("a", b"1")), ("b/inner", b"2"))
    )
    expected = hashlib.sha256(lines.encode()).hexdigest()
    assert sources.digest(folder) == expected
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"3")
    (folder / "b" / "README.md").write_text("for people")
    assert sources.digest(folder) == expected
    (folder / "a").rename(folder / "c")
    assert sources.digest(folder) != expected


def test_other_weights_than_the_catalogs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"abc")
    sources.verify(path, sources.digest(path))
    with pytest.raises(WeightsMismatch, match=r"model\.bin: sha256 is ba7816bf"):
        sources.verify(path, "0" * 64)
