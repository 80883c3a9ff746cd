"""A model that cannot be loaded takes down nothing: its host stays, says why, and tries again."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from services.runtime.sources import digest
from talkmesh.model.v1 import model_pb2
from tests.fakes.hosts import Host, detail, running, until

pytestmark = pytest.mark.mesh


async def refused(host: Host) -> grpc.aio.AioRpcError:
    """The error of a call while the model is not ready."""
    error = await host.talk().failure()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert detail(error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    return error


async def has_failed(host: Host) -> bool:
    return bool((await host.model()).last_error)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"source": "/models/nothing"}, "source '/models/nothing': no file or folder is there"),
        ({"source": "package:no_such_package/model"}, "package 'no_such_package' is not known"),
        ({"source": "prepared:nothing"}, "not prepared yet"),
        ({"source": "package:json/decoder.py", "sha256": "0" * 64}, "decoder.py: sha256 is "),
        ({"options": {"colour": "red"}}, "options.colour: unknown"),
        ({"options": {"fail": "the weights are of the wrong kind"}}, "the weights are of the wrong kind"),
        ({"options": {"fail": "ü" * 20_000}}, "ü" * 100),
        ({"options": {"defect": "unforeseen"}}, "RuntimeError: unforeseen"),
        ({"options": {"crash": "SIGSEGV"}}, "was killed by SIGSEGV while loading"),
        ({"options": {"crash": "SIGKILL"}}, "was killed by SIGKILL while loading"),
        ({"options": {"exit": 3}}, "ended with code 3 while loading"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
async def test_the_reason_is_told_and_the_host_stays(entry: dict[str, Any], named: str) -> None:
    catalog = {"parrot": {"engine": "echo", **entry}}
    environment = {"TALKMESH_MODEL_ROOTS": "/models"}
    async with running(catalog, ready=False, clean=False, environment=environment) as host:
        await until(lambda: has_failed(host), 10)
        assert named in (await host.model()).last_error
        assert named in ((await refused(host)).details() or "")
        assert not await host.serving()
        await until(lambda: tried_again(host), 10)
        assert not any("Traceback" in line for line in host.log if " host " in line)


async def tried_again(host: Host) -> bool:
    return (await host.model()).restarts >= 1


@pytest.mark.parametrize("option", ["hang", "block"])
async def test_a_model_that_hangs_is_seen_to_be_loading(option: str) -> None:
    catalog = {"parrot": {"engine": "echo", "options": {option: True}}}
    async with running(catalog, ready=False) as host:
        await until(lambda: is_loading(host), 10)
        assert (await host.model()).pid > 0
        assert "is not ready (loading)" in ((await refused(host)).details() or "")
        assert not await host.serving()


async def is_loading(host: Host) -> bool:
    return (await host.model()).phase == model_pb2.PHASE_LOADING


async def test_a_model_whose_files_come_later_is_served_then(tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"right")
    right = digest(weights)
    weights.unlink()
    catalog = {"parrot": {"engine": "echo", "source": str(weights), "sha256": right}}
    async with running(catalog, ready=False, environment={"TALKMESH_MODEL_ROOTS": str(tmp_path)}) as host:
        await until(lambda: has_failed(host), 10)
        weights.write_bytes(b"right")
        await until(host.serving, 10)
        talk = host.talk()
        assert (await talk.start()).model.digest == f"sha256:{right}"
        await talk.finish()
        assert (await host.model()).phase == model_pb2.PHASE_ACTIVE
