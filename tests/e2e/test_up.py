"""The supervisor: what it starts it stops, and what cannot start it names."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]


def up(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tools.up", "--quiet", "--logs", str(tmp_path), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


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
    assert "tts cannot start" in err
    assert "'nobody' is not known" in (tmp_path / "tts.log").read_text()


def test_service_that_is_killed_comes_back(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        hosts = [p for p in psutil.Process(process.pid).children() if "services.animation" in p.cmdline()]
        os.kill(hosts[0].pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = [p for p in psutil.Process(process.pid).children() if "services.animation" in p.cmdline()]
            if found and found[0].pid != hosts[0].pid:
                break
            time.sleep(0.2)
        assert found[0].pid != hosts[0].pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
