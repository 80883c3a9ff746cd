"""Who gets what, and that nobody is moved."""

from collections import Counter
from typing import Any

import pytest

from gateway.experiments.assignment import Decision, Evaluator, Reason
from gateway.experiments.buckets import BUCKETS
from gateway.experiments.flags import Flag

NOW = 1_790_000_000.0
PEOPLE = [f"user-{number}" for number in range(20_000)]


def evaluator(name: str = "voice", **fields: Any) -> Evaluator:
    given = {"owner": "me", "variants": {"a": {}, "b": {}}, "control": "a", "enrolled": [[0, BUCKETS]]}
    return Evaluator(name, Flag.model_validate(given | fields))


def arms(made: Evaluator, people: list[str] = PEOPLE) -> dict[str, str]:
    return {person: found.variant for person in people if (found := decided(made, person)).variant}


def decided(made: Evaluator, user: str, **attributes: str) -> Decision:
    return made.decide({"user": user}, attributes, NOW)


def test_everybody_gets_one_arm_in_even_shares_and_always_the_same() -> None:
    found = arms(evaluator())
    assert len(found) == len(PEOPLE)
    assert abs(Counter(found.values())["a"] - 10_000) < 330  # less than once in 10^5
    assert found == arms(evaluator())


def test_a_ramp_only_adds() -> None:
    before: dict[str, str] = {}
    for percent in (1, 5, 25, 50, 100):
        now = arms(evaluator(enrolled=[[0, percent * BUCKETS // 100]]))
        assert now.items() >= before.items()
        assert abs(len(now) - percent * len(PEOPLE) / 100) < 300
        before = now


def test_who_takes_part_says_nothing_about_the_arm() -> None:
    few = arms(evaluator(enrolled=[[0, 100_000]]))
    assert abs(Counter(few.values())["a"] - len(few) / 2) < 100


def test_other_flags_and_other_edits_move_nobody() -> None:
    before = arms(evaluator())
    assert before == arms(evaluator(owner="you", description="new", guardrails=[], rule="", reason="an edit"))
    others = arms(evaluator("face"))
    both = Counter((before[person], others[person]) for person in PEOPLE)
    assert all(abs(count - 5_000) < 300 for count in both.values())


def test_a_new_salt_shuffles() -> None:
    before, after = arms(evaluator()), arms(evaluator(salt="again"))
    assert 9_000 < sum(before[person] != after[person] for person in PEOPLE) < 11_000


def test_layers_keep_experiments_apart() -> None:
    first = arms(evaluator("one", layer={"name": "voices", "ranges": [[0, 500_000]]}))
    second = arms(evaluator("two", layer={"name": "voices", "ranges": [[500_000, BUCKETS]]}))
    assert not first.keys() & second.keys()
    assert len(first) + len(second) == len(PEOPLE)


def test_the_first_unit_that_is_known_counts() -> None:
    made = evaluator(units=["user", "device"])
    assert made.decide({"user": "x", "device": "y"}, {}, NOW) == made.decide({"user": "x"}, {}, NOW)
    assert made.decide({"device": "y", "user": ""}, {}, NOW).unit_kind == "device"
    nobody = made.decide({"session": "z"}, {}, NOW)
    assert (nobody.variant, nobody.reason) == ("", Reason.DEFAULT)
    assert "no user, device id" in nobody.why


def test_only_those_meant_take_part() -> None:
    made = evaluator(rule='country == "CN"')
    assert decided(made, "x", country="CN").reason is Reason.SPLIT
    assert (decided(made, "x", country="US").variant, decided(made, "x").variant) == ("", "")


def test_testers_get_what_they_are_given() -> None:
    made = evaluator(forced={"tester": "b"}, enrolled=[], rule='country == "CN"')
    assert decided(made, "tester") == Decision(
        "voice", "b", Reason.TARGETING_MATCH, "user", "was given this variant by name"
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"state": "off"}, Reason.DISABLED),
        ({"not_before": "2027-01-01T00:00:00Z"}, Reason.DISABLED),
        ({"not_after": "2020-01-01T00:00:00Z"}, Reason.DISABLED),
        ({"enrolled": []}, Reason.DEFAULT),
        ({"arms": {"a": [[0, 1]]}}, Reason.DEFAULT),
    ],
)
def test_who_gets_nothing_is_told_why(fields: dict[str, Any], reason: Reason) -> None:
    found = decided(evaluator(**fields), "someone")
    assert (found.variant, found.reason) == ("", reason)
    assert found.why
