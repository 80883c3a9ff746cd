"""Gateway processes that keep what becomes of their sessions: turns, exposures and feedback, and what is read of them."""

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.runtime.desired import PREFIX
from services.runtime.etcd import connected as etcd_connected
from services.runtime.etcd import etcd_settings
from talkmesh import Client, SessionConfig, TalkmeshError, TurnDone, User
from talkmesh.cli import main
from talkmesh.control import Admin
from tests.fakes.etcd import etcd_server
from tests.fakes.hosts import Host, until
from tests.fakes.postgres import Postgres, postgres
from tests.mesh.test_gateway_hosts import Gateway, gateway_process, host, llm_hosts_serving

pytestmark = pytest.mark.mesh
WITHIN_S = 60.0
FLAG: dict[str, Any] = {
    "owner": "me",
    "variants": {"a": {}, "b": {}},
    "control": "a",
    "enrolled": [[0, 1_000_000]],
    "forced": {"tester": "b"},
}


@asynccontextmanager
async def experimenting(flag: dict[str, Any] | None = None) -> AsyncIterator[tuple[Host, str]]:
    """A host of the language model, and an etcd with a flag."""
    async with etcd_server() as server, host("one") as one:
        async with etcd_connected(etcd_settings(server.endpoint)) as etcd:
            await etcd.put(f"{PREFIX}flags/arms", json.dumps(flag or FLAG))
        yield one, server.endpoint


@asynccontextmanager
async def keeping(one: Host, etcd: str, folder: Path, *arguments: str) -> AsyncIterator[tuple[Gateway, str]]:
    """A gateway that keeps outcomes and knows the flag, and its address."""
    options = (f"--llm={one.target}", f"--etcd={etcd}", f"--outcomes-folder={folder}", *arguments)
    async with gateway_process(*options) as gateway:
        address = await gateway.at("listening on")
        await until(lambda: llm_hosts_serving(gateway, 1), WITHIN_S)
        async with Admin(address) as admin:
            await until(lambda: decides(admin), WITHIN_S)
        yield gateway, address


async def decides(admin: Admin) -> bool:
    return bool([each for each in await admin.decide(User("x")) if each.variant])


async def ask(client: Client, user: str, text: str = "hello", turns: int = 1) -> tuple[str, list[TurnDone], str]:
    """A session of a user: its id, its turns, and the id of the last one."""
    dones, turn_id = [], ""
    async with client.session(SessionConfig(user=User(user), audio=False, phonemes=False, video=False)) as session:
        for _ in range(turns):
            async for event in session.ask(text):
                if isinstance(event, TurnDone):
                    dones.append(event)
                    turn_id = event.turn_id
        return session.started.session_id, dones, turn_id


async def brought(gateway: Gateway, records: int) -> None:
    """Wait until the store has so many records of a gateway."""

    async def so() -> bool:
        return f"talkmesh_gateway_outcomes_written_total {records}.0" in await gateway.metrics()

    await until(so, WITHIN_S)


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "outcomes.db") as connection:
        return connection.execute(query).fetchall()


async def code(call: Callable[[], Awaitable[object]]) -> tuple[str, str]:
    with pytest.raises(TalkmeshError) as caught:
        await call()
    return caught.value.code, caught.value.field


async def cli(*arguments: str) -> int:
    """What a command exits with."""
    with pytest.raises(SystemExit) as caught:
        await asyncio.to_thread(main, list(arguments))
    return int(caught.value.code or 0)


