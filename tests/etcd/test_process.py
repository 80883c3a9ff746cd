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
from tools import etcd as local
from tools.etcd import EtcdFailed, EtcdSilent, etcd_program, running_etcd

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


def program(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the `etcd` on PATH be a shell script, in which $ETCD is the real one."""
    path = folder / "bin" / "etcd"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\nETCD={etcd_program()}\ncd {folder}\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")


async def test_an_etcd_without_a_past_that_does_not_answer_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "READY_ANEW_S", 2.0)
    # The first one leaves something behind, and does nothing more; it tells its ports to the next one.
    stuck = 'if [ ! -e first ]; then echo "$@" > first; mkdir data; touch data/rubbish; exec sleep 60; fi'
    program(tmp_path, f'{stuck}\nexec $ETCD "$@"', monkeypatch)
    async with running_etcd(tmp_path / "data") as server:
        assert not (tmp_path / "data" / "rubbish").exists()
        assert server.endpoint not in (tmp_path / "first").read_text()
        async with connected(etcd_settings(server.endpoint)) as client:
            await client.put("/a", "1")


async def test_an_etcd_with_a_past_is_not_robbed_of_it_and_its_last_words_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "READY_S", 4.0)
    (tmp_path / "data").mkdir()
    program(tmp_path, "echo started >> starts\necho waiting for the moon\nexec sleep 60", monkeypatch)
    with pytest.raises(EtcdSilent, match=r"not ready after 4 s.*\n.*waiting for the moon"):
        async with running_etcd(tmp_path / "data"):
            pass
    assert (tmp_path / "starts").read_text().count("started") == 1
    assert (tmp_path / "data").is_dir()


@pytest.mark.parametrize(("version", "flags"), [("3.4.30", 0), ("3.5.0", 1)])
async def test_only_an_etcd_that_can_be_told_not_to_wait_for_the_disk_is(
    version: str, flags: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = f'if [ "$1" = --version ]; then echo "etcd Version: {version}"; exit; fi'
    program(tmp_path, f'{asked}\necho "$@" > told\nexec $ETCD "$@"', monkeypatch)
    async with running_etcd(tmp_path / "data", sync=False) as server:
        assert server.running
    assert (tmp_path / "told").read_text().count("--unsafe-no-fsync") == flags
    async with running_etcd(tmp_path / "data"):
        assert "fsync" not in (tmp_path / "told").read_text()
