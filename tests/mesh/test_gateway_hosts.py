"""A gateway in front of several hosts of one service: real host processes, a real gateway process, a real etcd."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import pytest
from google.protobuf import json_format

from gateway.addresses import Places
from gateway.mesh import Mesh, Seats, ServiceFailed, connected, opened
from services.runtime.desired import observed_key
from services.runtime.etcd import connected as etcd_connected
from services.runtime.etcd import etcd_settings
from services.runtime.lifeline import PARENT_VARIABLE
from talkmesh import Client, Event, SessionConfig, TalkmeshError, TurnDone
from talkmesh.llm.v1 import llm_pb2
from talkmesh.model.v1 import model_pb2
from tests.fakes.etcd import etcd_server, wipe
from tests.fakes.hosts import ROOT, START_S, Host, running, until
from tests.fakes.small_hosts import SmallHost, small_host
from tools.etcd import free_port

pytestmark = pytest.mark.mesh
WITHIN_S = 15.0
LOSS_NOTICED_S = 60.0
CONFIG = llm_pb2.GenerateRequest(config=llm_pb2.GenerationConfig())


@asynccontextmanager
async def host(name: str, port: int = 0) -> AsyncIterator[Host]:
    """A host process whose model has a name of its own. It may not serve yet: the mesh will tell when it does."""
    at = f"127.0.0.1:{port}"
    async with running({name: {"engine": "echo"}}, "--listen", at, clean=False, ready=False) as made:
        yield made


async def kill(made: Host) -> None:
    """End a host as a lack of memory does."""
    made.signal(signal.SIGKILL)
    await made.exit_code()


async def serving(seats: Seats) -> str:
    """The model, and so the host, that a new stream goes to. Raises ServiceFailed."""
    async with opened("llm", seats.llm.Generate(), CONFIG) as (_, started):
        return str(started.model.model)


async def healthy(mesh: Mesh, *addresses: str) -> float:
    """Wait until exactly these hosts may have new streams; returns how long it took."""

    async def so() -> bool:
        return {each.address for each in mesh.services["llm"].hosts if each.healthy} == set(addresses)

    return await until(so, WITHIN_S)


@dataclass
class Gateway:
    """A gateway process. Used through `gateway_process`."""

    process: asyncio.subprocess.Process
    log: list[str] = field(default_factory=list)

    async def at(self, what: str) -> str:
        """The address, or that in the URL, that a line of the log ends with."""

        async def said() -> str:
            assert self.process.returncode is None, "".join(self.log)
            return next(
                (
                    found[1]
                    for line in self.log
                    if (found := re.search(rf"{what} (?:http://)?(\S+:\d+)(?:/\S*)?$", line))
                ),
                "",
            )

        await until(said, START_S)
        return await said()

    async def metrics(self) -> str:
        address = await self.at("metrics on")
        answer = await asyncio.to_thread(urllib.request.urlopen, f"http://{address}/metrics", None, 5)
        return str(answer.read().decode())


@asynccontextmanager
async def gateway_process(*arguments: str, access: str = "open") -> AsyncIterator[Gateway]:
    """A gateway that listens; on leaving it must end well and have logged no defect."""
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "gateway",
            "--listen",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
            "--access",
            access,
            *arguments,
        ),
        cwd=ROOT,
        env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
        stderr=asyncio.subprocess.PIPE,
    )
    made = Gateway(process)

    async def follow() -> None:
        assert process.stderr
        async for line in process.stderr:
            made.log.append(line.decode())

    following = asyncio.create_task(follow())
    try:
        await made.at("listening on")
        yield made
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), WITHIN_S) == 0
        await following
        assert "Traceback" not in "".join(made.log)
    except BaseException:
        sys.stderr.write("".join(made.log))
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        following.cancel()


async def ask(client: Client, session_id: str = "", text: str = "hello") -> tuple[str, TurnDone]:
    """One typed question on a call of its own: the session's id, and how its turn ended."""
    config = SessionConfig(session_id=session_id, audio=False, phonemes=False, video=False)
    async with client.session(config) as session:
        [done] = [event async for event in session.ask(text) if isinstance(event, TurnDone)]
        return session.started.session_id, done


# --- hosts that die and come back -----------------------------------------------------------------------------------


async def test_a_killed_hosts_sessions_go_on_at_the_other_and_it_gets_new_ones_when_it_is_back() -> None:
    port = free_port()
    async with host("two") as two:
        at = Places((two.target, f"127.0.0.1:{port}"))
        async with connected({"llm": at}) as mesh:
            async with host("one", port) as one:
                await healthy(mesh, two.target, one.target)
                pins = {"llm": one.target}
                seats = mesh.seats(pins)
                assert await serving(seats) == "one"
                async with opened("llm", seats.llm.Generate(), CONFIG) as (stream, _):
                    one.signal(signal.SIGKILL)
                    with pytest.raises(ServiceFailed):
                        await stream.first()
                # At once: whoever lost a stream need not know more.
                assert await serving(seats) == "two"
                assert pins == {"llm": two.target}
                await one.exit_code()
            async with host("one", port) as one:
                await healthy(mesh, two.target, one.target)
                assert await serving(seats) == "two", "a session that has moved stays where it is"
                assert {await serving(mesh.seats({})) for _ in range(2)} == {"one", "two"}


