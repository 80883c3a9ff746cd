"""Variants that fail are taken back, by the numbers that are on record."""

import asyncio
import json
import random
from typing import Any

from gateway.experiments.guard import Guard
from gateway.experiments.registry import FLAGS, Assigned, Registry
from gateway.experiments.trial import share_of
from gateway.experiments.verdicts import Verdict
from gateway.sessions import Session
from services.runtime.errors import Unavailable
from services.runtime.etcd import Changes, Event, KeyValue

EVERYBODY = [[0, 1_000_000]]
VOICE: dict[str, Any] = {
    "owner": "me",
    "variants": {"heart": {}, "joe": {"slots": {"tts": "candidate"}}},
    "control": "heart",
    "enrolled": EVERYBODY,
}


class Control:
    """A FlagControl that writes into a Mesh."""

    def __init__(self, mesh: "Mesh") -> None:
        self.decided = mesh.decided


class Mesh:
    """Sessions, a registry that follows what is written, and a control plane that may be slow to be reached."""

    def __init__(self, **fields: Any) -> None:
        self.served = {"stable": "heart@1", "candidate": "joe@2"}
        self.registry = Registry(lambda service, slot: True, lambda service, slot: self.served[slot])
        self.verdicts: list[Verdict] = []
        self.written: list[tuple[dict[str, Any], str, str]] = []
        self.troubles: list[Exception] = []
        self.revision = 0
        self.sessions = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.guard = Guard(self.registry, Control(self), self.spawn)  # type: ignore[arg-type]  # what a guard calls
        self.write(VOICE | fields)

    def spawn(self, work: Any) -> "asyncio.Task[None]":
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    def write(self, value: dict[str, Any]) -> None:
        self.revision += 1
        self.text = json.dumps(value)
        kv = KeyValue(f"{FLAGS}voice", self.text, mod_revision=self.revision)
        self.registry.take(FLAGS, Changes(self.revision, (Event(kv),)))

    # As FlagControl.

    async def decided(self, verdict: Verdict, *, actor: str) -> bool:
        if self.troubles:
            raise self.troubles.pop()
        value = json.loads(self.text) | {"state": verdict.state}
        self.verdicts.append(verdict)
        self.written.append((value, actor, verdict.reason))
        self.write(value)
        return True

    def session(self) -> Session:
        self.sessions += 1
        session = Session(f"session-{self.sessions}")
        session.assigned = self.registry.assign({"user": session.id}, {}, 0.0)
        return session

    def variant(self, session: Session) -> str:
        return next((decision.variant for decision in session.assigned.decisions), "") if session.assigned else ""

    async def settle(self) -> None:
        await asyncio.gather(*self.tasks)


def talk(mesh: Mesh, chance: random.Random, rates: dict[str, float], most: int) -> int:
    """New sessions with a turn each, until the flag is off; how many of them were joe's."""
    joe = 0
    for _ in range(most):
        session = mesh.session()
        variant = mesh.variant(session)
        if not variant:
            break
        joe += variant == "joe"
        mesh.guard.ended(session, chance.random() < rates[variant])
    return joe


async def test_a_variant_that_always_fails_is_off_after_a_dozen_of_its_sessions() -> None:
    mesh = Mesh()
    joe = talk(mesh, random.Random(1), {"heart": 0.0, "joe": 1.0}, 200)
    assert 10 <= joe <= 16
    await mesh.settle()
    value, actor, reason = mesh.written[-1]
    assert (value["state"], actor) == ("off", "guardrail")
    assert f"turns failed in {joe} of {joe} sessions with joe, in 0 of " in reason
    assert "alpha 0.001" in reason
    assert value | {"state": "on"} == VOICE | {"state": "on"}, "nothing else of it is touched"


async def test_it_is_off_here_at_once_even_if_nobody_can_be_told() -> None:
    mesh = Mesh()
    mesh.troubles = [Unavailable("etcd is away")] * 2
    talk(mesh, random.Random(1), {"heart": 0.0, "joe": 1.0}, 200)
    assert not mesh.written
    assert mesh.variant(mesh.session()) == ""
    for task in mesh.tasks:
        task.cancel()


