"""Hosts come and go as etcd and the DNS tell, but never because those are silent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from google.protobuf import json_format

from gateway.addresses import Name, places
from gateway.discovery import Discovery, follow_name
from gateway.mesh import Mesh, connected
from services.runtime.desired import observed_key
from services.runtime.etcd import Away, Back, Changes, Event, KeyValue, Snapshot
from talkmesh.model.v1 import model_pb2
from tests.fakes.hosts import until
from tests.fakes.small_hosts import small_host

WITHIN_S = 10.0
ONE, TWO = "127.0.0.1:1", "127.0.0.1:2"


def observed(address: str, instance: str, service: str = "llm") -> KeyValue:
    status = model_pb2.HostStatus(service=service, instance=instance, address=address)
    return KeyValue(observed_key(service, instance), json_format.MessageToJson(status))


def snapshot(*kvs: KeyValue, revision: int = 1) -> Snapshot:
    return Snapshot(revision, {kv.key: kv for kv in kvs})


def put(kv: KeyValue, revision: int = 2) -> Changes:
    return Changes(revision, (Event(kv),))


def deleted(kv: KeyValue, revision: int = 3) -> Changes:
    return Changes(revision, (Event(KeyValue(kv.key, mod_revision=revision), deleted=True, previous=kv),))


def addresses(mesh: Mesh, service: str = "llm") -> list[str]:
    return [host.address for host in mesh.services[service].hosts]


def value(mesh: Mesh, name: str) -> float | None:
    return mesh.metrics.registry.get_sample_value(f"talkmesh_gateway_{name}")


@asynccontextmanager
async def discovering() -> AsyncIterator[tuple[Mesh, Discovery]]:
    async with connected({}) as mesh:
        yield mesh, Discovery(mesh.services, mesh.metrics)


async def test_hosts_appear_move_and_vanish_with_their_keys() -> None:
    async with discovering() as (mesh, discovery):
        discovery.take(snapshot(observed(ONE, "a"), observed("127.0.0.1:9", "a", "tts")))
        assert addresses(mesh) == [ONE]
        assert addresses(mesh, "tts") == ["127.0.0.1:9"]
        discovery.take(put(observed(TWO, "b")))
        assert addresses(mesh) == [ONE, TWO]
        discovery.take(put(observed("127.0.0.1:3", "b")))
        assert addresses(mesh) == [ONE, "127.0.0.1:3"]
        discovery.take(deleted(observed(ONE, "a")))
        assert addresses(mesh) == ["127.0.0.1:3"]
        assert addresses(mesh, "tts") == ["127.0.0.1:9"]


async def test_two_hosts_that_give_the_same_address_are_one_until_both_are_gone() -> None:
    async with discovering() as (mesh, discovery):
        discovery.take(snapshot(observed(ONE, "a"), observed(ONE, "b")))
        assert addresses(mesh) == [ONE]
        discovery.take(deleted(observed(ONE, "a")))
        assert addresses(mesh) == [ONE]
        discovery.take(deleted(observed(ONE, "b")))
        assert addresses(mesh) == []


async def test_a_snapshot_replaces_what_was_known() -> None:
    async with discovering() as (mesh, discovery):
        discovery.take(snapshot(observed(ONE, "a")))
        discovery.take(snapshot(observed(TWO, "b"), revision=9))
        assert addresses(mesh) == [TWO]


async def test_without_etcd_nothing_is_said_of_it() -> None:
    async with connected({}) as mesh:
        assert value(mesh, "etcd_up") is None


async def test_etcd_away_takes_nobody_away_and_shows() -> None:
    async with discovering() as (mesh, discovery):
        assert value(mesh, "etcd_up") == 0
        discovery.take(snapshot(observed(ONE, "a"), revision=4))
        assert (value(mesh, "etcd_up"), value(mesh, "etcd_revision")) == (1, 4)
        discovery.take(Away("gone fishing"))
        await asyncio.sleep(0.05)
        assert addresses(mesh) == [ONE]
        assert value(mesh, "etcd_up") == 0
        assert (value(mesh, "etcd_staleness_seconds") or 0) >= 0.04
        discovery.take(Back(5))
        assert (value(mesh, "etcd_up"), value(mesh, "etcd_staleness_seconds")) == (1, 0)
        assert addresses(mesh) == [ONE]


async def test_a_host_whose_key_is_lost_stays_while_it_serves() -> None:
    async with small_host() as one, discovering() as (mesh, discovery):
        discovery.take(snapshot(observed(one.address, "a")))
        await until(lambda: asyncio.sleep(0, mesh.services["llm"].hosts[0].healthy), WITHIN_S)
        discovery.take(deleted(observed(one.address, "a")))
        discovery.take(snapshot(revision=9))
        assert addresses(mesh) == [one.address]
        await one.health.say(serving=False)
        await until(lambda: asyncio.sleep(0, addresses(mesh) == []), WITHIN_S)


async def test_values_that_cannot_be_read_change_nothing() -> None:
    async with discovering() as (mesh, discovery):
        good = observed(ONE, "a")
        discovery.take(snapshot(good, KeyValue(observed_key("llm", "b"), "{")))
        discovery.take(put(KeyValue(good.key, "not JSON")))
        discovery.take(put(KeyValue(good.key, "{}")))
        discovery.take(put(KeyValue(observed_key("no-such-service", "x"), good.value)))
        assert addresses(mesh) == [ONE]
        discovery.take(deleted(good))
        assert addresses(mesh) == []


async def test_hosts_behind_a_name_are_members_and_stay_when_it_cannot_be_looked_up() -> None:
    async with connected({}) as mesh:
        following = asyncio.create_task(follow_name(mesh.services["llm"], Name("127.0.0.1", 7), every_s=0.01))
        nowhere = asyncio.create_task(follow_name(mesh.services["tts"], Name("a..b", 7), every_s=0.01))
        await until(lambda: asyncio.sleep(0, addresses(mesh) == ["127.0.0.1:7"]), WITHIN_S)
        await asyncio.sleep(0.05)
        assert addresses(mesh) == ["127.0.0.1:7"]
        assert addresses(mesh, "tts") == []
        assert not following.done()
        assert not nowhere.done()
        following.cancel()
        nowhere.cancel()


async def test_hosts_behind_a_name_of_the_settings_are_found() -> None:
    async with small_host() as one:
        port = one.address.rpartition(":")[2]
        async with connected({"llm": places(f"dns:localhost:{port}")}) as mesh:
            await until(
                lambda: asyncio.sleep(0, [host.healthy for host in mesh.services["llm"].hosts] == [True]), WITHIN_S
            )
            assert addresses(mesh) == [one.address]
