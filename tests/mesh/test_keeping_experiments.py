"""Experiments that grow, trip and are promoted, on a real etcd that several gateways share."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from gateway.experiments.control import FlagControl
from gateway.experiments.guard import Guard
from gateway.experiments.keeping import keep
from gateway.experiments.leader import LEADER, lead
from gateway.experiments.registry import FLAGS, Registry
from gateway.experiments.tallies import TALLIES
from gateway.experiments.verdicts import VERDICTS, Verdict
from gateway.sessions import Session
from services.runtime import desired
from services.runtime.errors import Outrun
from services.runtime.etcd import Compare, Etcd, connected, etcd_settings
from talkmesh import TalkmeshError, User
from talkmesh.cli import main
from talkmesh.control import Admin
from tests.fakes.operators import control_plane, write_catalog
from tools.etcd import running_etcd

VOICE: dict[str, Any] = {
    "owner": "me",
    "variants": {"heart": {}, "joe": {"slots": {"tts": "candidate"}}},
    "control": "heart",
    "ramp": {"percent": [1, 5, 100], "least_exposures": 3, "soak_s": 0},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with running_etcd(tmp_path_factory.mktemp("keeping") / "etcd", sync=False) as server:
        yield server.endpoint


@pytest.fixture
async def etcd(server: str) -> AsyncIterator[Etcd]:
    async with connected(etcd_settings(server)) as etcd:
        await etcd.delete(desired.PREFIX, prefix=True)
        yield etcd


@dataclass
class Gateway:
    """A gateway's experiments, without its mesh."""

    name: str
    registry: Registry
    guard: Guard
    served: dict[str, str]
    troubles: dict[str, str]
    sessions: int = 0
    variants: dict[str, int] = field(default_factory=dict)

    def talk(self, most: int = 1) -> None:
        """Sessions of new users, with a turn each."""
        for _ in range(most):
            self.sessions += 1
            session = Session(f"{self.name}-{self.sessions}")
            session.assigned = self.registry.assign({"user": session.id}, {})
            for decision in session.assigned.decisions:
                self.variants[decision.variant] = self.variants.get(decision.variant, 0) + 1
            self.guard.ended(session, failed=False)


@asynccontextmanager
async def gateway(server: str, name: str = "one") -> AsyncIterator[Gateway]:
    served, troubles = {"stable": "heart@1", "candidate": "joe@2"}, dict[str, str]()
    async with connected(etcd_settings(server)) as etcd, asyncio.TaskGroup() as group:
        registry = Registry(lambda service, slot: bool(served.get(slot)), lambda service, slot: served.get(slot, ""))
        flags = FlagControl(etcd, registry)
        guard = Guard(registry, flags, group.create_task, name)
        kept = group.create_task(keep(etcd, flags, guard, lambda service, slot: troubles.get(slot, ""), name))
        try:
            yield Gateway(name, registry, guard, served, troubles)
        finally:
            kept.cancel()


async def until(holds: Callable[[], Any], each: Callable[[], None] = lambda: None) -> Any:
    async with asyncio.timeout(40):
        while not (found := await holds()):
            each()
            await asyncio.sleep(0.05)
    return found


async def verdicts(etcd: Etcd) -> list[Verdict]:
    return [Verdict.model_validate_json(each.value) for each in (await etcd.list(VERDICTS)).kvs]


async def flag(etcd: Etcd) -> dict[str, Any]:
    found = await etcd.get(f"{FLAGS}voice")
    assert found
    value: dict[str, Any] = json.loads(found.value)
    return value


async def put(etcd: Etcd, **fields: Any) -> None:
    await etcd.put(f"{FLAGS}voice", json.dumps(VOICE | fields))


async def test_a_ramp_grows_step_by_step_and_says_why(server: str, etcd: Etcd) -> None:
    await put(etcd)
    async with gateway(server) as one:

        async def is_everybody() -> bool:
            return (await flag(etcd)).get("enrolled") == [[0, 1_000_000]]

        await until(is_everybody, lambda: one.talk(60))
        found = await verdicts(etcd)
    assert [verdict.numbers["percent"] for verdict in found] == [1, 5, 100]
    assert all(verdict.action == "ramp" and verdict.gateway == "one" for verdict in found)
    for verdict in found[1:]:
        assert min(arm["sessions"] for arm in verdict.arms.values()) >= 3, (
            "each arm had what was asked for, in each step"
        )
    assert "nothing was wrong" in (await flag(etcd))["reason"]


