"""What a host can see to be wrong when it starts: it says so, and ends with status 2."""

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hosts import PARROT, ROOT, command

pytestmark = pytest.mark.mesh


async def refusal(catalog: Path, *arguments: str) -> str:
    """What a host says that ends with status 2."""
    process = await asyncio.create_subprocess_exec(
        *command(catalog, *arguments), cwd=ROOT, env=dict(os.environ), stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await asyncio.wait_for(process.communicate(), 10)
    text = stderr.decode()
    assert process.returncode == 2, text
    assert "Traceback" not in text
    return text


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps(PARROT))
    return path


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "0.0.0.0", "[::]"])
async def test_a_port_in_use(catalog: Path, taken: int, name: str) -> None:
    said = await refusal(catalog, "--listen", f"{name}:{taken}")
    assert f"cannot listen on {name}:{taken}: " in said
    assert "in use" in said


@pytest.mark.parametrize("address", ["nonsense", "192.0.2.1:7000"])
async def test_an_address_that_is_none(catalog: Path, address: str) -> None:
    assert f"cannot listen on {address}" in await refusal(catalog, "--listen", address)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--model", "owl"], "model 'owl' is not known; known: parrot"),
        (["--grace-s", "-1"], "--grace-s"),
        (["--log-level", "LOUD"], "--log-level"),
        (["--colour", "red"], "--colour"),
    ],
)
async def test_a_bad_option(catalog: Path, arguments: list[str], named: str) -> None:
    assert named in await refusal(catalog, *arguments)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "not JSON at line 1"),
        ({"parrot": {"engine": "echo", "colour": "red"}}, "catalog.parrot.colour"),
        ({"parrot": {"engine": "hum"}}, "echo engine 'hum' is not known; known: echo"),
        ({"parrot": {"engine": "echo", "source": "/etc/passwd"}}, "'/etc/passwd' is outside the allowed roots"),
    ],
)
async def test_a_bad_catalog(catalog: Path, content: Any, named: str) -> None:
    catalog.write_text(content if isinstance(content, str) else json.dumps(content))
    assert named in await refusal(catalog)
