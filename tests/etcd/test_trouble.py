"""Out of space, without access, behind TLS, with members that are not there."""

import asyncio
import logging
from pathlib import Path
from signal import Signals

import pytest
from pydantic import SecretStr

from services.runtime.etcd import (
    Away,
    Etcd,
    EtcdAway,
    EtcdForbidden,
    EtcdFull,
    Pace,
    Snapshot,
    connected,
    etcd_settings,
)
from tests.fakes.etcd import certificates, etcd_cluster, etcd_server, listening, wired
from tests.fakes.hosts import until
from tools.etcd import LocalEtcd, Tls, free_port

pytestmark = [pytest.mark.mesh, pytest.mark.asyncio(loop_scope="session")]
QUICK = Pace(life_s=0.3, answer_s=2.0, listing_s=0.6, settle_s=0.5)


async def test_without_space_writes_are_refused_and_reads_go_on_until_it_is_made() -> None:
    quota = ("--quota-backend-bytes", str(4 * 2**20))
    async with etcd_server(extra=quota) as server, connected(etcd_settings(server.endpoint)) as client:
        await client.put("/a/kept", "1")
        async with listening(client, "/a/", QUICK) as ear:
            with pytest.raises(EtcdFull, match=r"'/a/filler'.*space exceeded"):
                for _ in range(100):
                    await client.put("/a/filler", "x" * 500_000)
                    # etcd counts what it has written to disk, which it does ten times a second.
                    await asyncio.sleep(0.05)
            kept = await client.get("/a/kept")
            assert kept and kept.value == "1"
            (alarm,) = await client.alarms()
            assert alarm.kind == "NOSPACE"
            await server.restart()
            await client.compact((await client.list("/a/")).revision)
            await client.defragment()
            await client.disarm(alarm)
            assert await client.alarms() == ()
            await client.put("/a/kept", "2")
            await ear.hears(lambda ear: ear.values["/a/kept"] == "2" and not ear.stale)


async def test_a_user_sees_what_its_role_may_and_hears_of_access_lost_and_given_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    cheap = ("--bcrypt-cost", "4")
    async with etcd_server(extra=cheap) as server, connected(etcd_settings(server.endpoint)) as founder:
        await found(founder)
        address = server.endpoint
        with pytest.raises(EtcdForbidden, match="user name is empty"):
            await founder.get("/a/x")
        async with (
            connected(etcd_settings(address, user="root", password="root-secret")) as root,
            connected(etcd_settings(address, user="talker", password="talker-secret")) as talker,
            connected(etcd_settings(address, user="talker", password="guessed-secret")) as stranger,
        ):
            await root.put("/a/x", "1")
            await root.put("/b/x", "1")
            with pytest.raises(EtcdForbidden, match=r"'/a/x'.*invalid user ID or password") as refused:
                await stranger.get("/a/x")
            with pytest.raises(EtcdForbidden, match=r"'/b/x'.*permission denied"):
                await talker.get("/b/x")
            with pytest.raises(EtcdForbidden, match=r"'/a/x'.*permission denied"):
                await talker.put("/a/x", "2")
            await lose_and_regain(root, talker)
            await outlive_a_token(server, root, talker)
        assert "secret" not in str(refused.value) + caplog.text + server.log.read_text()


async def found(founder: Etcd) -> None:
    """A root, a user who may read /a/, and access that is checked."""
    access = founder.access
    await access.add_user("root", SecretStr("root-secret"))
    await access.add_role("root")
    await access.give_role("root", "root")
    await access.add_user("talker", SecretStr("talker-secret"))
    await access.add_role("reader")
    await access.allow("reader", "/a/")
    await access.give_role("talker", "reader")
    await access.enable()


async def lose_and_regain(root: Etcd, talker: Etcd) -> None:
    async with listening(talker, "/a/", QUICK) as ear, listening(talker, "/b/", QUICK, first=False) as shut:
        assert ear.values == {"/a/x": "1"}
        await root.access.forbid("reader", "/a/")
        await ear.hears(lambda ear: ear.stale)
        assert "permission denied" in next(heard.reason for heard in ear.heard if isinstance(heard, Away))
        await root.put("/a/x", "2")
        await root.access.allow("reader", "/a/", write=True)
        await ear.hears(lambda ear: ear.values == {"/a/x": "2"} and not ear.stale)
        await talker.put("/a/x", "3")
        await ear.hears(lambda ear: ear.values == {"/a/x": "3"})
        assert ear.count(Snapshot) == 1
        assert [type(heard) for heard in shut.heard] == [Away]