async def test_a_host_that_hangs_is_noticed_though_its_connection_stands() -> None:
    async with host("one") as one, host("two") as two, connected({"llm": Places((one.target, two.target))}) as mesh:
        await healthy(mesh, one.target, two.target)
        seats = mesh.seats({"llm": one.target})
        async with opened("llm", seats.llm.Generate(), CONFIG) as (stream, _):
            one.signal(signal.SIGSTOP)
            try:
                await healthy(mesh, two.target)
                assert {await serving(seats) for _ in range(2)} == {"two"}
                with pytest.raises(ServiceFailed) as caught:
                    await asyncio.wait_for(stream.first(), LOSS_NOTICED_S)
                assert caught.value.outcome.code is grpc.StatusCode.UNAVAILABLE
            finally:
                one.signal(signal.SIGCONT)
        await healthy(mesh, one.target, two.target)


async def test_a_host_whose_engine_dies_gets_no_streams_until_it_is_back() -> None:
    async with host("one") as one, host("two") as two, connected({"llm": Places((one.target, two.target))}) as mesh:
        await healthy(mesh, one.target, two.target)
        os.kill((await one.model()).pid, signal.SIGKILL)
        await healthy(mesh, two.target)
        assert {await serving(mesh.seats({})) for _ in range(4)} == {"two"}
        await healthy(mesh, one.target, two.target)


async def test_hosts_that_are_away_cost_nothing() -> None:
    places = Places(tuple(f"127.0.0.1:{free_port()}" for _ in range(5)))
    async with connected({"llm": places}):
        await asyncio.sleep(0.5)
        before, began = sum(os.times()[:2]), asyncio.get_running_loop().time()
        await asyncio.sleep(3)
        used = sum(os.times()[:2]) - before
        assert used / (asyncio.get_running_loop().time() - began) < 0.1


# --- the gateway process --------------------------------------------------------------------------------------------


async def test_sessions_of_a_gateway_are_spread_stay_and_survive_their_host() -> None:
    async with host("one") as one, host("two") as two:
        llm = f"--llm={one.target},{two.target}"
        async with gateway_process(llm) as gateway, Client(await gateway.at("listening on")) as client:
            await until(lambda: llm_hosts_serving(gateway, 2), WITHIN_S)
            first = [await ask(client) for _ in range(4)]
            assert sorted(model_of(done) for _, done in first) == ["one", "one", "two", "two"]
            for session_id, done in first:
                _, again = await ask(client, session_id)
                assert model_of(again) == model_of(done)
            await kill(one)
            for session_id, _ in first:
                _, again = await ask_until_answered(client, session_id)
                assert model_of(again) == "two"
            await until(lambda: all_counted(gateway, 12), WITHIN_S)
            assert await llm_hosts_serving(gateway, 1)
            addresses = [each.address for each in (await client.status()).services if each.service == "llm"]
            assert addresses == sorted([one.target, two.target])


async def all_counted(gateway: Gateway, turns: int) -> bool:
    """Whether the gateway has counted so many turns, and its last call has ended: it hears of that after the client."""
    text = await gateway.metrics()
    counted = f'talkmesh_gateway_turns_total{{outcome="completed"}} {turns}.0' in text
    return counted and "talkmesh_gateway_sessions 0.0" in text


async def test_calls_and_turns_that_end_badly_are_counted() -> None:
    async with (
        host("one") as one,
        gateway_process(f"--llm={one.target}") as gateway,
        Client(await gateway.at("listening on")) as client,
    ):
        await until(lambda: llm_hosts_serving(gateway, 1), WITHIN_S)
        with pytest.raises(TalkmeshError):
            await ask(client, text="refuse")
        with pytest.raises(TalkmeshError):
            await ask(client, "no-such-session")
        async with client.session(SessionConfig(audio=False, phonemes=False, video=False)) as session:
            asking = asyncio.create_task(all_of(session.ask("hang")))
            await until(lambda: has_a_stream(one), WITHIN_S)
        asking.cancel()
        await until(lambda: abandoned(gateway), WITHIN_S)
        text = await gateway.metrics()
    assert 'talkmesh_gateway_turns_total{outcome="failed"} 1.0' in text
    assert 'talkmesh_gateway_stream_failures_total{code="INVALID_ARGUMENT",service="llm"} 1.0' in text
    assert (calls(text, "INVALID_ARGUMENT"), calls(text, "NOT_FOUND"), calls(text, "CANCELLED")) == (1, 1, 1)


