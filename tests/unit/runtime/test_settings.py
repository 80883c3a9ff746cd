import json
from pathlib import Path
from typing import Any

import pytest

from services.runtime.errors import InvalidInput, NotFound
from services.runtime.settings import chosen, read_catalog, service_settings


def written(folder: Path, content: Any) -> Path:
    path = folder / "catalog.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_catalog_keeps_its_order(tmp_path: Path) -> None:
    catalog = read_catalog(written(tmp_path, {"b": {"engine": "e"}, "a": {"engine": "e", "options": {"x": 1}}}))
    assert list(catalog) == ["b", "a"]
    assert chosen(catalog, "")[0] == "b"
    assert chosen(catalog, "a")[1].options == {"x": 1}


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("{", "catalog"),
        ("", "catalog"),
        ([], "catalog"),
        ({"a": {}}, "catalog.a.engine"),
        ({"a": []}, "catalog.a"),
        ({"a": {"engine": 5}}, "catalog.a.engine"),
        ({"a": {"engine": "e", "options": []}}, "catalog.a.options"),
        ({"a": {"engine": "e", "source": None}}, "catalog.a.source"),
        ({"a": {"engine": "e", "sha256": "ABC"}}, "catalog.a.sha256"),
        ({"a": {"engine": "e"}, "b": {"engine": "e", "colour": "red"}}, "catalog.b.colour"),
    ],
)
def test_what_is_wrong_in_a_catalog_is_named(tmp_path: Path, content: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_catalog(written(tmp_path, content))
    assert caught.value.field == field
    assert "catalog.json" in str(caught.value)


def test_a_catalog_that_is_no_text_or_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        read_catalog(tmp_path / "binary")
    with pytest.raises(InvalidInput, match="No such file"):
        read_catalog(tmp_path / "nothing")
    with pytest.raises(InvalidInput, match="Is a directory"):
        read_catalog(tmp_path)


def test_a_model_that_is_not_listed_is_not_known(tmp_path: Path) -> None:
    catalog = read_catalog(written(tmp_path, {"a": {"engine": "e"}}))
    with pytest.raises(NotFound, match="known: a"):
        chosen(catalog, "b")
    with pytest.raises(InvalidInput, match="lists no model"):
        chosen({}, "")


def test_options_come_from_the_command_line_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKMESH_TTS_GRACE_S", "7")
    monkeypatch.setenv("TALKMESH_TTS_MODEL", "joe")
    settings = service_settings("tts", ["--model", "heart"])
    assert (settings.grace_s, settings.model, settings.listen) == (7.0, "heart", "127.0.0.1:0")
    assert settings.catalog.name == "tts.json"


@pytest.mark.parametrize(
    ("option", "value"), [("--grace-s", "-1"), ("--grace-s", "soon"), ("--grace-s", "nan"), ("--log-level", "LOUD")]
)
def test_a_bad_option_ends_with_status_2_and_is_named(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        service_settings("tts", [option, value])
    assert caught.value.code == 2
    assert f"error: {option}: " in capsys.readouterr().err
