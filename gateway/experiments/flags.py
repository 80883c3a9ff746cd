"""What an experiment is, as it stands in etcd: flags/{flag} and bundles/{bundle}. JSON that a person can write.

    {"owner": "voice team",
     "rule": "country == \"CN\" and region == \"Guangdong\" and device == \"phone\"",
     "variants": {"heart": {}, "joe": {"slots": {"tts": "candidate"}}},
     "control": "heart",
     "enrolled": [[0, 100000]]}

Of those whom `rule` is true for, the buckets in `enrolled` take part: here 10 %, half of them in each arm. A ramp makes the
enrolled ranges longer, and nothing else, so that nobody who is in an arm leaves it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints, field_validator, model_validator

from gateway.experiments import rules
from gateway.experiments.buckets import BUCKETS, Version
from services.runtime.desired import NAME, SERVICES, Value
from services.runtime.errors import InvalidInput

Name = Annotated[str, StringConstraints(pattern=NAME)]
Service = Literal["asr", "llm", "tts", "animation", "render"]
Unit = Literal["user", "device", "session"]
UNITS: tuple[Unit, ...] = ("user", "device", "session")
Range = tuple[int, int]
Metric = Literal["turn_failed", "first_audio_ms", "first_video_ms", "gap_ms"]
assert set(SERVICES) == set(get_args(Service))


class Bundle(Value):
    """Slots that are known to fit together. Services that are not named serve what they serve everybody."""

    slots: Mapping[Service, Name] = Field(min_length=1)
    owner: str = ""


class Variant(Value):
    """What its users get: slots, or a bundle of them. Neither is what everybody gets."""

    slots: Mapping[Service, Name] = Field(default_factory=dict)
    bundle: Name | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "Variant":
        if self.slots and self.bundle:
            raise ValueError("names slots and a bundle, expected one of both")
        return self


class Layer(Value):
    """Experiments that must not meet: each has ranges of the layer that no other has."""

    name: Name
    ranges: Sequence[Range] = Field(min_length=1)

    @field_validator("ranges")
    @classmethod
    def _apart(cls, ranges: Sequence[Range]) -> Sequence[Range]:
        return checked(ranges)


class Guardrail(Value):
    """What must not get worse in an arm than in the control."""

    metric: Metric
    alpha: float = Field(default=0.05, gt=0, le=0.2, description="chance of acting on nothing, however long one looks")
    action: Literal["hold", "roll back", "veto"] = "hold"
    margin: float = Field(default=0.0, ge=0, description="so much worse is no harm: a share for failures, else ms")
    percentile: int | None = Field(default=None, ge=50, le=99, description="of times; unset is the mean")


class Ramp(Value):
    """How the enrolled share grows by itself."""

    percent: Sequence[float] = (1, 5, 25, 50, 100)
    least_exposures: int = Field(default=100, ge=1, description="sessions in each arm before the next step")
    soak_s: float = Field(default=600, ge=0, description="least time in each step")

    @field_validator("percent")
    @classmethod
    def _grows(cls, percent: Sequence[float]) -> Sequence[float]:
        if not percent or any(not 0 < each <= 100 for each in percent) or sorted(set(percent)) != list(percent):
            raise ValueError("expected percentages over 0 and up to 100, each larger than the one before")
        return percent


DEFAULT_GUARDRAILS = (
    Guardrail(metric="turn_failed", alpha=0.001, action="roll back"),
    Guardrail(metric="turn_failed", alpha=0.05),
)


class Flag(Value):
    """An experiment."""

    owner: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=2_000)
    state: Literal["on", "held", "off", "shadow"] = "on"
    """Held, the ramp stops where it is; off, everybody gets what everybody gets, at once; as a shadow they do too, and the
    variants' models get a copy of what they would have been told."""
    rule: str = Field(default="", description="who is meant; empty is everybody")
    variants: Mapping[Name, Variant] = Field(min_length=2, max_length=16)
    control: Name
    enrolled: Sequence[Range] = Field(default=(), description="buckets of those meant that take part")
    arms: Mapping[Name, Sequence[Range]] = Field(
        default_factory=dict, description="buckets of those enrolled that each variant gets; empty is equal shares"
    )
    units: Sequence[Unit] = Field(default=UNITS, min_length=1, description="the first that is known is hashed")
    salt: str = Field(default="", max_length=64, description="empty is the flag's name; a new one shuffles everybody")
    hash_version: Version = "tm1"
    layer: Layer | None = None
    forced: Mapping[str, Name] = Field(default_factory=dict, max_length=1_000, description="unit id → variant")
    not_before: datetime | None = None
    not_after: datetime | None = None
    ramp: Ramp | None = None
    guardrails: Sequence[Guardrail] = Field(default=DEFAULT_GUARDRAILS, max_length=16)
    actor: str = ""
    reason: str = ""

    @field_validator("rule")
    @classmethod
    def _can_be_read(cls, rule: str) -> str:
        if rule:
            rules.rule(rule)
        return rule

    @field_validator("enrolled")
    @classmethod
    def _apart(cls, ranges: Sequence[Range]) -> Sequence[Range]:
        return checked(ranges)

    @field_validator("not_before", "not_after")
    @classmethod
    def _of_a_zone(cls, moment: datetime | None) -> datetime | None:
        if moment and moment.tzinfo is None:
            raise ValueError("has no time zone, expected one such as Z or +08:00")
        return moment

    @model_validator(mode="after")
    def _fits_together(self) -> "Flag":
        named = {"control": [self.control], "arms": list(self.arms), "forced": list(self.forced.values())}
        for field, names in named.items():
            if unknown := next((name for name in names if name not in self.variants), None):
                raise ValueError(f"{field}: variant {unknown!r} is not one of {', '.join(self.variants)}")
        checked([each for ranges in self.arms.values() for each in ranges])
        if self.arms and self.control not in self.arms:
            raise ValueError(f"arms: the control {self.control!r} has none: there is nothing to compare with")
        if self.not_before and self.not_after and self.not_after <= self.not_before:
            raise ValueError("not_after is not after not_before")
        return self

    @property
    def shares(self) -> Mapping[str, Sequence[Range]]:
        """Each arm's buckets of the enrolled."""
        if self.arms:
            return self.arms
        edges = [BUCKETS * index // len(self.variants) for index in range(len(self.variants) + 1)]
        return {name: [(edges[index], edges[index + 1])] for index, name in enumerate(self.variants)}


def checked(ranges: Sequence[Range]) -> Sequence[Range]:
    """Raises ValueError for ranges that are none, or that overlap."""
    for start, end in ranges:
        if not 0 <= start < end <= BUCKETS:
            raise ValueError(f"[{start}, {end}] is no range of buckets, expected 0 to {BUCKETS}, the first one smaller")
    ordered = sorted(ranges)
    for (_, end), (start, other) in pairwise(ordered):
        if start < end:
            raise ValueError(f"[{start}, {other}] overlaps a range that ends at {end}: shares are over 100 % together")
    return ranges


def overlapping(layers: Iterable[tuple[str, Layer]]) -> tuple[str, str, str] | None:
    """Two flags that claim the same buckets of a layer, with the layer's name."""
    claimed: dict[str, list[tuple[Range, str]]] = {}
    for flag, layer in layers:
        claimed.setdefault(layer.name, []).extend((each, flag) for each in layer.ranges)
    for name, ranges in claimed.items():
        ordered = sorted(ranges)
        for (first, one), (second, other) in pairwise(ordered):
            if second[0] < first[1] and one != other:
                return one, other, name
    return None


def check_apart(layers: Iterable[tuple[str, Layer]]) -> None:
    """Raises InvalidInput for flags that claim the same buckets of a layer."""
    if meeting := overlapping(layers):
        one, other, layer = meeting
        raise InvalidInput("layer.ranges", f"{one} and {other} both claim buckets of {layer!r}", "ranges apart")
