"""A session's streams go to one host for as long as it is well, and what becomes of them is counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from gateway.addresses import Places
from gateway.mesh import Mesh, Seats, ServiceFailed, connected, opened
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.llm.v1 import llm_pb2
from tests.fakes.hosts import until
from tests.fakes.small_hosts import SmallHost, small_host

WITHIN_S = 10.0
CONFIG = llm_pb2.GenerateRequest(config=llm_pb2.GenerationConfig())


@asynccontextmanager
async def mesh_of(*addresses: str) -> AsyncIterator[Mesh]:
    async with connected({"llm": Places(addresses)}) as mesh:
        yield mesh


async def healthy(mesh: Mesh, count: int) -> None:
    hosts = mesh.services["llm"].hosts
    await until(lambda: asyncio.sleep(0, sum(host.healthy for host in hosts) == count), WITHIN_S)


async def serving(seats: Seats) -> str:
    """The name of the host that a new stream goes to."""
    async with opened("llm", seats.llm.Generate(), CONFIG) as (_, started):
        return str(started.model.model)


async def ended_by(seats: Seats, text: str) -> ServiceFailed:
    """How a stream with that prompt fails."""
    prompt = llm_pb2.Prompt(messages=[llm_pb2.Message(content=text)])
    with pytest.raises(ServiceFailed) as caught:
        async with opened("llm", seats.llm.Generate(), CONFIG) as (stream, _):
            await stream.send(llm_pb2.GenerateRequest(prompt=prompt))
            await stream.first()
    return caught.value


def value(mesh: Mesh, name: str, **labels: str) -> float:
    return mesh.metrics.registry.get_sample_value(f"talkmesh_gateway_{name}", labels) or 0.0


@asynccontextmanager
async def two_hosts() -> AsyncIterator[tuple[Mesh, SmallHost, SmallHost]]:
    async with small_host("one") as one, small_host("two") as two, mesh_of(one.address, two.address) as mesh:
        await healthy(mesh, 2)
        yield mesh, one, two


async def test_sessions_are_spread_and_each_stays_where_it_is() -> None:
    async with two_hosts() as (mesh, _, _):
        seats = [mesh.seats({}) for _ in range(4)]
        first = [await serving(each) for each in seats]
        assert sorted(first) == ["one", "one", "two", "two"]
        for _ in range(3):
            assert [await serving(each) for each in seats] == first


async def test_a_later_call_of_a_session_goes_to_the_same_host() -> None:
    async with two_hosts() as (mesh, one, two):
        pins: dict[str, str] = {}
        first = await serving(mesh.seats(pins))
        await serving(mesh.seats({}))
        assert pins == {"llm": {"one": one, "two": two}[first].address}
        assert await serving(mesh.seats(pins)) == first


async def test_a_session_moves_when_its_host_does_not_serve_and_then_stays_there() -> None:
    async with two_hosts() as (mesh, one, two):
        pins: dict[str, str] = {}
        seats = mesh.seats(pins)
        first = {"one": one, "two": two}[await serving(seats)]
        await first.health.say(serving=False)
        await healthy(mesh, 1)
        moved = await serving(seats)
        assert moved != first.name
        await first.health.say(serving=True)
        await healthy(mesh, 2)
        assert {await serving(seats) for _ in range(3)} == {moved}


async def test_the_generation_is_that_of_the_sessions_own_host() -> None:
    async with two_hosts() as (mesh, one, two):
        seats = mesh.seats({})
        assert seats.place("llm").generation == 0
        name = await serving(seats)
        mine, other = (one, two) if name == "one" else (two, one)
        mine.models.swap(5)
        other.models.swap(9)
        await until(lambda: asyncio.sleep(0, seats.place("llm").generation == 5), WITHIN_S)
        await until(lambda: asyncio.sleep(0, {h.generation for h in mesh.services["llm"].hosts} == {5, 9}), WITHIN_S)
        assert seats.place("llm").generation == 5
        assert seats.place("tts").generation == 0


async def test_a_service_without_hosts_fails_like_one_that_is_away() -> None:
    async with mesh_of() as mesh:
        with pytest.raises(ServiceFailed, match="llm: no host is known") as caught:
            _ = mesh.seats({}).llm
        assert caught.value.outcome.code is grpc.StatusCode.UNAVAILABLE


async def test_after_a_lost_stream_the_next_ones_go_elsewhere_until_the_host_is_known_to_be_well() -> None:
    async with two_hosts() as (mesh, one, _):
        seats = mesh.seats({"llm": one.address})
        failed = await ended_by(seats, "lose")
        assert failed.outcome.details == "lost"
        assert await serving(seats) == "two"
        assert await serving(mesh.seats({})) == "two"
        await healthy(mesh, 2)
        assert {await serving(mesh.seats({})) for _ in range(2)} == {"one", "two"}


async def test_streams_are_counted_by_how_they_ended() -> None:
    async with small_host() as one, mesh_of(one.address) as mesh:
        await healthy(mesh, 1)
        seats = mesh.seats({})
        await serving(seats)
        await until(lambda: asyncio.sleep(0, value(mesh, "streams_total", service="llm") == 1), WITHIN_S)
        assert value(mesh, "stream_failures_total", service="llm", code="CANCELLED") == 0
        failed = await ended_by(seats, "drain")
        assert failed.outcome.code is grpc.StatusCode.UNAVAILABLE
        assert value(mesh, "streams_total", service="llm") == 2
        assert value(mesh, "stream_failures_total", service="llm", code="UNAVAILABLE") == 1
        assert mesh.services["llm"].hosts[0].healthy, "a drained stream says nothing against its host"
        for _ in range(2):
            await serving(seats)
            assert value(mesh, "streams_reopened_total", service="llm", reason="drained") == 1


async def test_hosts_are_counted_by_health() -> None:
    async with two_hosts() as (mesh, one, _):
        assert value(mesh, "hosts", service="llm", health="serving") == 2
        await one.health.say(serving=False)
        await until(lambda: asyncio.sleep(0, value(mesh, "hosts", service="llm", health="not_serving") == 1), WITHIN_S)
        assert value(mesh, "hosts", service="llm", health="serving") == 1


async def test_a_host_is_let_go_of_by_every_stream() -> None:
    async with small_host() as one, mesh_of(one.address) as mesh:
        await healthy(mesh, 1)
        [host] = mesh.services["llm"].hosts
        seats = mesh.seats({})
        async with opened("llm", seats.llm.Generate(), CONFIG):
            assert host.streams == 1
        await until(lambda: asyncio.sleep(0, host.streams == 0), WITHIN_S)
        await ended_by(seats, "drain")
        await until(lambda: asyncio.sleep(0, host.streams == 0), WITHIN_S)


async def test_status_shows_every_host_and_services_without_one() -> None:
    async with (
        small_host("one") as one,
        small_host("two", serving=False) as two,
        mesh_of(one.address, two.address, "127.0.0.1:1") as mesh,
    ):
        found = await mesh.status()
    by_address = {status.address: status for status in found if status.service == "llm"}
    assert by_address[one.address].health == conversation_pb2.HEALTH_SERVING
    assert by_address[one.address].latency_ms > 0
    assert by_address[two.address].health == conversation_pb2.HEALTH_NOT_SERVING
    assert by_address["127.0.0.1:1"].health == conversation_pb2.HEALTH_UNREACHABLE
    others = [status for status in found if status.service != "llm"]
    assert [status.service for status in found][:2] == ["asr", "llm"]
    assert {status.error for status in others} == {"no host is known"}
    assert len(others) == 4
