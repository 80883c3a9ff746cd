"""JSON of the control plane. What is answered has the fields of talkmesh.admin.v1."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from services.runtime.desired import NAME

Name = Annotated[str, StringConstraints(pattern=NAME)]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1000)]
"""Words of a person, on one line."""
MOST_ATTRIBUTES = 32


def finite(value: Any) -> Any:
    """JSON knows no infinity and no nan: what is not known is null."""
    number = float(value) if isinstance(value, str) else value
    return number if isinstance(number, int | float) and math.isfinite(number) else None


Known = Annotated[float | None, BeforeValidator(finite)]


class Asked(BaseModel):
    """What a client sends: nothing that is not known, and every type as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Author(Asked):
    """Who wants a change, and why: for the audit."""

    actor: Text = Field(default="", max_length=200, description="ignored where the caller is known by its token")
    reason: Text = ""


class SlotWishes(Author):
    model: Name
    expected_model: Text | None = Field(default=None, description="only if the slot wants this model now; else 409")
    drain_s: float | None = Field(default=None, ge=0, le=86_400, description="time that streams before get to end")
    standby_s: float | None = Field(default=None, ge=0, le=86_400, description="time that the model before stays warm")


class Promoted(Author):
    variant: Name


class Who(Asked):
    """Somebody, as a client would say it when it opens a session."""

    user_id: Text = Field(default="", max_length=200)
    device_id: Text = Field(default="", max_length=200)
    attributes: Mapping[str, Text] = Field(default_factory=dict, max_length=MOST_ATTRIBUTES)
    tags: list[Text] = Field(default_factory=list, max_length=100)
    flag: Name | None = Field(default=None, description="only this one")


# --- answers ------------------------------------------------------------------------------------------------------------


class Problem(BaseModel):
    key: str
    field: str
    reason: str


class ModelState(BaseModel):
    phase: str
    streams: int
    rss_bytes: int
    vram_bytes: int
    restarts: int
    load_seconds: float
    last_error: str
    slots: list[str]


class ModelOnHost(BaseModel):
    instance: str
    status: ModelState


class CatalogModel(BaseModel):
    service: str
    model: str
    engine: str
    source: str
    sha256: str
    preload: bool
    veto: str = Field(description="why it is vetoed; empty if it is not")
    slots: list[str]
    hosts: list[ModelOnHost]


class Models(BaseModel):
    models: list[CatalogModel]
    problems: list[Problem]


class SlotState(BaseModel):
    slot: str
    model: str
    generation: int
    wanted_model: str
    wanted_generation: int
    phase: str
    error: str


class HostState(BaseModel):
    service: str
    instance: str
    address: str
    freshness: str
    slots: list[SlotState]
    problems: list[Problem]


class Hosts(BaseModel):
    hosts: list[HostState]
    fresh: bool = Field(description="whether etcd is in sight now")


class SlotChange(BaseModel):
    service: str
    slot: str
    model: str
    generation: int
    model_before: str
    generation_before: int
    actor: str
    reason: str
    cause: str
    at_ms: int


class Changes(BaseModel):
    changes: list[SlotChange]


class AuditEntry(BaseModel):
    place: str
    action: str
    service: str
    subject: str
    actor: str
    reason: str
    generation: int
    at_ms: int
    before: str
    after: str


class Audit(BaseModel):
    entries: list[AuditEntry]


class ShadowFigures(BaseModel):
    variant: str
    service: str
    streams: dict[str, int]
    pairs: int
    live_ms: float
    shadow_ms: float
    later_low_ms: Known = None
    later_high_ms: Known = None
    unlike: float


class FlagState(BaseModel):
    flag: str
    json_: str = Field(alias="json", description="the value as it was written")
    revision: int
    problem: str
    lacks: str
    shadows: list[ShadowFigures]


class Flags(BaseModel):
    flags: list[FlagState]
    total: int
    next: str | None = Field(default=None, description="where the next page begins: ask with after=…")


class Stands(BaseModel):
    flag: str
    revision: int


class Decision(BaseModel):
    flag: str
    variant: str = Field(description="empty: what everybody gets")
    reason: str
    why: str
    unit_kind: str


class Decisions(BaseModel):
    decisions: list[Decision]


class VerdictArm(BaseModel):
    variant: str
    sessions: int
    failed: int


class VerdictState(BaseModel):
    flag: str
    action: str
    state: str
    variant: str
    metric: str
    alpha: float
    reason: str
    numbers: dict[str, Known]
    arms: list[VerdictArm]
    models: dict[str, str]
    vetoed: dict[str, str]
    gateway: str
    at_ms: int


class Verdicts(BaseModel):
    verdicts: list[VerdictState]


class ValueRange(BaseModel):
    """A value with limits that hold however often one looks; null is not known, or has no limit."""

    value: Known
    low: Known
    high: Known


class Figure(BaseModel):
    metric: str
    statistic: str
    sessions: int
    value: ValueRange
    difference: ValueRange | None = Field(default=None, description="less the control's")


class ArmResult(BaseModel):
    variant: str
    sessions: int
    turns: int
    figures: list[Figure]


class ArmShare(BaseModel):
    variant: str
    units: int
    share: float


class RatioCheck(BaseModel):
    mismatch: bool
    log_e: Known
    alpha: float
    arms: list[ArmShare]


class Results(BaseModel):
    flag: str
    control: str
    alpha: float
    arms: list[ArmResult]
    ratio: RatioCheck
    waiting: int


Answer = TypeVar("Answer", bound=BaseModel)


def answered(kind: type[Answer], message: Message) -> Answer:
    """A message as JSON; fields that the model does not have are left out."""
    return kind.model_validate(
        json_format.MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )
