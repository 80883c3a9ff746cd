"""Flags on a real etcd, through the API and past it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.experiments.registry import BUNDLES, FLAGS
from services.runtime import desired
from services.runtime.desired import AuditEntry
from services.runtime.etcd import Etcd, connected, etcd_settings
from talkmesh import TalkmeshError, User
from talkmesh.cli import main
from talkmesh.control import Admin
from tests.fakes.operators import control_plane
from tools.etcd import running_etcd

EVERYBODY = [[0, 1_000_000]]
VOICE: dict[str, Any] = {
    "owner": "me",
    "rule": 'country == "CN"',
    "variants": {"heart": {}, "joe": {"slots": {"tts": "candidate"}}},
    "control": "heart",
    "enrolled": EVERYBODY,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with running_etcd(tmp_path_factory.mktemp("flags") / "etcd", sync=False) as server:
        yield server.endpoint


@pytest.fixture
async def etcd(server: str) -> AsyncIterator[Etcd]:
    async with connected(etcd_settings(server)) as etcd:
        await etcd.delete(desired.PREFIX, prefix=True)
        yield etcd


@pytest.fixture
async def address(etcd: Etcd) -> AsyncIterator[str]:
    async with control_plane(etcd) as (address, _):
        yield address


@pytest.fixture
async def admin(address: str) -> AsyncIterator[Admin]:
    async with Admin(address, actor="alice") as admin:
        yield admin


def text(**changes: Any) -> str:
    return json.dumps(VOICE | changes)


async def until(holds: Callable[[], Any]) -> Any:
    async with asyncio.timeout(20):
        while not (found := await holds()):
            await asyncio.sleep(0.02)
    return found


async def known(admin: Admin, flag: str = "voice") -> None:
    """Wait until the gateway goes by a flag."""

    async def decides() -> bool:
        return any(each.flag == flag for each in await admin.decide(User("x", attributes={"country": "CN"})))

    await until(decides)


async def test_a_flag_is_written_with_its_author_and_acted_on(admin: Admin, etcd: Etcd) -> None:
    revision = await admin.set_flag("voice", text(), expected=0, reason="warmer?")
    (flag,) = await admin.flags()
    assert (flag.flag, flag.revision, flag.problem, flag.lacks) == ("voice", revision, "", "")
    assert json.loads(flag.json) == VOICE | {"actor": "alice", "reason": "warmer?"}
    await known(admin)
    (decision,) = await admin.decide(User("bob", attributes={"country": "CN"}), "voice")
    assert decision.variant in ("heart", "joe")
    assert (decision.reason, decision.unit_kind) == ("SPLIT", "user")
    (abroad,) = await admin.decide(User("bob", attributes={"country": "US"}))
    assert (abroad.variant, abroad.reason) == ("", "DEFAULT")
    audit = [AuditEntry.model_validate_json(kv.value) for kv in (await etcd.list(f"{desired.PREFIX}audit/")).kvs]
    assert [(each.action, each.subject, each.actor, each.reason) for each in audit] == [
        ("set flag", "voice: on", "alice", "warmer?")
    ]


async def test_of_two_who_edit_one_is_told_who_won(admin: Admin, address: str) -> None:
    first = await admin.set_flag("voice", text())
    async with Admin(address, actor="bob") as bob:
        await bob.set_flag("voice", text(enrolled=[[0, 9]]), expected=first, reason="fewer")
    with pytest.raises(TalkmeshError) as caught:
        await admin.set_flag("voice", text(state="off"), expected=first)
    assert caught.value.code == "ABORTED"
    assert "by bob: fewer" in str(caught.value)
    with pytest.raises(TalkmeshError) as caught:
        await admin.set_flag("voice", text(), expected=0)
    assert caught.value.code == "ABORTED"


async def test_many_who_write_at_once_leave_one_history(admin: Admin, etcd: Etcd) -> None:
    first = await admin.set_flag("voice", text())
    wishes = [admin.set_flag("voice", text(description=str(number)), expected=first) for number in range(12)]
    done = await asyncio.gather(*wishes, return_exceptions=True)
    assert sum(isinstance(each, int) for each in done) == 1
    assert all(each.code == "ABORTED" for each in done if isinstance(each, TalkmeshError))
    assert len((await etcd.list(f"{desired.PREFIX}audit/")).kvs) == 2


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("../voice", text(), "flag"),
        ("", text(), "flag"),
        ("voice", "{", "value"),
        ("voice", text(rule="contry == 'CN'"), "rule"),
        ("voice", text(enrolled=[[0, 1_000_001]]), "enrolled"),
        (
            "voice",
            text(variants={"a": {}, "b": {"slots": {"voice": "x"}}}, control="a"),
            "variants.b.slots.voice.[key]",
        ),
        ("voice", json.dumps("x" * 10_000_000), "value"),
    ],
)
async def test_a_bad_flag_is_refused_by_field_and_nothing_is_written(
    admin: Admin, etcd: Etcd, name: str, value: str, field: str
) -> None:
    with pytest.raises(TalkmeshError) as caught:
        await admin.set_flag(name, value)
    if caught.value.code != "RESOURCE_EXHAUSTED":  # gRPC itself takes no message that large
        assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", field)
    assert not (await etcd.list(desired.PREFIX)).kvs


async def test_layers_and_bundles_are_looked_up(admin: Admin, etcd: Etcd) -> None:
    await admin.set_flag("one", text(layer={"name": "voices", "ranges": [[0, 600_000]]}))
    with pytest.raises(TalkmeshError) as caught:
        await admin.set_flag("two", text(layer={"name": "voices", "ranges": [[500_000, 900_000]]}))
    assert caught.value.field == "layer.ranges"
    await admin.set_flag("one", text(layer={"name": "voices", "ranges": [[0, 700_000]]}))
    bundled = text(variants={"heart": {}, "new": {"bundle": "new"}})
    with pytest.raises(TalkmeshError) as caught:
        await admin.set_flag("three", bundled)
    assert caught.value.code == "NOT_FOUND"
    await etcd.put(f"{BUNDLES}new", json.dumps({"slots": {"tts": "candidate"}}))
    await admin.set_flag("three", bundled)


async def test_what_is_written_past_the_api_is_checked_too(admin: Admin, etcd: Etcd) -> None:
    await admin.set_flag("voice", text())
    await known(admin)
    await etcd.put(f"{FLAGS}voice", text(control="leo"))
    await etcd.put(f"{FLAGS}other", text(variants={"heart": {}, "joe": {"slots": {"tts": "missing"}}}))
    await known(admin, "other")

    async def told() -> bool:
        return all(each.problem or each.lacks for each in await admin.flags())

    await until(told)
    other, voice = await admin.flags()
    assert "variant 'leo' is not one of heart, joe" in voice.problem
    assert "slot 'missing' of tts" in other.lacks
    (decision,) = await admin.decide(User("x", attributes={"country": "CN"}), "voice")
    assert decision.variant, "what it said before holds on"


async def test_a_flag_that_is_not_there(admin: Admin) -> None:
    for call in (admin.delete_flag("voice"), admin.decide(User("x"), "voice")):
        with pytest.raises(TalkmeshError) as caught:
            await call
        assert caught.value.code == "NOT_FOUND"


def run(address: str, *words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["--address", address, "experiment", *words])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


async def test_the_command(address: str, admin: Admin, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "voice.json"
    file.write_text(text(enrolled=[[0, 10_000]]))

    async def talkmesh(*words: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(run, address, *words, capsys=capsys)

    code, out, _ = await talkmesh("put", "voice", str(file), "--reason", "begin")
    assert (code, out.startswith("voice: stands at revision")) == (0, True)
    assert (await talkmesh("ramp", "voice", "25"))[1] == "voice: 1 % → 25 %\n"
    code, _, err = await talkmesh("ramp", "voice", "5")
    assert (code, "--shrink" in err) == (1, True)
    await known(admin)
    code, out, _ = await talkmesh("explain", "--user", "x", "--attribute", "country=US")
    assert "is not meant by the rule" in out
    assert (await talkmesh("stop", "voice"))[1] == "voice: off\n"
    code, out, _ = await talkmesh("status", "--json")
    (shown,) = json.loads(out)
    assert (shown["value"]["state"], shown["value"]["enrolled"]) == ("off", [[0, 250_000]])
    assert "25 %" in (await talkmesh("status"))[1]
    assert (await talkmesh("put", "voice", str(file), "--expect", "1"))[0] == 5
    assert (await talkmesh("create", "voice", str(file)))[0] == 5
    assert (await talkmesh("create", "other", str(file)))[0] == 0
    assert (await talkmesh("remove", "voice"))[1] == "voice: removed\n"
    assert (await talkmesh("stop", "voice"))[0] == 1
