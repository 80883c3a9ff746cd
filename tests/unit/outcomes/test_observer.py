"""What happens to a session is told once to all who want to know, and of people no more than was asked for."""

import json
from typing import Any

import pytest

from gateway.experiments.guard import Guard
from gateway.experiments.registry import FLAGS, Registry
from gateway.experiments.sessions import given
from gateway.metrics import Metrics
from gateway.outcomes.arms import fingerprint, hashed
from gateway.outcomes.observer import Keeping, Observer
from gateway.outcomes.ratings import Ratings
from gateway.outcomes.records import Exposure, Feedback, Given, Record, Turn
from gateway.sessions import Session
from services.runtime.errors import InvalidInput, NotFound, Refused
from services.runtime.etcd import Changes, Event, KeyValue
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.model.v1 import model_pb2

VOICE: dict[str, Any] = {
    "owner": "me",
    "variants": {"heart": {}, "joe": {"slots": {"tts": "candidate"}}},
    "control": "heart",
    "enrolled": [[0, 1_000_000]],
}
DONE = conversation_pb2.TurnDone(
    outcome=conversation_pb2.OUTCOME_COMPLETED,
    user_text="my secret",
    reply_text="your secret",
    waterfall=conversation_pb2.Waterfall(first_audio_ms=410.0, longest_gap_ms=3.0),
    models=[model_pb2.ServingModel(service="llm", model="small"), model_pb2.ServingModel(service="tts", model="joe")],
)

NOBODY: dict[str, Session] = {}