async def outlive_a_token(server: LocalEtcd, root: Etcd, talker: Etcd) -> None:
    """Tokens live in etcd's memory: a restart, and a new password, end them all."""
    async with listening(talker, "/a/", QUICK) as ear:
        await server.restart()
        await root.put("/a/x", "4")
        await ear.hears(lambda ear: ear.values == {"/a/x": "4"} and not ear.stale)
        await root.access.change_password("talker", SecretStr("new-secret"))
        await ear.hears(lambda ear: ear.stale)
        await root.access.change_password("talker", SecretStr("talker-secret"))
        await root.put("/a/x", "5")
        await ear.hears(lambda ear: ear.values == {"/a/x": "5"} and not ear.stale)
        assert (await talker.list("/a/")).kvs[0].value == "5"


async def test_a_user_may_be_named_to_an_etcd_that_does_not_ask_yet(etcd: LocalEtcd, client: Etcd) -> None:
    async with connected(etcd_settings(etcd.endpoint, user="talker", password="x")) as named:
        await named.put("/a/x", "1")
        async with listening(named, "/a/") as ear:
            assert ear.values == {"/a/x": "1"}


async def test_tls_with_the_right_authority_and_our_own_certificate(tmp_path: Path) -> None:
    files = certificates(tmp_path)
    tls = Tls(files["server.pem"], files["server.key"], client_ca=files["ca.pem"])
    ours = {"cert": files["client.pem"], "key": files["client.key"]}
    async with etcd_server(tls) as server:
        async with connected(etcd_settings(server.endpoint, ca=files["ca.pem"], **ours)) as client:
            await client.put("/a/x", "1")
            async with listening(client, "/a/") as ear:
                await server.restart()
                await client.put("/a/x", "2")
                await ear.hears(lambda ear: ear.values == {"/a/x": "2"})
        wrong: list[tuple[dict[str, Path], str | None]] = [
            ({"ca": files["other.pem"], **ours}, "CERTIFICATE_VERIFY_FAILED"),
            ({"ca": files["ca.pem"]}, None),
            ({}, None),
        ]
        for given, why in wrong:
            async with connected(etcd_settings(server.endpoint, timeout_s=1, **given)) as client:
                with pytest.raises(EtcdAway, match=why):
                    await client.get("/a/x")


async def test_an_endpoint_that_is_dead_or_frozen_is_passed_over(etcd: LocalEtcd, client: Etcd) -> None:
    async with etcd_server() as other:
        nobody = f"127.0.0.1:{free_port()}"
        async with connected(etcd_settings(f"{nobody},{etcd.endpoint}")) as far:
            await far.put("/a/x", "1")
            async with listening(far, "/a/") as ear:
                assert ear.values == {"/a/x": "1"}
        async with connected(etcd_settings(f"{other.endpoint},{etcd.endpoint}")) as far:
            # The one that is named first is asked as soon as it is connected.
            await until(lambda: lacks(far, "/a/x"), 20)
            other.signal(Signals.SIGSTOP)
            found = await far.get("/a/x")
            assert found and found.value == "1"


async def lacks(client: Etcd, key: str) -> bool:
    return await client.get(key) is None


async def test_a_write_that_broke_off_may_have_been_applied(etcd: LocalEtcd, client: Etcd) -> None:
    async with wired(etcd) as wire, connected(etcd_settings(wire.endpoint, timeout_s=1)) as far:
        await far.put("/a/x", "1")
        wire.deaf = True
        with pytest.raises(EtcdAway) as away:
            await far.put("/a/x", "2")
        assert away.value.maybe_applied
        found = await client.get("/a/x")
        assert found and (found.value, found.version) == ("2", 2), "sent once, and once only"


async def test_a_watch_goes_on_when_the_leader_dies_and_says_so_when_the_majority_does() -> None:
    async with etcd_cluster(3) as members:
        settings = etcd_settings(",".join(member.endpoint for member in members))
        async with connected(settings) as client, listening(client, "/a/", QUICK) as ear:
            leader = await leading(members)
            await leader.kill()
            await until(lambda: tried(client, "/a/x", "1"), 20)
            await ear.hears(lambda ear: ear.values == {"/a/x": "1"} and not ear.stale)
            second = await leading([member for member in members if member.running])
            second.signal(Signals.SIGSTOP)
            await ear.hears(lambda ear: ear.stale)
            with pytest.raises(EtcdAway):
                await client.get("/a/x")
            second.signal(Signals.SIGCONT)
            await until(lambda: tried(client, "/a/x", "2"), 20)
            await ear.hears(lambda ear: ear.values == {"/a/x": "2"} and not ear.stale)
            assert ear.count(Snapshot) == 1


async def leading(members: list[LocalEtcd]) -> LocalEtcd:
    for member in members:
        async with connected(etcd_settings(member.endpoint)) as client:
            status = await client.status()
            if status.leader == status.member:
                return member
    raise AssertionError("no leader")


async def tried(client: Etcd, key: str, value: str) -> bool:
    try:
        await client.put(key, value)
    except EtcdAway:
        await asyncio.sleep(0.1)
        return False
    return True
