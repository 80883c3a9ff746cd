"""What a gateway makes of the flags in etcd, and what sessions get of it."""

import json
from types import MappingProxyType
from typing import Any

import pytest

from gateway.experiments.assignment import Reason
from gateway.experiments.registry import BUNDLES, FLAGS, MOST_CHARS, Registry, of_user
from services.runtime.errors import InvalidInput
from services.runtime.etcd import Away, Back, Changes, Event, KeyValue, Snapshot
from talkmesh.conversation.v1 import conversation_pb2

EVERYBODY = [[0, 1_000_000]]
VOICE = {
    "owner": "me",
    "variants": {"heart": {}, "joe": {"slots": {"tts": "candidate"}}},
    "control": "heart",
    "arms": {"heart": [], "joe": EVERYBODY},
    "enrolled": EVERYBODY,
}


class Etcd:
    """What a test has written, told to a registry."""

    def __init__(self) -> None:
        self.served: set[tuple[str, str]] = {("tts", "candidate")}
        self.registry = Registry(lambda service, slot: (service, slot) in self.served)
        self._revision = 0

    def put(self, name: str, value: Any, prefix: str = FLAGS) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        self._tell(prefix, Event(self._kv(prefix + name, text)))

    def delete(self, name: str, prefix: str = FLAGS) -> None:
        self._tell(prefix, Event(self._kv(prefix + name), deleted=True))

    def listing(self, **flags: Any) -> None:
        """As after a reconnection: all there is."""
        kvs = {FLAGS + name: self._kv(FLAGS + name, json.dumps(value)) for name, value in flags.items()}
        self.registry.take(FLAGS, Snapshot(self._revision, MappingProxyType(kvs)))

    def _tell(self, prefix: str, event: Event) -> None:
        self.registry.take(prefix, Changes(self._revision, (event,)))

    def _kv(self, key: str, text: str = "") -> KeyValue:
        self._revision += 1
        return KeyValue(key, text, mod_revision=self._revision)

    def variant(self, user: str = "alice") -> dict[str, str]:
        assigned = self.registry.assign({"user": user}, {}, 0.0)
        return {decision.flag: decision.variant for decision in assigned.decisions}


@pytest.fixture
def etcd() -> Etcd:
    return Etcd()


def test_a_session_gets_a_slot_and_keeps_its_variant(etcd: Etcd) -> None:
    etcd.put("voice", VOICE)
    assigned = etcd.registry.assign({"user": "alice"}, {})
    assert etcd.registry.slots(assigned) == {"tts": "candidate"}
    assert [(each.flag, each.variant, each.reason) for each in assigned.protos()] == [("voice", "joe", "SPLIT")]
    etcd.put("voice", VOICE | {"enrolled": []})
    assert etcd.registry.slots(assigned) == {"tts": "candidate"}, "an edit moves nobody who is there"
    assert etcd.variant() == {}


@pytest.mark.parametrize("back", ["off", "deleted"])
def test_a_flag_that_is_taken_back_gives_nothing_more_to_those_who_had_it(etcd: Etcd, back: str) -> None:
    etcd.put("voice", VOICE)
    assigned = etcd.registry.assign({"user": "alice"}, {})
    if back == "off":
        etcd.put("voice", VOICE | {"state": "off"})
    else:
        etcd.delete("voice")
    assert etcd.registry.slots(assigned) == {}
    assert etcd.variant() == {}


def test_nobody_of_any_arm_is_enrolled_before_all_is_there(etcd: Etcd) -> None:
    etcd.served.clear()
    etcd.put("voice", VOICE | {"arms": {}})
    found = [etcd.registry.decide("voice", {"user": str(number)}, {}, 0.0) for number in range(20)]
    assert {(each.variant, each.reason) for each in found} == {("", Reason.DISABLED)}
    assert "slot 'candidate' of tts is not served by every host" in found[0].why
    etcd.served.add(("tts", "candidate"))
    assert len({etcd.variant(str(number))["voice"] for number in range(20)}) == 2


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("{", "value"),
        ("x" * (MOST_CHARS + 1), "value"),
        (VOICE | {"control": "leo"}, "value"),
        (VOICE | {"enrolled": [[0, 2_000_000]]}, "enrolled"),
        (VOICE | {"rule": "contry == 'CN'"}, "rule"),
        (VOICE | {"colour": 1}, "colour"),
    ],
)
def test_a_bad_value_is_told_of_and_changes_nothing(etcd: Etcd, value: Any, field: str) -> None:
    etcd.put("voice", VOICE)
    etcd.put("voice", value)
    assert etcd.variant() == {"voice": "joe"}
    assert etcd.registry.problems[f"{FLAGS}voice"].startswith(field)
    etcd.put("voice", VOICE)
    assert not etcd.registry.problems


