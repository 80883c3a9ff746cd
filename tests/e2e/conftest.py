"""The whole mesh on the embedded models, as real processes, once for all tests of this folder."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Process → its address; "http" is that of the talk page, "logs" the folder of the logs."""
    logs = tmp_path_factory.mktemp("mesh")
    command = [sys.executable, "-m", "tools.up", "--port", "0", "--logs", str(logs), "--quiet"]
    # A browser on this machine reaches the gateway on the loopback device, whatever else there is; nobody is told to come
    # back because the machine is slow.
    environment = {**os.environ, "TALKMESH_GATEWAY_WEBRTC_HOST": "127.0.0.1", "TALKMESH_GATEWAY_LIVE_PROCESSOR": "100"}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready"), f"the mesh did not start: {line}"
        try:
            yield json.loads((logs / "addresses.json").read_text()) | {"logs": str(logs)}
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
    log = (logs / "mesh.log").read_text()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :]


@pytest.fixture(scope="session")
def mesh(addresses: dict[str, str]) -> str:
    """The gateway's address."""
    return addresses["gateway"]


@pytest.fixture
def question() -> Path:
    """ "What is the capital of France?", 16 kHz mono."""
    return DATA / "question.wav"