async def test_turns_exposures_and_feedback_of_a_session_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with experimenting() as (one, etcd), keeping(one, etcd, tmp_path) as (gateway, address):
        async with Client(address) as client, Admin(address) as admin:
            sessions = {}
            for number in range(8):
                sessions[f"user-{number}"], dones, turn_id = await ask(client, f"user-{number}", turns=2)
                assert [each.reason for each in dones[0].assignments] == ["SPLIT"]
            last = sessions["user-7"]
            await ask(client, "tester")
            with pytest.raises(TalkmeshError):
                await ask(client, "unlucky", "refuse")
            await client.feedback(last, 1.0, turn_id=turn_id, comment="my secret")
            assert await cli("--address", address, "feedback", last, "-1", "--turn", turn_id) == 0
            await brought(gateway, 8 * 3 + 2 + 2 + 2)
            found = await admin.results("arms")
            assert [arm.variant for arm in found.arms] == ["a", "b"]
            assert sum(arm.sessions for arm in found.arms) == 9, "whoever was given a variant by name is not counted"
            assert sum(arm.turns for arm in found.arms) == 17
            figures = {(arm.variant, each.metric): each for arm in found.arms for each in arm.figures}
            assert (
                sum(figures[arm, "turn_failed"].value.value * figures[arm, "turn_failed"].sessions for arm in "ab") == 1
            )
            assert sum(figures[arm, "feedback"].sessions for arm in "ab" if (arm, "feedback") in figures) == 1
            assert not found.ratio.mismatch
            assert await cli("--address", address, "experiment", "results", "arms", "--json") == 0
            told = json.loads(capsys.readouterr().out.splitlines()[-1])
            assert [arm["sessions"] for arm in told["arms"]] == [arm.sessions for arm in found.arms]
            assert await cli("--address", address, "experiment", "results", "arms") == 0
            assert "turn_failed rate" in capsys.readouterr().out
            assert await code(lambda: admin.results("nothing")) == ("NOT_FOUND", "")
            assert await code(lambda: admin.results("arms", alpha=2.0)) == ("INVALID_ARGUMENT", "alpha")
        metrics = await gateway.metrics()
    given = dict(rows(tmp_path, "SELECT session, variant FROM exposures"))
    assert set(sessions.values()) < given.keys()
    for rating in ("good", "bad"):
        assert f'ratings_total{{flag="arms",rating="{rating}",variant="{given[last]}"}} 1.0' in metrics
    assert rows(
        tmp_path, "SELECT reason, unit_kind, stale, count(*) FROM exposures GROUP BY reason ORDER BY reason"
    ) == [
        ("SPLIT", "user", 0, 9),
        ("TARGETING_MATCH", "user", 0, 1),
    ]
    assert rows(tmp_path, "SELECT outcome, count(*) FROM turns GROUP BY outcome ORDER BY outcome") == [
        ("completed", 17),
        ("failed", 1),
    ]
    assert rows(tmp_path, "SELECT count(*) FROM turn_assignments") == [(18,)]
    assert rows(tmp_path, "SELECT models FROM turns WHERE outcome = 'completed' LIMIT 1") == [("echo=one",)]
    assert rows(tmp_path, "SELECT session, turn, score, comment FROM feedback ORDER BY score") == [
        (last, turn_id, -1.0, None),
        (last, turn_id, 1.0, None),
    ]
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (b"hello", b"my secret", b"user-7", b"tester"):
        assert secret not in everything, "nothing that a person said or is called is kept unless it is asked for"


async def test_what_is_asked_for_is_kept(tmp_path: Path) -> None:
    wanted = ("--outcomes-keep-texts=true", "--outcomes-keep-users=true")
    async with (
        experimenting() as (one, etcd),
        keeping(one, etcd, tmp_path, *wanted) as (gateway, address),
        Client(address) as client,
    ):
        session_id, _, _ = await ask(client, "user-7")
        await client.feedback(session_id, 0.5, comment="not bad")
        await brought(gateway, 3)
    assert rows(tmp_path, "SELECT unit FROM exposures") == [("user-7",)]
    assert rows(tmp_path, "SELECT user_text, reply_text FROM turns") == [("hello", "hello")]
    assert rows(tmp_path, "SELECT comment FROM feedback") == [("not bad",)]


async def test_feedback_that_cannot_be(tmp_path: Path) -> None:
    async with experimenting() as (one, etcd):
        keep = ("--keep-session-s=0", "--http=127.0.0.1:0")
        async with keeping(one, etcd, tmp_path, *keep) as (gateway, address):
            async with Client(address) as client:
                session_id, _, turn_id = await ask(client, "user-1")
                await brought(gateway, 2)
                await ask(client, "user-2")  # which has the first session forgotten
                await client.feedback(session_id, 1, turn_id=turn_id)
                assert await code(lambda: client.feedback("nobody", 1)) == ("NOT_FOUND", "")
                assert await code(lambda: client.feedback("", 1)) == ("INVALID_ARGUMENT", "session_id")
                for score in (1.01, -2, float("nan"), float("inf")):
                    assert await code(lambda wrong=score: client.feedback(session_id, wrong)) == (  # type: ignore[misc]  # a default is no parameter
                        "INVALID_ARGUMENT",
                        "score",
                    )
                assert await code(lambda: client.feedback(session_id, 1, turn_id="other-1")) == (
                    "INVALID_ARGUMENT",
                    "turn_id",
                )
                assert await code(lambda: client.feedback(session_id, 1, comment="x" * 2001)) == (
                    "INVALID_ARGUMENT",
                    "comment",
                )
            await feedback_over_http(f"http://{await gateway.at('HTTP on')}", session_id)
        async with (
            gateway_process(f"--llm={one.target}") as gateway,
            Client(await gateway.at("listening on")) as client,
        ):
            assert await code(lambda: client.feedback("nobody", 1)) == ("FAILED_PRECONDITION", "")
            async with Admin(client.address) as admin:
                assert await code(lambda: admin.results("arms")) == ("FAILED_PRECONDITION", "")


