"""Which token a client shows."""

from pathlib import Path

import pytest

from talkmesh.credentials import local_file, token_for
from talkmesh.errors import TalkmeshError

ADDRESS = "127.0.0.1:7400"


@pytest.fixture(autouse=True)
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A token that a local mesh has left."""
    for name in ("TALKMESH_TOKEN", "TALKMESH_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = local_file(ADDRESS)
    path.parent.mkdir(parents=True)
    path.write_text("left\n")
    path.chmod(0o600)
    return path


def test_the_nearest_word_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_for(ADDRESS) == "left"
    assert token_for("localhost:7400") == "left"
    (tmp_path / "file").write_text("of a file\n")
    monkeypatch.setenv("TALKMESH_TOKEN_FILE", str(tmp_path / "file"))
    assert token_for(ADDRESS) == "of a file"
    monkeypatch.setenv("TALKMESH_TOKEN", "of a variable")
    assert token_for(ADDRESS) == "of a variable"
    assert token_for(ADDRESS, "said") == "said"


def test_a_local_token_goes_to_no_other_machine() -> None:
    assert token_for("gateway.example:7400") == ""
    assert token_for("127.0.0.1:7401") == ""


def test_what_others_could_have_read_or_put_there_is_not_shown(left: Path) -> None:
    left.chmod(0o644)
    assert token_for(ADDRESS) == ""
    left.chmod(0o600)
    left.replace(left.with_name("elsewhere"))
    left.symlink_to(left.with_name("elsewhere"))
    assert token_for(ADDRESS) == ""


def test_a_file_that_was_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKMESH_TOKEN_FILE", "/nowhere/at/all")
    with pytest.raises(TalkmeshError, match="/nowhere/at/all"):
        token_for(ADDRESS)