def test_flags_about_one_service_do_not_meet_in_a_session(etcd: Etcd) -> None:
    etcd.put("b", VOICE)
    etcd.put("a", VOICE)
    etcd.put("c", VOICE | {"variants": {"heart": {}, "joe": {"slots": {"llm": "candidate"}}}})
    etcd.served.add(("llm", "candidate"))
    assert etcd.variant() == {"a": "joe", "c": "joe"}


def test_a_layer_is_claimed_once(etcd: Etcd) -> None:
    etcd.put("one", VOICE | {"layer": {"name": "voices", "ranges": [[0, 600_000]]}})
    etcd.put("two", VOICE | {"layer": {"name": "voices", "ranges": [[500_000, 900_000]]}})
    assert "both claim buckets of 'voices'" in etcd.registry.problems[f"{FLAGS}two"]


def test_bundles(etcd: Etcd) -> None:
    etcd.put("voice", VOICE | {"variants": {"heart": {}, "joe": {"bundle": "new"}}})
    assert etcd.variant() == {}
    assert "no bundle 'new'" in etcd.registry.decide("voice", {"user": "x"}, {}).why
    etcd.put("new", {"slots": {"tts": "candidate", "render": "big"}}, BUNDLES)
    assert "slot 'big' of render" in etcd.registry.decide("voice", {"user": "x"}, {}).why
    etcd.served.add(("render", "big"))
    assigned = etcd.registry.assign({"user": "x"}, {})
    assert etcd.registry.slots(assigned) == {"tts": "candidate", "render": "big"}


def test_without_etcd_everything_goes_on_and_is_called_stale(etcd: Etcd) -> None:
    etcd.put("voice", VOICE)
    etcd.registry.take(FLAGS, Away("gone"))
    assigned = etcd.registry.assign({"user": "alice"}, {})
    assert [each.reason for each in assigned.protos()] == ["STALE"]
    etcd.registry.take(FLAGS, Back(9))
    assert [each.reason for each in etcd.registry.assign({"user": "alice"}, {}).protos()] == ["SPLIT"]


def test_what_was_deleted_while_nobody_looked_is_gone(etcd: Etcd) -> None:
    etcd.put("voice", VOICE)
    etcd.put("face", VOICE)
    etcd.listing(face=VOICE)
    assert etcd.variant() == {"face": "joe"}


def test_who_talks() -> None:
    who = conversation_pb2.Who(user_id="alice", attributes={"country": "CN", "turns": "3"}, tags=["beta"])
    units, attributes = of_user(who, "s-1")
    assert units == {"user": "alice", "device": "", "session": "s-1"}
    assert attributes == {"user": "alice", "country": "CN", "turns": 3.0, "tags": frozenset({"beta"})}


@pytest.mark.parametrize(
    ("who", "field"),
    [
        (conversation_pb2.Who(attributes={"contry": "CN"}), "who.attributes['contry']"),
        (conversation_pb2.Who(attributes={"turns": "many"}), "who.attributes['turns']"),
        (conversation_pb2.Who(attributes={"user": "x"}), "who.attributes['user']"),
        (conversation_pb2.Who(user_id="x" * 201), "who.user_id"),
        (conversation_pb2.Who(attributes={"city": "x" * 201}), "who.city"),
        (conversation_pb2.Who(tags=["x"] * 101), "who.tags"),
    ],
)
def test_attributes_that_cannot_be_are_refused_by_name(who: conversation_pb2.Who, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        of_user(who, "s-1")
    assert caught.value.field == field
