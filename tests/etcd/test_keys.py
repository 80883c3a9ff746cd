"""Keys, transactions and leases."""

import asyncio

import pytest

from services.runtime.errors import InvalidInput
from services.runtime.etcd import (
    Delete,
    Etcd,
    EtcdRefused,
    Get,
    KeyValue,
    Put,
    Span,
    absent,
    connected,
    create_revision_is,
    etcd_settings,
    exists,
    lease_is,
    mod_revision_is,
    value_is,
    version_is,
)
from services.runtime.etcdpb import rpc_pb2
from tests.fakes.etcd import stubs
from tools.etcd import LocalEtcd

pytestmark = [pytest.mark.mesh, pytest.mark.asyncio(loop_scope="session")]


async def test_keys_are_put_read_listed_and_deleted(client: Etcd) -> None:
    assert await client.get("/a/x") is None
    first = await client.put("/a/x", "1")
    second = await client.put("/a/x", "2")
    assert await client.get("/a/x") == KeyValue("/a/x", "2", first, second, 2)
    await client.put("/a/é", "ü")
    await client.put("/b", "not below")
    listing = await client.list("/a/")
    assert [(kv.key, kv.value) for kv in listing.kvs] == [("/a/x", "2"), ("/a/é", "ü")]
    assert listing.revision == second + 2
    assert [(kv.key, kv.value) for kv in (await client.list("/a/", keys_only=True)).kvs] == [("/a/x", ""), ("/a/é", "")]
    assert len((await client.list("")).kvs) == 3
    assert await client.delete("/a/x") == 1
    assert await client.delete("/a/x") == 0
    assert await client.delete("/", prefix=True) == 2
    assert (await client.list("")).kvs == ()


async def test_a_span_ends_before_its_end_and_a_limit_tells_how_many_there_are(client: Etcd) -> None:
    for key in ("/a/1", "/a/2", "/a/3", "/b/1", "/c"):
        await client.put(key, "")
    span = Span("/a/2", "/b/1")
    assert [kv.key for kv in (await client.list(span)).kvs] == ["/a/2", "/a/3"]
    limited = await client.list("/", keys_only=True, limit=2)
    assert ([kv.key for kv in limited.kvs], limited.count) == (["/a/1", "/a/2"], 5)
    found = await client.transact([], [Get(span)])
    assert [kv.key for kv in found.results[0]] == ["/a/2", "/a/3"]
    assert await client.delete(span) == 2
    await client.transact([], [Delete(Span("/b", "/d"))])
    assert [kv.key for kv in (await client.list("")).kvs] == ["/a/1"]


async def test_conditions_decide_which_branch_of_a_transaction_is_taken(client: Etcd) -> None:
    made = await client.transact([absent("/x")], [Put("/x", "1"), Put("/y", "2"), Get("/", prefix=True)])
    assert made.succeeded
    assert [(kv.key, kv.mod_revision) for kv in made.results[0]] == [("/x", made.revision), ("/y", made.revision)]
    true = [
        exists("/x"),
        version_is("/x", 1),
        mod_revision_is("/x", made.revision),
        create_revision_is("/x", made.revision),
        lease_is("/x", 0),
        value_is("/x", "1"),
    ]
    assert (await client.transact(true, [])).succeeded
    false = [absent("/x"), exists("/z"), version_is("/x", 2), mod_revision_is("/x", 1), create_revision_is("/x", 1)]
    for condition in [*false, lease_is("/x", 7), value_is("/x", "2")]:
        refused = await client.transact([true[0], condition], [Delete("/x")], [Get("/x"), Get("/z")])
        assert not refused.succeeded, condition
        assert [[kv.value for kv in found] for found in refused.results] == [["1"], []]
    assert (await client.transact([], [Delete("/", prefix=True)])).revision == made.revision + 1
    assert (await client.list("")).kvs == ()


async def test_bytes_that_are_no_utf8_do_no_harm(etcd: LocalEtcd, client: Etcd) -> None:
    async with stubs(etcd) as member:
        for key in (b"/a/\xff", b"/a/\xfe"):
            await member.kv.Put(rpc_pb2.PutRequest(key=key, value=b"v\xffv"))
    kvs = (await client.list("/a/")).kvs
    assert [kv.value for kv in kvs] == ["v\ufffdv"] * 2
    assert [kv.key for kv in kvs] == ["/a/\\xfe", "/a/\\xff"]


async def test_what_etcd_refuses_names_the_key_and_the_reason(client: Etcd) -> None:
    with pytest.raises(EtcdRefused, match=r"'/huge'.*too large"):
        await client.put("/huge", "x" * 1_700_000)
    with pytest.raises(EtcdRefused, match=r"'/huge'.*larger than max"):
        await client.put("/huge", "x" * 3_000_000)
    with pytest.raises(EtcdRefused, match=r"'/leased'.*lease not found"):
        await client.put("/leased", "", lease=12345)
    with pytest.raises(EtcdRefused, match=r"'/a'.*duplicate key"):
        await client.transact([], [Put("/a", "1"), Put("/a", "2")])
    with pytest.raises(EtcdRefused, match="too many operations"):
        await client.transact([], [Put(f"/{n}", "") for n in range(129)])
    with pytest.raises(EtcdRefused, match=r"compaction at 99.*future revision"):
        await client.compact(99)
    assert (await client.list("")).kvs == ()


async def test_keys_of_a_lease_stay_while_it_is_kept_and_go_when_it_is_left(client: Etcd) -> None:
    async with client.lease(1) as lease:
        await client.put("/here", "1", lease.id)
        await asyncio.sleep(lease.ttl_s + 1.5)
        assert not lease.lost.is_set()
        kept = await client.get("/here")
        assert kept and kept.lease == lease.id
    assert await client.get("/here") is None


async def test_a_lease_that_was_revoked_is_known_to_be_lost(etcd: LocalEtcd, client: Etcd) -> None:
    async with client.lease(2) as lease, stubs(etcd) as member:
        await member.lease.LeaseRevoke(rpc_pb2.LeaseRevokeRequest(id=lease.id))
        await asyncio.wait_for(lease.lost.wait(), 10)


async def test_a_lease_outlives_a_restart_and_is_lost_when_etcd_stays_away(etcd: LocalEtcd, client: Etcd) -> None:
    async with client.lease(30) as long, client.lease(3) as short:
        await etcd.kill()
        await asyncio.wait_for(short.lost.wait(), 10)
        assert not long.lost.is_set()
        await etcd.start()
        await client.put("/here", "1", long.id)
        assert not long.lost.is_set()
    assert await client.get("/here") is None


@pytest.mark.parametrize(
    ("endpoints", "rest", "field"),
    [
        ("", {}, "etcd.endpoints"),
        ("nowhere", {}, "etcd.endpoints"),
        ("http://a:1", {}, "etcd.endpoints"),
        ("a:1", {"cert": "x"}, "etcd"),
        ("a:1", {"ca": "/no/such/file"}, "etcd.ca"),
        ("a:1", {"ca": __file__}, "etcd.ca"),
        ("a:1", {"timeout_s": "soon", "password": "hush"}, "etcd.timeout_s"),
    ],
)
async def test_settings_that_cannot_work_name_the_field(endpoints: str, rest: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        async with connected(etcd_settings(endpoints, **rest)):
            pass
    assert caught.value.field == field
    assert "hush" not in str(caught.value)
    assert etcd_settings(" a:1, b:2,").endpoints == ("a:1", "b:2")
    assert "hush" not in repr(etcd_settings("a:1", user="u", password="hush"))
