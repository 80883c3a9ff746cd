import os
import stat
import tempfile
from pathlib import Path

import pytest

from services.runtime import sockets


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def old(folder: Path) -> Path:
    folder.mkdir()
    (folder / "engine.sock").touch()
    os.utime(folder, (0, 0))
    return folder


def test_a_folder_is_private_and_removed(temporary: Path) -> None:
    with sockets.socket_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "engine.sock").touch()
    assert list(temporary.iterdir()) == []


def test_an_abandoned_folder_is_removed_but_none_in_use_or_just_made(temporary: Path) -> None:
    abandoned, others = old(temporary / "talkmesh-engine-a"), old(temporary / "somebody-elses")
    fresh = temporary / "talkmesh-engine-b"
    fresh.mkdir()
    with sockets.socket_folder() as own:
        assert not abandoned.exists()
        os.utime(own, (0, 0))
        with sockets.socket_folder() as second:
            assert set(temporary.iterdir()) == {own, second, fresh, others}


def test_a_folder_with_anything_else_in_it_is_left(temporary: Path) -> None:
    kept = old(temporary / "talkmesh-engine-a")
    (kept / "notes.txt").write_text("mine")
    os.utime(kept, (0, 0))
    with sockets.socket_folder():
        assert (kept / "notes.txt").exists()
