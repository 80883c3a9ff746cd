"""Outcomes in a real PostgreSQL: two gateways on one, killed in the middle, frozen, of another time, with a password."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from gateway.experiments.flags import Flag
from gateway.outcomes.outcomes import Outcomes, keeping
from gateway.outcomes.records import Given
from gateway.outcomes.retention import delete_some
from gateway.settings import gateway_settings
from services.runtime.errors import Refused, Unavailable
from tests.fakes.outcomes import exposure, feedback, figure, some, turn, until
from tests.fakes.postgres import PASSWORD, Postgres, postgres

VOICE = Flag.model_validate({"owner": "me", "variants": {"heart": {}, "joe": {}}, "control": "heart"})


@pytest.fixture
async def server() -> AsyncIterator[Postgres]:
    async with postgres() as made:
        yield made


@dataclass
class Gateway:
    """The part of a gateway that keeps outcomes."""

    outcomes: Outcomes
    registry: CollectorRegistry

    def figure(self, name: str, **labels: str) -> float:
        return figure(self.registry, name, **labels)

    async def brought(self) -> None:
        await until(lambda: not self.outcomes._outbox.waiting)


@asynccontextmanager
async def gateway(folder: Path, url: str, *arguments: str) -> AsyncIterator[Gateway]:
    # What these tests keep is of 1970.
    options = ["--outcomes-folder", str(folder), "--outcomes-url", url, "--outcomes-days", "36500", *arguments]
    settings = gateway_settings(options)
    registry = CollectorRegistry()
    async with keeping(settings, registry) as outcomes:
        assert outcomes
        yield Gateway(outcomes, registry)


async def test_two_gateways_on_one_database(server: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path / "one", server.url) as one, gateway(tmp_path / "two", server.url) as two:
        for number in range(400):
            of, variant = (one, two)[number // 2 % 2], ("heart", "joe")[number % 2]
            of.outcomes.put(exposure(number, variant))
            of.outcomes.put(turn(number, variant=variant, first_audio_ms=500.0 if variant == "joe" else 400.0))
            of.outcomes.put(feedback(number))
            # A client whose call goes on at the other gateway.
            (one, two)[number % 2].outcomes.put(exposure(number, variant))
        await one.brought()
        await two.brought()
        for each in (one, two):
            found = await each.outcomes.results("voice", VOICE, "arms", 0.05)
            assert [(arm.variant, arm.sessions, arm.turns) for arm in found.arms] == [
                ("heart", 200, 200),
                ("joe", 200, 200),
            ]
            (audio,) = [
                figure
                for figure in found.arms[1].figures
                if (figure.metric, figure.statistic) == ("first_audio_ms", "mean")
            ]
            assert audio.difference and audio.difference.effect == pytest.approx(100)
            assert not found.ratio.mismatch
        assert await two.outcomes.given_to("session-0") == [("voice", "heart")]


async def test_killed_in_the_middle_nothing_is_lost_and_nothing_twice(server: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path / "one", server.url) as one, gateway(tmp_path / "two", server.url) as two:
        put, waited = 0, 0.0

        async def talk(turns: int) -> None:
            nonlocal put, waited
            for _ in range(turns // 10):
                began = time.perf_counter()
                for of in (one, two):
                    for record in some(5, put):
                        of.outcomes.put(record)
                    put += 5
                waited = max(waited, time.perf_counter() - began)
                await asyncio.sleep(0.005)

        await talk(1000)
        for _ in range(2):
            killing = asyncio.create_task(server.kill())
            await talk(500)
            await killing
            await until(lambda: one.figure("spooled_total") and two.figure("spooled_total"))
            await talk(500)
            starting = asyncio.create_task(server.start())
            await talk(500)
            await starting
            await one.brought()
            await two.brought()
        assert await server.fetch("SELECT count(*), count(DISTINCT session) FROM turns") == [(put, put)]
        assert await server.fetch("SELECT count(*) FROM turn_assignments") == [(put,)]
        for of in (one, two):
            assert of.figure("written_total") == put / 2
            assert (
                sum(of.figure("dropped_total", why=why) for why in ("full", "spool full", "unreadable", "unfit")) == 0
            )
        assert waited < 1.0, "who talks does not wait for the store"


async def test_a_server_that_hangs_holds_up_nobody_and_is_given_up(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.outcomes.store.WITHIN_S", 1.0)
    async with gateway(tmp_path, server.url) as one:
        one.outcomes.put(turn(0))
        await one.brought()
        connection = await server.connect()
        # Whoever reads or writes waits for this.
        await connection.execute("BEGIN; LOCK TABLE turns IN ACCESS EXCLUSIVE MODE")
        for record in some(20, 1):
            one.outcomes.put(record)
        await until(lambda: one.figure("spooled_total") == 20)
        with pytest.raises(Unavailable):
            await one.outcomes.given_to("session-x")
        await connection.close()
        await one.brought()
        assert await server.fetch("SELECT count(*) FROM turns") == [(21,)]


async def test_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    async with postgres() as server:
        await server.kill()
        async with gateway(tmp_path, server.url) as one:
            one.outcomes.put(turn(0))
            await until(lambda: one.figure("spooled_total") == 1)
            with pytest.raises(Unavailable, match="the store of outcomes is away"):
                await one.outcomes.results("voice", VOICE, "arms", 0.05)
            await server.start()
            await one.brought()
            assert await server.fetch("SELECT session FROM turns") == [("session-0",)]


async def test_tables_of_a_newer_version_are_left_alone(
    server: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(tmp_path, server.url) as one:
        one.outcomes.put(turn(0))
        await one.brought()
    connection = await server.connect()
    await connection.execute("UPDATE schema_version SET version = 2")
    async with gateway(tmp_path, server.url) as one:
        one.outcomes.put(turn(1))
        await until(lambda: one.figure("spooled_total") == 1)
        assert "schema version 2, newer than the 1 of this gateway" in caplog.text
        with pytest.raises(Refused, match="update the gateway"):
            await one.outcomes.results("voice", VOICE, "arms", 0.05)
        assert await server.fetch("SELECT count(*) FROM turns") == [(1,)]
        await connection.execute("UPDATE schema_version SET version = 1")
        await one.brought()
        assert await server.fetch("SELECT count(*) FROM turns") == [(2,)]
    await connection.close()


async def test_tables_that_become_newer_under_a_gateway_are_left_alone(server: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path, server.url) as one:
        one.outcomes.put(turn(0))
        await one.brought()
        connection = await server.connect()
        await connection.execute("UPDATE schema_version SET version = 2")
        one.outcomes.put(turn(1))
        await until(lambda: one.figure("spooled_total") == 1)
        assert await server.fetch("SELECT count(*) FROM turns") == [(1,)]
        await connection.execute("UPDATE schema_version SET version = 1")
        await connection.close()
        await one.brought()
        assert await server.fetch("SELECT count(*) FROM turns") == [(2,)]


async def test_many_gateways_begin_on_an_empty_database_at_once(server: Postgres, tmp_path: Path) -> None:
    async def begin(number: int) -> None:
        async with gateway(tmp_path / str(number), server.url) as one:
            one.outcomes.put(turn(number))

    await asyncio.gather(*(begin(number) for number in range(6)))
    assert await server.fetch("SELECT count(*) FROM turns") == [(6,)]
    assert await server.fetch("SELECT version FROM schema_version") == [(1,)]


async def test_what_is_old_goes_while_several_are_at_it(server: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path / "one", server.url) as one, gateway(tmp_path / "two", server.url) as two:
        now = int(time.time() * 1000)
        for record in (*some(1000), *(exposure(number) for number in range(300)), turn(5000, at_ms=now)):
            one.outcomes.put(record)
        await one.brought()

        async def delete(of: Gateway) -> int:
            deleted = 0
            while count := await delete_some(of.outcomes._store, now, most=100):
                deleted += count
            return deleted

        deleted = await asyncio.gather(delete(one), delete(two), delete(one))
        assert sum(deleted) == 1300
        assert await server.fetch("SELECT session FROM turn_assignments") == [("session-5000",)]


async def test_the_password_is_told_to_nobody(
    server: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = server.url.replace(PASSWORD, f"not-{PASSWORD}")
    async with gateway(tmp_path / "one", wrong) as one:
        one.outcomes.put(turn(0))
        await until(lambda: one.figure("spooled_total") == 1)
        with pytest.raises(Unavailable) as caught:
            await one.outcomes.given_to("session-0")
    assert "password authentication failed" in str(caught.value)
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n")
    without = server.url.replace(f":{PASSWORD}", "")
    async with gateway(tmp_path / "one", without, "--outcomes-password-file", str(secret)) as one:
        await one.brought()
    assert await server.fetch("SELECT count(*) FROM turns") == [(1,)]
    settings = gateway_settings(["--outcomes-folder", str(tmp_path), "--outcomes-url", server.url])
    with pytest.raises(SystemExit):
        gateway_settings(["--outcomes-url", server.url + "?password=x"])
    told = "\n".join([caplog.text, repr(settings), str(settings), str(caught.value), *capsys.readouterr()])
    assert PASSWORD not in told
    assert f"postgresql+asyncpg://talkmesh:***@127.0.0.1:{server.port}/outcomes" in told


async def test_who_reads_does_not_hold_up_who_writes(server: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path, server.url) as one:
        one.outcomes.put(exposure(0))
        await one.brought()
        reading = [asyncio.create_task(one.outcomes._store.read(text("SELECT pg_sleep(3600)"))) for _ in range(20)]
        try:
            await until(lambda: asleep(server))
            for record in some(50):
                one.outcomes.put(record)
            await one.brought()
            assert (one.figure("spooled_total"), one.figure("written_total")) == (0, 51)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)


async def asleep(server: Postgres) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    return (await server.fetch(query))[0][0] == 2


async def test_nobody_else_on_the_machine_can_read_what_is_kept(tmp_path: Path) -> None:
    async with gateway(tmp_path / "deep" / "outcomes", "") as one:
        one.outcomes.put(turn(0))
        await one.brought()
    assert (tmp_path / "deep" / "outcomes").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "deep" / "outcomes" / "outcomes.db").exists()


async def test_text_of_every_kind_goes_in_and_comes_out(server: Postgres, tmp_path: Path) -> None:
    said = "it's 100 %; DROP TABLE turns; -- $1 :x \\ \0 \u2028 世界 🙂"
    async with gateway(tmp_path, server.url) as one:
        one.outcomes.put(turn(0, user_text=said, given=(Given(said, said, said),)))
        await one.brought()
    assert await server.fetch("SELECT user_text FROM turns") == [(said.replace("\0", ""),)]


async def test_a_frozen_server(server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port takes connections, and nobody answers."""
    monkeypatch.setattr("gateway.outcomes.store.CONNECT_S", 0.5)
    server.signal(signal.SIGSTOP)
    try:
        async with gateway(tmp_path, server.url) as one:
            one.outcomes.put(turn(0))
            await until(lambda: one.figure("spooled_total") == 1)
            server.signal(signal.SIGCONT)
            await one.brought()
            assert await server.fetch("SELECT count(*) FROM turns") == [(1,)]
    finally:
        server.signal(signal.SIGCONT)