async def feedback_over_http(base: str, session_id: str) -> None:
    async with httpx2.AsyncClient(base_url=base, timeout=20) as web:
        path = f"/api/sessions/{session_id}/feedback"
        assert (await web.post(path, json={"score": -0.5})).status_code == 204
        for body, status, field in (
            ({"score": 3}, 400, "score"),
            ({}, 400, "score"),
            ({"score": 1, "stars": 5}, 400, "stars"),
            ({"score": 1, "turn_id": "other-1"}, 400, "turn_id"),
            ({"score": 1, "comment": "\ud800"}, 400, "comment"),
        ):
            response = await web.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
            assert (response.status_code, response.json()["error"]["field"]) == (status, field), response.text
        response = await web.post("/api/sessions/nobody/feedback", json={"score": 1})
        assert (response.status_code, response.json()["error"]["code"]) == (404, "NOT_FOUND")


async def test_two_gateways_on_one_postgres_that_is_killed(tmp_path: Path) -> None:
    async with postgres() as server, experimenting() as (one, etcd):
        url = f"--outcomes-url={server.url}"
        async with (
            keeping(one, etcd, tmp_path / "one", url) as (first, first_at),
            keeping(one, etcd, tmp_path / "two", url) as (second, second_at),
            Client(first_at) as client,
            Client(second_at) as other,
        ):
            here, _, _ = await ask(client, "user-1")
            await brought(first, 2)
            # A session of one gateway, whose user is asked at the other.
            await other.feedback(here, 1.0)
            await brought(second, 1)
            await server.kill()
            for number in range(5):
                await ask(client, f"user-{number}")
                await ask(other, f"user-{number}")
            await until(lambda: spooled(first), WITHIN_S)
            async with Admin(first_at) as admin:
                assert await code(lambda: admin.results("arms")) == ("UNAVAILABLE", "")
            second.process.send_signal(signal.SIGSTOP)
            await server.start()
            await brought(first, 12)
            second.process.send_signal(signal.SIGCONT)
            await brought(second, 11)
            async with Admin(second_at) as admin:
                found = await admin.results("arms")
            assert sum(arm.sessions for arm in found.arms) == 11
            assert sum(share.units for share in found.ratio.arms) == 5, "a user counts once"
        assert await counts(server) == [11, 11, 11, 1]


async def spooled(gateway: Gateway) -> bool:
    return "talkmesh_gateway_outcomes_store_up 0.0" in await gateway.metrics()


async def counts(server: Postgres) -> list[object]:
    tables = ("exposures", "turns", "turn_assignments", "feedback")
    return [(await server.fetch(f"SELECT count(*) FROM {table}"))[0][0] for table in tables]


async def test_outcomes_outlive_a_gateway_that_is_killed_while_the_store_is_away(tmp_path: Path) -> None:
    async with postgres() as server, experimenting() as (one, etcd):
        url = f"--outcomes-url={server.url}"
        await server.kill()
        with pytest.raises(ProcessLookupError):
            async with keeping(one, etcd, tmp_path, url) as (gateway, address), Client(address) as client:
                for number in range(3):
                    await ask(client, f"user-{number}")
                await until(lambda: on_disk(gateway, 6), WITHIN_S)
                gateway.process.kill()
                await gateway.process.wait()
        await server.start()
        async with keeping(one, etcd, tmp_path, url) as (gateway, _):
            await brought(gateway, 6)
        assert await counts(server) == [3, 3, 3, 0]


async def on_disk(gateway: Gateway, records: int) -> bool:
    return f"talkmesh_gateway_outcomes_spooled_total {records}.0" in await gateway.metrics()


async def test_two_gateways_do_not_share_a_folder(tmp_path: Path) -> None:
    async with gateway_process(f"--outcomes-folder={tmp_path}"):
        with pytest.raises(AssertionError, match=r"outcomes_folder: .* is in use by another gateway"):
            async with gateway_process(f"--outcomes-folder={tmp_path}"):
                pass


async def test_with_neither_store_nor_disk_it_serves_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    folder = tmp_path / "file" / "outcomes"
    async with (
        experimenting() as (one, etcd),
        keeping(one, etcd, folder, "--http=127.0.0.1:0") as (gateway, address),
        Client(address) as client,
    ):
        for number in range(3):
            session_id, (done,), _ = await ask(client, f"user-{number}")
            assert (done.reply_text, len(done.assignments)) == ("hello", 1)
        await client.feedback(session_id, 1.0)
        await until(lambda: waiting(gateway, 7), WITHIN_S)
        async with Admin(address) as admin:
            assert await code(lambda: admin.results("arms")) == ("UNAVAILABLE", "")
            assert await code(lambda: client.feedback("nobody", 1.0)) == ("UNAVAILABLE", "")
        await until(lambda: logged(gateway, "outcomes cannot wait on disk, and wait in memory"), WITHIN_S)
    assert "7 outcomes are lost" in "".join(gateway.log)


async def logged(gateway: Gateway, text: str) -> bool:
    return text in "".join(gateway.log)


async def waiting(gateway: Gateway, records: int) -> bool:
    return f"talkmesh_gateway_outcomes_waiting {records}.0" in await gateway.metrics()
