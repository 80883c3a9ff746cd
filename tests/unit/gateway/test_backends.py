"""Which host the next stream goes to, on real servers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from gateway.backends import Backends
from gateway.host import Health
from tests.fakes.hosts import Talk, until
from tests.fakes.small_hosts import LLM, small_host
from tools.etcd import free_port

WITHIN_S = 10.0


@asynccontextmanager
async def backends(*addresses: str) -> AsyncIterator[Backends]:
    """The LLM service with these hosts."""
    async with asyncio.TaskGroup() as group:
        made = Backends("llm", LLM, group, lambda _: None)
        made.members("test", addresses)
        yield made
        made.close()


async def healthy(found: Backends, count: int) -> None:
    await until(lambda: asyncio.sleep(0, sum(host.healthy for host in found.hosts) == count), WITHIN_S)


def picked(found: Backends, times: int, pinned: str = "") -> list[str]:
    hosts = [found.pick(pinned) for _ in range(times)]
    return [host.address if host else "" for host in hosts]


async def test_healthy_hosts_are_picked_in_turn() -> None:
    async with small_host() as one, small_host() as two, backends(one.address, two.address) as found:
        await healthy(found, 2)
        assert Counter(picked(found, 10)) == {one.address: 5, two.address: 5}
        first, second, third = picked(found, 3)
        assert first == third != second


async def test_a_healthy_pinned_host_is_kept_and_another_is_not() -> None:
    async with small_host() as one, small_host() as two, backends(one.address, two.address) as found:
        await healthy(found, 2)
        assert set(picked(found, 4, two.address)) == {two.address}
        await two.health.say(serving=False)
        await healthy(found, 1)
        assert set(picked(found, 4, two.address)) == {one.address}


async def test_a_host_that_says_it_does_not_serve_is_passed_over_until_it_does() -> None:
    async with small_host() as one, small_host(serving=False) as two, backends(one.address, two.address) as found:
        await until(lambda: asyncio.sleep(0, found.count(Health.NOT_SERVING) == 1), WITHIN_S)
        await healthy(found, 1)
        assert set(picked(found, 4)) == {one.address}
        await two.health.say(serving=True)
        await healthy(found, 2)
        assert set(picked(found, 4)) == {one.address, two.address}
        await two.health.say(serving=False)
        await healthy(found, 1)
        assert set(picked(found, 4)) == {one.address}


async def test_a_host_that_stops_and_comes_back_is_found_again() -> None:
    port = free_port()
    async with small_host() as one, backends(one.address, f"127.0.0.1:{port}") as found:
        async with small_host(port=port):
            await healthy(found, 2)
        await healthy(found, 1)
        assert set(picked(found, 4)) == {one.address}
        async with small_host(port=port):
            await healthy(found, 2)
            assert len(set(picked(found, 4))) == 2


async def test_without_a_healthy_host_the_one_that_failed_longest_ago_is_picked() -> None:
    async with small_host() as one, small_host() as two, backends(one.address, two.address) as found:
        await healthy(found, 2)
        await one.health.say(serving=False)
        await healthy(found, 1)
        await two.health.say(serving=False)
        await healthy(found, 0)
        assert set(picked(found, 3)) == {one.address}
        await one.health.say(serving=True)
        await healthy(found, 1)
        await one.health.say(serving=False)
        await healthy(found, 0)
        assert set(picked(found, 3)) == {two.address}


async def test_nobody_is_picked_where_nobody_is() -> None:
    async with backends() as found:
        assert found.pick() is None


async def test_a_stranger_at_the_address_is_not_taken_for_a_host() -> None:
    async with small_host(grpc_name="somebody.Else") as other, backends(other.address) as found:
        await until(lambda: asyncio.sleep(0, found.count(Health.NOT_SERVING) == 1), WITHIN_S)


async def test_a_host_that_nobody_names_any_more_stays_while_it_serves() -> None:
    async with small_host() as one, backends(one.address) as found:
        await healthy(found, 1)
        found.members("test", [])
        assert picked(found, 1) == [one.address]
        await one.health.say(serving=False)
        await until(lambda: asyncio.sleep(0, not found.hosts), WITHIN_S)


async def test_a_host_that_two_name_stays_when_one_takes_it_back() -> None:
    async with backends("127.0.0.1:1") as found:
        found.members("other", ["127.0.0.1:1", "127.0.0.1:2"])
        assert [host.address for host in found.hosts] == ["127.0.0.1:1", "127.0.0.1:2"]
        found.members("other", [])
        assert [host.address for host in found.hosts] == ["127.0.0.1:1"]


async def test_a_removed_host_keeps_its_channel_until_its_streams_are_done() -> None:
    async with small_host() as one, backends(one.address) as found:
        await healthy(found, 1)
        host = found.pick()
        assert host
        host.begun()
        talk = Talk(host.channel)
        await talk.start()
        await one.health.say(serving=False)
        found.members("test", [])
        await until(lambda: asyncio.sleep(0, not found.hosts), WITHIN_S)
        await asyncio.sleep(0.1)
        await talk.say("still here")
        assert await talk.hear() == "still here"
        await talk.finish()
        assert host.channel.get_state() is not grpc.ChannelConnectivity.SHUTDOWN
        host.ended()
        closed = grpc.ChannelConnectivity.SHUTDOWN
        await until(lambda: asyncio.sleep(0, host.channel.get_state() is closed), WITHIN_S)


@pytest.mark.parametrize("watchable", [True, False])
async def test_the_newest_generation_is_known_by_watching_and_by_asking(watchable: bool) -> None:
    async with small_host(watchable=watchable) as one, backends(one.address) as found:
        [host] = found.hosts
        assert host.generation == 0
        await until(lambda: asyncio.sleep(0, host.generation == 1), WITHIN_S)
        one.models.swap(7)
        await until(lambda: asyncio.sleep(0, host.generation == 7), WITHIN_S)