async def test_equal_arms_are_left_alone() -> None:
    mesh = Mesh(guardrails=[{"metric": "turn_failed", "alpha": 0.001, "action": "roll back"}])
    talk(mesh, random.Random(2), {"heart": 0.05, "joe": 0.05}, 4_000)
    assert mesh.sessions == 4_000
    assert not mesh.tasks


async def test_a_little_worse_is_held_before_it_is_off() -> None:
    mesh = Mesh()
    talk(mesh, random.Random(3), {"heart": 0.01, "joe": 0.15}, 600)
    await mesh.settle()
    assert [value["state"] for value, _, _ in mesh.written][:1] == ["held"]


async def test_a_control_that_fails_takes_nothing_back() -> None:
    mesh = Mesh()
    talk(mesh, random.Random(4), {"heart": 1.0, "joe": 0.0}, 200)
    assert mesh.sessions == 200
    assert not mesh.tasks


async def test_a_session_loses_one_turn_and_counts_once() -> None:
    mesh = Mesh()
    session = next(each for each in iter(mesh.session, None) if mesh.variant(each) == "joe")
    assert mesh.registry.slots(session.assigned or Assigned()) == {"tts": "candidate"}
    for _ in range(30):
        mesh.guard.ended(session, failed=True)
    assert mesh.registry.slots(session.assigned or Assigned()) == {}
    assert session.assigned and session.assigned.protos() == []
    trial = mesh.guard.trial("voice")
    assert trial and (trial.arms["joe"].sessions, trial.arms["joe"].failed) == (1, 1)
    assert not mesh.tasks


async def test_who_edits_meanwhile_is_not_overwritten() -> None:
    mesh = Mesh()
    talk(mesh, random.Random(1), {"heart": 0.0, "joe": 1.0}, 200)
    mesh.write(VOICE | {"description": "an edit"})
    await mesh.settle()
    value, _, _ = mesh.written[-1]
    assert (value["state"], value["description"]) == ("off", "an edit")


async def test_new_arms_are_judged_anew() -> None:
    mesh = Mesh()
    talk(mesh, random.Random(1), {"heart": 0.0, "joe": 1.0}, 200)
    await mesh.settle()
    mesh.write(VOICE | {"salt": "again"})
    joe = talk(mesh, random.Random(5), {"heart": 0.0, "joe": 1.0}, 200)
    assert 10 <= joe <= 16


def test_shares_are_those_of_the_two() -> None:
    flag = guarded_flag({"heart": [[0, 300]], "joe": [[300, 400]], "ann": [[400, 800]]})
    assert share_of(flag, "joe") == 0.25


def guarded_flag(arms: dict[str, Any]) -> Any:
    registry = Registry(lambda service, slot: True)
    variants: dict[str, Any] = {name: {} for name in arms}
    text = json.dumps(VOICE | {"variants": variants, "arms": arms})
    registry.take(FLAGS, Changes(1, (Event(KeyValue(f"{FLAGS}voice", text, mod_revision=1)),)))
    return registry.flag("voice")


def talk_at(mesh: Mesh, chance: random.Random, means: dict[str, float], most: int) -> int:
    """New sessions with a turn each, whose first audio comes around a mean; how many there were until it was not on."""
    for number in range(most):
        session = mesh.session()
        flag = mesh.registry.flag("voice")
        if not mesh.variant(session) or flag is None or flag.state != "on" or mesh.verdicts:
            return number
        mesh.guard.ended(session, False, {"first_audio_ms": chance.gauss(means[mesh.variant(session)], 100)})
    return most


def rail(**fields: Any) -> list[dict[str, Any]]:
    return [{"metric": "first_audio_ms", "alpha": 0.05, "action": "roll back"} | fields]


async def slow_until(mesh: Mesh, means: dict[str, float], most: int = 3_000) -> int:
    count = 0
    chance = random.Random(6)
    while count < most and not mesh.verdicts:
        count += talk_at(mesh, chance, means, 50)
        await mesh.settle()
    return count


async def test_a_variant_that_is_slower_is_taken_back_with_the_interval() -> None:
    mesh = Mesh(guardrails=rail())
    assert await slow_until(mesh, {"heart": 500, "joe": 600}) < 600
    (verdict,) = mesh.verdicts
    assert (verdict.action, verdict.state, verdict.variant, verdict.metric) == (
        "roll back",
        "off",
        "joe",
        "first_audio_ms",
    )
    assert verdict.numbers["low"] > 0
    assert 50 < verdict.numbers["effect"] < 150
    assert verdict.models == {"tts": "joe"}


