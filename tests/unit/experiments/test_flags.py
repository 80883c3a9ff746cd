"""What may stand in etcd as an experiment."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.experiments.buckets import BUCKETS
from gateway.experiments.flags import Bundle, Flag, Layer, Variant, overlapping

GOOD: dict[str, Any] = {
    "owner": "voice team",
    "rule": 'country == "CN"',
    "variants": {"heart": {}, "joe": {"slots": {"tts": "candidate"}}},
    "control": "heart",
    "enrolled": [[0, 100_000]],
}


def flag(**changes: Any) -> Flag:
    return Flag.model_validate_json(json.dumps(GOOD | changes))


def test_a_flag_as_a_person_writes_it() -> None:
    made = flag()
    assert made.shares == {"heart": [(0, BUCKETS // 2)], "joe": [(BUCKETS // 2, BUCKETS)]}
    assert made.variants["joe"] == Variant(slots={"tts": "candidate"})
    assert [rail.action for rail in made.guardrails] == ["roll back", "hold"]


@pytest.mark.parametrize(
    ("changes", "where", "problem"),
    [
        ({"owner": ""}, "owner", "at least 1"),
        ({"colour": "red"}, "colour", "not permitted"),
        ({"rule": "contry == 'CN'"}, "rule", "'contry' is not known"),
        ({"variants": {"heart": {}}}, "variants", "at least 2"),
        ({"variants": {"heart": {}, "../x": {}}}, "variants", "match"),
        ({"variants": {"heart": {}, "joe": {"slots": {"voice": "candidate"}}}}, "slots", "'asr', 'llm'"),
        ({"variants": {"heart": {}, "joe": {"slots": {"tts": "a/b"}}}}, "slots", "match"),
        ({"variants": {"heart": {}, "joe": {"slots": {"tts": "b"}, "bundle": "c"}}}, "joe", "one of both"),
        ({"control": "leo"}, "", "variant 'leo' is not one of heart, joe"),
        ({"enrolled": [[0, 1_000_001]]}, "enrolled", "no range"),
        ({"enrolled": [[5, 5]]}, "enrolled", "no range"),
        ({"enrolled": [[0, 600_000], [500_000, 900_000]]}, "enrolled", "over 100 %"),
        ({"arms": {"heart": [[0, 600_000]], "joe": [[500_000, BUCKETS]]}}, "", "over 100 %"),
        ({"arms": {"joe": [[0, BUCKETS]]}}, "", "nothing to compare"),
        ({"arms": {"heart": [[0, 9]], "leo": [[9, 99]]}}, "", "'leo'"),
        ({"forced": {"alice": "leo"}}, "", "'leo'"),
        ({"units": []}, "units", "at least 1"),
        ({"units": ["car"]}, "units", "'user'"),
        ({"hash_version": "tm0"}, "hash_version", "'tm1'"),
        ({"not_before": "2026-11-22T10:00:00"}, "not_before", "time zone"),
        ({"not_before": "2026-11-22T10:00:00Z", "not_after": "2026-11-21T10:00:00Z"}, "", "not after"),
        ({"ramp": {"percent": [5, 1]}}, "percent", "larger"),
        ({"ramp": {"percent": [0, 1]}}, "percent", "over 0"),
        ({"guardrails": [{"metric": "mood"}]}, "metric", "'turn_failed'"),
        ({"guardrails": [{"metric": "turn_failed", "alpha": 0.5}]}, "alpha", "0.2"),
        ({"layer": {"name": "voices", "ranges": []}}, "layer", "at least 1"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], where: str, problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        flag(**changes)
    told = caught.value.errors()
    assert any(where in map(str, each["loc"]) or not where for each in told), told
    assert problem in str(caught.value)


def test_flags_of_a_layer_do_not_meet() -> None:
    first, second, third = (
        Layer(name=name, ranges=[(start, end)])
        for name, start, end in (("v", 0, 500_000), ("v", 400_000, 600_000), ("w", 0, 9))
    )
    assert overlapping([("one", first), ("two", second), ("three", third)]) == ("one", "two", "v")
    assert overlapping([("one", first), ("three", third)]) is None


def test_a_bundle_names_slots() -> None:
    assert Bundle(slots={"tts": "b", "animation": "b"}).slots["tts"] == "b"
    with pytest.raises(ValidationError):
        Bundle(slots={})
