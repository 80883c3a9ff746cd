"""deploy/etcd/roles.sh on a real etcd: each user may write what is its own to write, and nothing else."""

import asyncio
import os
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.runtime.desired import PREFIX
from services.runtime.etcd import Etcd, EtcdForbidden, connected, etcd_settings
from talkmesh.control import Admin
from tests.fakes.etcd import etcd_server
from tests.fakes.operators import write_catalog
from tests.mesh.test_gateway_hosts import gateway_process
from tools.etcd import LocalEtcd, etcd_program

ROOT = Path(__file__).resolve().parents[2]
ETCDCTL = Path(etcd_program()).with_name("etcdctl")
pytestmark = pytest.mark.skipif(not ETCDCTL.exists(), reason="no etcdctl beside etcd")
WRITES = {
    "host": {"observed/", "slots/", "history/", "audit/"},
    "gateway": {"slots/", "flags/", "vetoes/", "models/", "verdicts/", "history/", "audit/", "access/keys/", "leader/"},
    "operator": {"slots/", "flags/", "vetoes/", "models/", "audit/"},
}
READS = {
    "host": {"slots/", "models/", "vetoes/", "observed/", "history/", "audit/"},
    "gateway": set.union(*WRITES.values()),
    "operator": {"slots/", "flags/", "vetoes/", "models/", "audit/", "observed/", "verdicts/", "history/", "leader/"},
}
ALL = set.union(*WRITES.values())


async def roles(server: LocalEtcd, passwords: Path, **who: str) -> "subprocess.CompletedProcess[str]":
    environment = {"ETCDCTL": str(ETCDCTL), "ETCDCTL_ENDPOINTS": server.endpoint, "PASSWORDS": str(passwords), **who}
    return await asyncio.to_thread(
        subprocess.run,
        ["sh", str(ROOT / "deploy" / "etcd" / "roles.sh")],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@asynccontextmanager
async def user(server: LocalEtcd, passwords: Path, name: str) -> AsyncIterator[Etcd]:
    settings = etcd_settings(server.endpoint, user=name, password=(passwords / name).read_text())
    async with connected(settings) as etcd:
        yield etcd


async def may_write(etcd: Etcd, kind: str) -> bool:
    try:
        await etcd.put(f"{PREFIX}{kind}x", "{}")
    except EtcdForbidden:
        return False
    return True


async def may_read(etcd: Etcd, kind: str) -> bool:
    try:
        await etcd.list(f"{PREFIX}{kind}")
    except EtcdForbidden:
        return False
    return True


async def test_each_user_has_its_own(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    async with etcd_server() as server:
        done = await roles(server, passwords)
        assert done.returncode == 0, done.stderr
        assert {stat.S_IMODE(each.stat().st_mode) for each in passwords.iterdir()} == {0o600}
        root = (passwords / "root").read_text()
        assert root not in done.stdout + done.stderr
        async with connected(etcd_settings(server.endpoint)) as nobody:
            assert not await may_read(nobody, "slots/")
        for name, writes in WRITES.items():
            async with user(server, passwords, name) as etcd:
                assert {kind for kind in ALL if await may_write(etcd, kind)} == writes, name
                assert {kind for kind in ALL if await may_read(etcd, kind)} == READS[name], name
        again = await roles(server, passwords, ETCDCTL_USER="root", ETCDCTL_PASSWORD=root)
        assert again.returncode == 0, again.stderr


async def test_a_gateway_does_its_work_as_its_user(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    async with etcd_server() as server:
        assert (await roles(server, passwords)).returncode == 0
        async with user(server, passwords, "operator") as etcd:
            await write_catalog(etcd)
        options = (f"--etcd={server.endpoint}", "--etcd-user=gateway", f"--etcd-password-file={passwords / 'gateway'}")
        async with gateway_process(*options) as gateway, Admin(await gateway.at("listening on"), "ann") as admin:
            await admin.set_slot("tts", "joe")
            await admin.veto("tts", "ann")
            assert [key.name for key in await admin.keys()] == []
        assert "permission denied" not in "".join(gateway.log)