async def test_slower_by_less_than_the_margin_is_no_harm() -> None:
    mesh = Mesh(guardrails=rail(margin=200))
    assert await slow_until(mesh, {"heart": 500, "joe": 600}, 2_000) == 2_000
    mesh = Mesh(guardrails=rail(percentile=95, margin=30))
    assert await slow_until(mesh, {"heart": 500, "joe": 650}) < 3_000
    assert "p95 of first_audio_ms" in mesh.verdicts[0].reason


async def test_failures_have_a_margin_too() -> None:
    mesh = Mesh(guardrails=[{"metric": "turn_failed", "alpha": 0.05, "action": "hold", "margin": 0.3}])
    talk(mesh, random.Random(3), {"heart": 0.01, "joe": 0.25}, 1_500)
    await mesh.settle()
    assert not mesh.verdicts
    talk(mesh, random.Random(3), {"heart": 0.01, "joe": 0.6}, 3_000)
    await mesh.settle()
    assert mesh.verdicts[0].state == "held"


async def test_a_veto_names_the_model_that_only_the_variant_had() -> None:
    mesh = Mesh(guardrails=[{"metric": "turn_failed", "alpha": 0.001, "action": "veto"}])
    talk(mesh, random.Random(1), {"heart": 0.0, "joe": 1.0}, 200)
    await mesh.settle()
    assert mesh.verdicts[0].vetoed == {"tts": "joe"}
    mesh = Mesh(guardrails=[{"metric": "turn_failed", "alpha": 0.001, "action": "veto"}])
    mesh.served["candidate"] = "heart@9"
    talk(mesh, random.Random(1), {"heart": 0.0, "joe": 1.0}, 200)
    await mesh.settle()
    assert mesh.verdicts[0].vetoed == {}, "what everybody has is not vetoed"


async def test_another_model_in_the_slot_is_judged_anew() -> None:
    mesh = Mesh()
    talk(mesh, random.Random(1), {"heart": 0.0, "joe": 1.0}, 12)
    before = mesh.guard.trial("voice")
    mesh.served["candidate"] = ""
    talk(mesh, random.Random(2), {"heart": 0.0, "joe": 0.0}, 2)
    assert mesh.guard.trial("voice") is before, "a host that is away for a moment changes nothing"
    mesh.served["candidate"] = "ann@3"
    talk(mesh, random.Random(2), {"heart": 0.0, "joe": 0.0}, 2)
    trial = mesh.guard.trial("voice")
    assert trial is not before
    assert trial and sum(arm.sessions for arm in trial.arms.values()) == 2


async def test_who_turns_it_on_again_begins_anew() -> None:
    mesh = Mesh()
    talk(mesh, random.Random(1), {"heart": 0.0, "joe": 1.0}, 200)
    await mesh.settle()
    mesh.write(VOICE)
    assert 10 <= talk(mesh, random.Random(1), {"heart": 0.0, "joe": 1.0}, 200) <= 16
    await mesh.settle()
    assert [verdict.state for verdict in mesh.verdicts].count("off") == 2


async def test_sessions_that_do_not_come_in_their_shares_hold_the_ramp() -> None:
    mesh, lost = Mesh(), random.Random(7)
    for _ in range(3_000):
        session = mesh.session()
        if mesh.variant(session) == "joe" and lost.random() < 0.3:
            continue  # never comes to the end of a turn
        mesh.guard.ended(session, False)
        await mesh.settle()
        if mesh.verdicts:
            break
    (verdict,) = mesh.verdicts
    assert (verdict.action, verdict.state, verdict.metric) == ("hold", "held", "sample_ratio")
    assert verdict.numbers["share_joe"] == 0.5


async def test_testers_are_not_counted() -> None:
    mesh = Mesh(forced={f"session-{number}": "joe" for number in range(1, 100)})
    talk(mesh, random.Random(1), {"heart": 0.0, "joe": 1.0}, 99)
    assert mesh.guard.trial("voice") is None
    assert not mesh.tasks
