"""What was decided about experiments, and the numbers that caused it: verdicts/{flag}/{when}-{token}, written once."""

import math
import secrets
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from services.runtime.desired import PREFIX, Value
from services.runtime.etcd import Put
from services.runtime.records import now_ms

VERDICTS = f"{PREFIX}verdicts/"
Action = Literal["hold", "roll back", "veto", "trip", "ramp", "promote"]
LARGEST = 1e300


class Verdict(Value):
    """One decision. It stands in the transaction that carries it out."""

    flag: str
    action: Action
    state: str = Field(default="", description="of the flag since then")
    variant: str = ""
    metric: str = ""
    alpha: float | None = None
    reason: str = ""
    numbers: Mapping[str, float] = Field(default_factory=dict, description="effect, low, high, log_e …")
    arms: Mapping[str, Mapping[str, int]] = Field(default_factory=dict, description="arm → sessions, failed")
    models: Mapping[str, str] = Field(default_factory=dict, description="service → model that the variant had")
    vetoed: Mapping[str, str] = Field(
        default_factory=dict, description="service → model that no slot may take any more"
    )
    gateway: str = Field(default="", description="who has decided")
    at_ms: int = Field(default_factory=now_ms)


def verdict_key(flag: str, at_ms: int, token: str) -> str:
    """Sorts by time."""
    return f"{VERDICTS}{flag}/{at_ms:015d}-{token}"


def recorded(verdict: Verdict) -> Put:
    return Put(verdict_key(verdict.flag, verdict.at_ms, secrets.token_hex(4)), verdict.model_dump_json())


def finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """JSON knows no infinity: what is not limited is very far away, and what is not known is left out."""
    return {name: max(-LARGEST, min(LARGEST, value)) for name, value in numbers.items() if not math.isnan(value)}