async def test_sessions_of_all_gateways_count_and_only_one_leads(server: str, etcd: Etcd) -> None:
    await put(etcd, enrolled=[[0, 500_000]], ramp={"percent": [50, 100], "least_exposures": 30, "soak_s": 0})
    async with gateway(server, "one") as one, gateway(server, "two") as two:

        async def leads() -> str:
            return found.value if (found := await etcd.get(LEADER)) else ""

        leader = await until(leads)
        follower = two if leader == "one" else one

        async def knows() -> bool:
            return "voice" in follower.registry.names

        await until(knows)
        follower.talk(200)
        assert min(follower.variants.values()) >= 30

        async def is_everybody() -> bool:
            return (await flag(etcd)).get("enrolled") == [[0, 1_000_000]]

        # Those who came before the leader looked at the step are not of it.
        await until(is_everybody, lambda: follower.talk(5))
        assert len(await verdicts(etcd)) == 1
        assert (await etcd.list(TALLIES)).count >= 1


async def test_no_ramp_without_sessions_or_time_or_when_it_is_held(server: str, etcd: Etcd) -> None:
    await put(etcd, enrolled=[[0, 500_000]], ramp={"percent": [50, 100], "least_exposures": 1, "soak_s": 3_600})
    await etcd.put(f"{FLAGS}quiet", json.dumps(VOICE | {"enrolled": [[0, 500_000]], "rule": 'country == "CN"'}))
    await etcd.put(f"{FLAGS}still", json.dumps(VOICE | {"enrolled": [[0, 500_000]], "state": "held"}))
    async with gateway(server) as one:
        for _ in range(25):
            one.talk(10)
            await asyncio.sleep(0.1)
    assert not await verdicts(etcd)


async def test_a_leader_that_was_stopped_changes_nothing_when_it_wakes(etcd: Etcd) -> None:
    await put(etcd, enrolled=[[0, 10_000]])
    fences: list[Compare] = []

    async def work(fence: Compare) -> None:
        fences.append(fence)
        await asyncio.Event().wait()

    async def leads() -> bool:
        return bool(fences)

    registry = Registry(lambda service, slot: True)
    control, growth = FlagControl(etcd, registry), {"enrolled": [[0, 50_000]]}
    verdict = Verdict(flag="voice", action="ramp", state="on", reason="enough")
    async with etcd.lease(5) as lease:
        leading = asyncio.create_task(lead(etcd, lease, "old", work, LEADER))
        await until(leads)
        # Its lease runs out while it stands still in the midst of a verdict, and another leads.
        await etcd.delete(LEADER)
        async with etcd.lease(5) as next_lease:
            following = asyncio.create_task(lead(etcd, next_lease, "new", work, LEADER))

            async def follows() -> bool:
                return len(fences) == 2

            await until(follows)
            with pytest.raises(Outrun):
                await control.decided(verdict, actor="ramp", changes=growth, fence=[fences[0]])
            assert not await verdicts(etcd), "a verdict stands with what it changes or not at all"
            assert await control.decided(verdict, actor="ramp", changes=growth, fence=[fences[1]])
            following.cancel()
        leading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leading
    assert (await flag(etcd))["enrolled"] == [[0, 50_000]]
    assert len(await verdicts(etcd)) == 1


async def test_a_variant_that_is_not_served_any_more_is_off_at_once(server: str, etcd: Etcd) -> None:
    await put(etcd, enrolled=[[0, 1_000_000]], ramp=None)
    async with gateway(server) as one:

        async def knows() -> bool:
            return "voice" in one.registry.names

        await until(knows)
        await asyncio.sleep(0.6)
        one.troubles.update(stable="the host is gone", candidate="the host is gone")
        await asyncio.sleep(4)
        assert not await verdicts(etcd), "a service in trouble is no variant's fault"
        one.troubles.clear()
        await asyncio.sleep(0.6)
        one.troubles["candidate"] = "crash loop: exit code -9"

        async def is_off() -> bool:
            return (await flag(etcd)).get("state") == "off"

        await until(is_off)
    (verdict,) = await verdicts(etcd)
    assert (verdict.action, verdict.variant, verdict.models) == ("trip", "joe", {"tts": "joe"})
    assert "crash loop: exit code -9" in verdict.reason


async def test_a_slot_that_its_hosts_took_back_ends_what_compares_it(server: str, etcd: Etcd) -> None:
    await put(etcd, enrolled=[[0, 1_000_000]], ramp=None)
    async with gateway(server) as one:

        async def knows() -> bool:
            return "voice" in one.registry.names

        await until(knows)
        await asyncio.sleep(0.6)
        wish = {"model": "ann", "cause": "crash loop", "reason": "crash loop: exit code 1"}
        await etcd.put(desired.slot_key("tts", "candidate"), json.dumps(wish))
        one.served["candidate"] = "ann@3"

        async def is_off() -> bool:
            return (await flag(etcd)).get("state") == "off"

        await until(is_off)
    assert "went back to ann" in (await verdicts(etcd))[0].reason


