"""Who gets which variant. A decision takes microseconds, asks nobody, and is the same in every gateway. No I/O."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from gateway.experiments import rules
from gateway.experiments.buckets import bucket
from gateway.experiments.flags import Flag, Range
from gateway.experiments.rules import Attributes

ENROL, ARM, LAYER = "enrol", "arm", "layer"
"""What each salt ends with: who takes part, and who gets what, have nothing to do with one another."""


class Reason(Enum):
    """As OpenFeature names them."""

    SPLIT = "SPLIT"
    TARGETING_MATCH = "TARGETING_MATCH"
    """A tester was given this variant by name."""
    DEFAULT = "DEFAULT"
    """Not meant by the flag, or not enrolled."""
    DISABLED = "DISABLED"
    """The flag is off, or its time is not now."""


@dataclass(frozen=True)
class Decision:
    """For one unit. Without a variant, it gets what everybody gets and is not counted."""

    flag: str
    variant: str
    reason: Reason
    unit_kind: str = ""
    why: str = ""
    """In words, for those who ask who would get what."""


class Ranges:
    """Which of some disjoint ranges a bucket is in."""

    def __init__(self, named: Sequence[tuple[Range, str]]) -> None:
        ordered = sorted(named)
        self._starts = [start for (start, _), _ in ordered]
        self._ends = [end for (_, end), _ in ordered]
        self._names = [name for _, name in ordered]

    def at(self, place: int) -> str | None:
        index = bisect_right(self._starts, place) - 1
        return self._names[index] if index >= 0 and place < self._ends[index] else None


class Evaluator:
    """A flag, ready to decide."""

    def __init__(self, name: str, flag: Flag) -> None:
        self.name = name
        self.flag = flag
        self._rule = rules.rule(flag.rule) if flag.rule else None
        salt = flag.salt or name
        self._enrol_salt, self._arm_salt = f"{salt}/{ENROL}", f"{salt}/{ARM}"
        self._enrolled = Ranges([(each, name) for each in flag.enrolled])
        self._arms = Ranges([(each, arm) for arm, ranges in flag.shares.items() for each in ranges])
        self._layer = Ranges([(each, name) for each in flag.layer.ranges]) if flag.layer else None
        self._from = flag.not_before.timestamp() if flag.not_before else float("-inf")
        self._until = flag.not_after.timestamp() if flag.not_after else float("inf")

    def decide(self, units: Mapping[str, str], attributes: Attributes, now_s: float) -> Decision:
        """`units`: kind → id, of those that are known; `now_s`: seconds since 1970."""
        flag = self.flag
        if flag.state == "off" or not self._from <= now_s < self._until:
            return Decision(self.name, "", Reason.DISABLED, why=f"the flag is {flag.state}, or this is not its time")
        kind = next((each for each in flag.units if units.get(each)), None)
        if kind is None:
            return Decision(self.name, "", Reason.DEFAULT, why=f"no {', '.join(flag.units)} id is known")
        unit = units[kind]
        if forced := flag.forced.get(unit):
            return Decision(self.name, forced, Reason.TARGETING_MATCH, kind, "was given this variant by name")
        if self._rule and self._rule(attributes) is not True:
            return Decision(self.name, "", Reason.DEFAULT, kind, "is not meant by the rule, or too little is known")
        return self._split(kind, unit)

    def _split(self, kind: str, unit: str) -> Decision:
        version = self.flag.hash_version
        if self._layer and self.flag.layer:
            place = bucket(version, f"{self.flag.layer.name}/{LAYER}", kind, unit)
            if self._layer.at(place) is None:
                return Decision(self.name, "", Reason.DEFAULT, kind, f"belongs to others of the layer ({place})")
        place = bucket(version, self._enrol_salt, kind, unit)
        if self._enrolled.at(place) is None:
            return Decision(self.name, "", Reason.DEFAULT, kind, f"is not enrolled ({place})")
        place = bucket(version, self._arm_salt, kind, unit)
        if arm := self._arms.at(place):
            return Decision(self.name, arm, Reason.SPLIT, kind, f"is enrolled ({place})")
        return Decision(self.name, "", Reason.DEFAULT, kind, f"is in no arm's share ({place})")
