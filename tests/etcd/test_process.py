"""The process of a local etcd."""

import asyncio
import os
import sys
from pathlib import Path
from signal import Signals

import pytest

from services.runtime.etcd import connected, etcd_settings
from tests.fakes.etcd import etcd_server
from tests.fakes.hosts import ROOT, gone
from tools.etcd import EtcdFailed, running_etcd

pytestmark = [pytest.mark.mesh, pytest.mark.asyncio(loop_scope="session")]
OWNER = """
import asyncio, pathlib, sys
from tools.etcd import running_etcd

async def main():
    async with running_etcd(pathlib.Path(sys.argv[1])) as etcd:
        print(etcd.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_etcd_dies_with_whoever_started_it(tmp_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(tmp_path / "data")), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout
    pid = int(await owner.stdout.readline())
    os.kill(pid, 0)
    owner.kill()
    await owner.wait()
    await gone(pid, 10)


async def test_data_and_ports_stay_over_a_stop_and_a_kill() -> None:
    async with etcd_server() as server, connected(etcd_settings(server.endpoint)) as client:
        await client.put("/a/x", "1")
        endpoint, first = server.endpoint, server.pid
        await server.stop()
        assert not server.running
        with pytest.raises(EtcdFailed, match="does not run"):
            server.signal(Signals.SIGSTOP)
        await server.start()
        await server.restart()
        assert (server.endpoint, server.pid != first) == (endpoint, True)
        kept = await client.get("/a/x")
        assert kept and kept.value == "1"
    await gone(first, 1)


async def test_an_etcd_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EtcdFailed, match="not a directory"):
        async with running_etcd(tmp_path / "file" / "data", log=tmp_path / "log"):
            pass
    async with etcd_server() as server:
        with pytest.raises(EtcdFailed, match="address already in use"):
            async with running_etcd(tmp_path / "other", port=server.ports.client):
                pass