async def test_gateways_whose_clocks_are_five_minutes_apart(server: str, etcd: Etcd) -> None:
    await put(etcd, enrolled=[[0, 1_000_000]], ramp=None)
    async with gateway(server, "early") as early, gateway(server, "late") as late:

        async def know() -> bool:
            return "voice" in early.registry.names and "voice" in late.registry.names

        await until(know)
        now = time.time()
        for number in range(300):
            one, other = (
                each.registry.assign({"user": str(number)}, {}, at) for each, at in ((early, now), (late, now + 300))
            )
            assert one.decisions == other.decisions
        now_ms = round(1000 * now)
        for name, at_ms, state in (("late", now_ms + 300_000, "held"), ("early", now_ms, "off")):
            verdict = Verdict(flag="voice", action="hold", state=state, reason=name, gateway=name, at_ms=at_ms)
            assert await FlagControl(etcd, early.registry).decided(verdict, actor="guardrail")
        told = await FlagControl(etcd, late.registry).verdicts("voice")
    assert [each.gateway for each in told] == ["early", "late"], "the newest first, whatever the clocks say"


@pytest.fixture
async def admin(etcd: Etcd) -> AsyncIterator[Admin]:
    await write_catalog(etcd)
    async with control_plane(etcd) as (address, _), Admin(address, actor="alice") as admin:
        yield admin


async def running(admin: Admin, **fields: Any) -> None:
    await admin.set_flag("voice", json.dumps(VOICE | {"ramp": None, "enrolled": [[0, 1_000_000]]} | fields))

    async def known() -> bool:
        with contextlib.suppress(TalkmeshError):
            return bool(await admin.decide(User("x"), "voice"))
        return False

    await until(known)


async def test_a_winner_is_what_everybody_gets_in_one_transaction(admin: Admin, etcd: Etcd) -> None:
    await admin.set_slot("tts", "heart")
    await admin.set_slot("tts", "joe", "candidate")
    await running(admin)
    (change,) = await admin.promote("voice", "joe", reason="warmer")
    assert (change.service, change.slot, change.model, change.model_before, change.actor) == (
        *("tts", "stable", "joe", "heart"),
        "alice",
    )
    stable, written = await etcd.get(desired.slot_key("tts")), await etcd.get(f"{FLAGS}voice")
    assert stable and written and stable.mod_revision == written.mod_revision
    assert (await flag(etcd))["state"] == "off"
    (verdict,) = await admin.verdicts("voice")
    assert (verdict.action, verdict.variant, dict(verdict.models)) == ("promote", "joe", {"tts": "joe"})
    (history, _) = (await admin.history("tts"))[:2]
    assert (history.model, history.reason) == ("joe", "warmer")


@pytest.mark.parametrize(
    ("named", "variant", "code"),
    [
        ("voice", "leo", "NOT_FOUND"),
        ("other", "joe", "NOT_FOUND"),
        ("voice", "../joe", "INVALID_ARGUMENT"),
        ("voice", "joe", "FAILED_PRECONDITION"),
    ],
)
async def test_what_cannot_be_promoted(admin: Admin, etcd: Etcd, named: str, variant: str, code: str) -> None:
    await admin.set_slot("tts", "heart")
    await admin.set_slot("tts", "joe", "candidate")
    await running(admin)
    await admin.veto("tts", "joe")
    before = (await etcd.list(desired.PREFIX)).revision
    with pytest.raises(TalkmeshError) as caught:
        await admin.promote(named, variant)
    assert caught.value.code == code
    assert (await etcd.list(desired.PREFIX)).revision == before, "nothing is written"


async def test_the_command_promotes_and_tells_what_was_decided(
    admin: Admin, etcd: Etcd, capsys: pytest.CaptureFixture[str]
) -> None:
    await admin.set_slot("tts", "heart")
    await admin.set_slot("tts", "joe", "candidate")
    await running(admin)

    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["--address", admin.address, "experiment", *words])
        assert not ended.value.code
        return capsys.readouterr().out

    said = await asyncio.to_thread(run, "promote", "voice", "joe", "--reason", "warmer")
    assert said == "voice: off; tts/stable wants joe\n"
    assert "promote" in await asyncio.to_thread(run, "verdicts")
    (found,) = json.loads(await asyncio.to_thread(run, "verdicts", "voice", "--json"))
    assert (found["action"], found["reason"], found["models"]) == ("promote", "warmer", {"tts": "joe"})