async def all_of(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


async def has_a_stream(made: Host) -> bool:
    return await made.engine_streams() == 1


async def abandoned(gateway: Gateway) -> bool:
    return 'talkmesh_gateway_turns_total{outcome="abandoned"} 1.0' in await gateway.metrics()


def calls(text: str, code: str) -> float:
    found = re.search(rf'talkmesh_gateway_calls_total\{{code="{code}"\}} (\S+)', text)
    return float(found[1]) if found else 0


async def llm_hosts_serving(gateway: Gateway, count: int) -> bool:
    return f'talkmesh_gateway_hosts{{health="serving",service="llm"}} {count}.0' in await gateway.metrics()


async def ask_until_answered(client: Client, session_id: str) -> tuple[str, TurnDone]:
    """Ask as a client does: again after an error that says so."""
    for _ in range(3):
        try:
            return await ask(client, session_id)
        except TalkmeshError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(error.retry_after_s or 0)
    raise AssertionError("never answered")


def model_of(done: TurnDone) -> str:
    """The one that had all of a turn's streams."""
    [name] = {model.name for model in done.models}
    return name


async def test_a_metrics_port_that_is_taken_ends_the_gateway_with_the_reason() -> None:
    async with gateway_process() as gateway:
        taken = await gateway.at("metrics on")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "--listen", "127.0.0.1:0", "--metrics", taken),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        _, log = await asyncio.wait_for(process.communicate(), WITHIN_S)
        assert process.returncode == 2
        assert f"cannot serve metrics on {taken}" in log.decode()


# --- etcd -----------------------------------------------------------------------------------------------------------


def written(made: SmallHost) -> str:
    return json_format.MessageToJson(model_pb2.HostStatus(service="llm", instance=made.name, address=made.address))


async def test_hosts_are_found_in_etcd_and_none_is_lost_while_it_is_away() -> None:
    async with (
        etcd_server() as server,
        etcd_connected(etcd_settings(server.endpoint)) as etcd,
        small_host("one") as one,
        small_host("two") as two,
        connected({}, etcd) as mesh,
    ):
        await etcd.put(observed_key("llm", "one"), written(one))
        await healthy(mesh, one.address)
        await etcd.put(observed_key("llm", "two"), written(two))
        await healthy(mesh, one.address, two.address)
        assert {await serving(mesh.seats({})) for _ in range(2)} == {"one", "two"}

        await server.kill()
        await until(lambda: asyncio.sleep(0, etcd_up(mesh) == 0), WITHIN_S)
        for _ in range(10):
            await asyncio.sleep(0.2)
            assert {await serving(mesh.seats({})) for _ in range(2)} == {"one", "two"}
        await server.start()
        await until(lambda: asyncio.sleep(0, etcd_up(mesh) == 1), WITHIN_S)
        await healthy(mesh, one.address, two.address)

        await etcd.delete(observed_key("llm", "two"))
        await two.health.say(serving=False)
        await until(lambda: asyncio.sleep(0, len(mesh.services["llm"].hosts) == 1), WITHIN_S)
        assert await serving(mesh.seats({"llm": two.address})) == "one"


async def test_an_etcd_that_comes_back_empty_takes_no_host_away() -> None:
    async with (
        etcd_server() as server,
        etcd_connected(etcd_settings(server.endpoint)) as etcd,
        small_host("one") as one,
        connected({}, etcd) as mesh,
    ):
        await etcd.put(observed_key("llm", "one"), written(one))
        await healthy(mesh, one.address)
        await server.kill()
        await until(lambda: asyncio.sleep(0, etcd_up(mesh) == 0), WITHIN_S)
        wipe(server)
        await server.start()
        await until(lambda: asyncio.sleep(0, etcd_up(mesh) == 1), WITHIN_S)
        assert (await etcd.list("/")).kvs == ()
        await asyncio.sleep(0.5)
        assert await serving(mesh.seats({})) == "one"


def etcd_up(mesh: Mesh) -> float | None:
    return mesh.metrics.registry.get_sample_value("talkmesh_gateway_etcd_up")


async def test_a_gateway_starts_while_etcd_is_away_and_finds_hosts_when_it_comes() -> None:
    async with etcd_server() as server, small_host("one") as one:
        async with etcd_connected(etcd_settings(server.endpoint)) as etcd:
            await etcd.put(observed_key("llm", "one"), written(one))
        await server.kill()
        async with (
            gateway_process(f"--etcd={server.endpoint}") as gateway,
            Client(await gateway.at("listening on")) as client,
        ):
            with pytest.raises(TalkmeshError, match="llm: no host is known") as caught:
                await ask(client)
            assert caught.value.retryable
            assert "talkmesh_gateway_etcd_up 0.0" in await gateway.metrics()
            await server.start()
            await until(lambda: llm_hosts_serving(gateway, 1), WITHIN_S)
            _, done = await ask(client)
            assert model_of(done) == "one"
            assert "talkmesh_gateway_etcd_up 1.0" in await gateway.metrics()
