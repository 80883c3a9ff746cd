"""The supervisor: what it starts it stops, and what cannot start it names."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def up(tmp_path: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tools.up", "--quiet", "--logs", str(tmp_path), *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def animation_hosts(supervisor: int) -> list[int]:
    """Process ids; one that has just died has no command line any more."""
    found = []
    for process in psutil.Process(supervisor).children():
        with contextlib.suppress(psutil.Error):
            if "services.animation" in process.cmdline():
                found.append(process.pid)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    with up(tmp_path, "--port", "0") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 11
        process.send_signal(number)
        process.wait(timeout=30)
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    assert (tmp_path / "mesh.log").exists()
    assert (tmp_path / "tts.log").exists()


def test_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with up(tmp_path, "--port", str(port)) as process:
            _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "gateway cannot start" in err
    assert f"{port}: Address already in use" in (tmp_path / "gateway.log").read_text()


def test_unknown_model_is_named(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0", "--tts-model", "nobody") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "tts model 'nobody' is not known; known: heart, joe" in err


def test_service_that_is_killed_comes_back(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        before = animation_hosts(process.pid)
        os.kill(before[0], signal.SIGKILL)
        deadline = time.monotonic() + 20
        while animation_hosts(process.pid) in ([], before) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert animation_hosts(process.pid) not in ([], before)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