class World:
    """A gateway's experiments, and all that is told about its sessions."""

    def __init__(self, **keeping: Any) -> None:
        self.records: list[Record] = []
        self.told: list[tuple[bool, dict[str, float]]] = []
        self.serving = "joe@1"
        self.registry = Registry(lambda service, slot: True, lambda service, slot: self.serving)
        self.write(VOICE)
        self.metrics = Metrics()
        self.guard = Guard(self.registry, None, lambda work: pytest.fail("nothing is to be written"))
        ended = self.guard.ended

        def told(session: Session, failed: bool, times: Any = None) -> None:
            self.told.append((failed, dict(times or {})))
            ended(session, failed, times)

        self.guard.ended = told  # type: ignore[method-assign]  # to see what it is told
        self.keeps = Keeping(self.records.append, **keeping)
        self.observer = Observer(self.metrics, self.guard, self.registry, self.keeps)

    def write(self, value: dict[str, Any]) -> None:
        kv = KeyValue(f"{FLAGS}voice", json.dumps(value), mod_revision=1)
        self.registry.take(FLAGS, Changes(1, (Event(kv),)))

    def session(self, user: str = "alice") -> Session:
        session, who = Session("session-id"), conversation_pb2.Who(user_id=user)
        given(session, who, self.registry)
        self.observer.opened(session, who)
        return session

    def turns(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("talkmesh_gateway_turns_total", {"outcome": outcome}) or 0.0

    async def given_to(self, session_id: str) -> list[tuple[str, str]] | None:
        return [("voice", "joe")] if session_id == "forgotten" else None


def test_a_session_is_exposed_once_and_its_user_is_a_hash() -> None:
    world = World()
    session = world.session()
    world.observer.opened(session, conversation_pb2.Who(user_id="alice"))
    (found,) = world.records
    assert isinstance(found, Exposure)
    assert (found.session, found.flag, found.reason, found.unit_kind) == ("session-id", "voice", "SPLIT", "user")
    assert found.unit == hashed("alice") != hashed("bob")
    assert found.arms == fingerprint(world.registry, "voice")
    assert "alice" not in repr(found)


def test_users_are_as_it_was_asked_for() -> None:
    for keeping, unit in (({"users": True}, "alice"), ({"key": b"k"}, hashed("alice", b"k"))):
        world = World(**keeping)
        world.session()
        assert [each.unit for each in world.records if isinstance(each, Exposure)] == [unit]
    assert hashed("alice", b"k") != hashed("alice", b"l") != hashed("alice")


def test_who_takes_part_in_nothing_is_not_exposed() -> None:
    world = World()
    world.write(VOICE | {"enrolled": []})
    session = world.session()
    world.observer.ended(session, "session--1", DONE)
    (found,) = world.records
    assert isinstance(found, Turn) and found.given == ()


def test_a_turn_is_told_with_its_times_and_without_its_words() -> None:
    world = World()
    session = world.session()
    world.observer.ended(session, "session--1", DONE)
    _, found = world.records
    assert isinstance(found, Turn) and session.assigned
    assert (found.turn, found.outcome, found.first_audio_ms, found.first_video_ms, found.gap_ms) == (
        "session--1",
        "completed",
        410.0,
        None,
        3.0,
    )
    assert found.models == "llm=small tts=joe"
    assert found.given == (Given("voice", session.assigned.decisions[0].variant, "SPLIT"),)
    assert "secret" not in repr(world.records)
    assert world.told == [(False, {"first_audio_ms": 410.0, "gap_ms": 3.0})]
    assert world.turns("completed") == 1


def test_words_are_kept_where_it_was_asked_for() -> None:
    world = World(texts=True)
    world.observer.ended(world.session(), "session--1", DONE)
    found = world.records[-1]
    assert isinstance(found, Turn) and (found.user_text, found.reply_text) == ("my secret", "your secret")


def test_a_turn_that_failed_is_the_variants_and_the_next_is_not() -> None:
    world = World()
    session = world.session()
    world.observer.broken(session, "session--1", abandoned=False)
    world.observer.ended(session, "session--2", DONE)
    turns = [each for each in world.records if isinstance(each, Turn)]
    assert [(each.outcome, len(each.given)) for each in turns] == [("failed", 1), ("completed", 0)]
    assert [failed for failed, _ in world.told] == [True, False]


def test_what_did_not_begin_has_failed_the_session_before_any_turn() -> None:
    world = World()
    session = world.session()
    world.observer.lost(session)
    found = world.records[-1]
    assert isinstance(found, Turn)
    assert (found.turn, found.outcome, len(found.given)) == ("session--0", "not_begun", 1)
    assert world.told == [(True, {})]
    assert world.turns("failed") == 0, "no turn was lost"


def test_a_turn_that_came_to_its_end_is_not_told_again_when_its_client_leaves() -> None:
    world = World()
    session = world.session()
    world.observer.ended(session, "session--1", DONE)
    world.observer.broken(session, "session--1", abandoned=True)
    assert len(world.records) == 2
    world.observer.broken(session, "session--2", abandoned=True)
    assert isinstance(world.records[-1], Turn) and world.records[-1].outcome == "abandoned"
    assert (world.turns("completed"), world.turns("abandoned")) == (1, 1)
    assert [failed for failed, _ in world.told] == [False], "who leaves is no failure"


def test_a_ramp_keeps_the_arms_and_everything_else_makes_new_ones() -> None:
    world = World()
    before = fingerprint(world.registry, "voice")
    world.write(VOICE | {"enrolled": [[0, 5]], "state": "held", "description": "x", "guardrails": []})
    assert fingerprint(world.registry, "voice") == before
    assert fingerprint(World().registry, "voice") == before, "in another gateway, too"
    found = {before}
    for changes in (
        {"salt": "x"},
        {"control": "joe"},
        {"units": ["session"]},
        {"arms": {"heart": [[0, 9]], "joe": [[9, 99]]}},
        {"variants": {"heart": {}, "joe": {"slots": {"tts": "other"}}}},
    ):
        world.write(VOICE | changes)
        found.add(fingerprint(world.registry, "voice"))
    world.write(VOICE)
    world.serving = "ann@2"
    found.add(fingerprint(world.registry, "voice"))
    assert len(found) == 7
    world.serving = "joe@9"
    assert fingerprint(world.registry, "voice") == before, "the same model, loaded again"
    world.serving = ""
    assert fingerprint(world.registry, "voice") == before, "a host that is away for a moment changes nothing"


# --- ratings --------------------------------------------------------------------------------------------------------


def rated(world: World, **labels: str) -> float:
    return world.metrics.registry.get_sample_value("talkmesh_gateway_ratings_total", labels) or 0.0


async def test_feedback_is_kept_without_its_words_and_counted_by_variant() -> None:
    world = World()
    session = world.session()
    assert session.assigned
    variant = session.assigned.decisions[0].variant
    ratings = Ratings({session.id: session}.get, world.metrics, world)
    for score in (1, 0.5, 0, -1):
        await ratings.take(session.id, score, comment="my secret")
    await ratings.take("forgotten", 1)
    found = [each for each in world.records if isinstance(each, Feedback)]
    assert [(each.session, each.score, each.comment) for each in found] == [
        *((session.id, score, None) for score in (1, 0.5, 0, -1)),
        ("forgotten", 1, None),
    ]
    assert len({each.id for each in found}) == 5
    assert rated(world, flag="voice", variant=variant, rating="good") == 2 + (variant == "joe")
    assert rated(world, flag="voice", variant=variant, rating="neutral") == 1
    assert rated(world, flag="voice", variant=variant, rating="bad") == 1


async def test_feedback_that_cannot_be_is_neither_kept_nor_counted() -> None:
    world = World()
    ratings = Ratings(NOBODY.get, world.metrics, world)
    for arguments, field in (
        (("", 1), "session_id"),
        (("x" * 101, 1), "session_id"),
        (("a\nb", 1), "session_id"),
        (("a", 2), "score"),
        (("a", float("nan")), "score"),
        (("session-id", 1, "other-1"), "turn_id"),
        (("session-id", 1, "session-\n"), "turn_id"),
        (("a", 1, "", "x" * 2001), "comment"),
        (("a", 1, "", "\ud800"), "comment"),
    ):
        with pytest.raises(InvalidInput) as caught:
            await ratings.take(*arguments)
        assert caught.value.field == field
    with pytest.raises(NotFound):
        await ratings.take("nobody", 1)
    with pytest.raises(Refused, match="outcomes-folder"):
        await Ratings(NOBODY.get, world.metrics, None).take("nobody", 1)
    assert world.records == []
