"""What is written to etcd: the names of the keys, and what their values must look like.

Values are JSON that a person can write. Everything below PREFIX:

    models/{service}/{model}                 ModelSpec: the catalog
    slots/{service}/{slot}                   SlotWish: which model a slot is to serve
    budgets/{service}                        Budget: how much may be resident
    vetoes/{service}/{model}                 Note: a model that no slot may take
    evictions/{service}/{model}              Note: a warm model to let go of, written under a short lease
    history/{service}/{slot}/{generation}    HistoryEntry, written once: what was wanted, by whom and why
    audit/{when}-{token}                     AuditEntry: every change that came through the API, and every one noticed
    observed/{service}/{instance}            HostStatus of a host, under its lease
"""

import json
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.runtime.errors import InvalidInput

PREFIX = "/talkmesh/v1/"
SERVICES = ("asr", "llm", "tts", "animation", "render")
STABLE = "stable"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
KINDS = ("budgets", "evictions", "models", "slots", "vetoes")
"""Of the keys that tell hosts what is wanted of them."""
Cause = Literal["human", "guardrail", "crash loop"]
CRASH_LOOP: Cause = "crash loop"


class Value(BaseModel):
    """A value in etcd: a field that is not known is an error, so that a slip of the pen is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SlotWish(Value):
    """Which model a slot is to serve, and how to get there."""

    model: str = Field(default="", description="empty leaves what the slot has")
    drain_s: float | None = Field(
        default=None, ge=0, le=86_400, description="time that streams on the model before get to end"
    )
    standby_s: float | None = Field(default=None, ge=0, le=86_400, description="time that the model before stays warm")
    actor: str = ""
    reason: str = ""
    cause: Cause = "human"


class Budget(Value):
    """How much of a service may be resident on one host at a time."""

    models: int = Field(default=2, ge=1, le=64, description="engine processes, the one being loaded included")
    memory_mb: int | None = Field(
        default=None, ge=1, description="resident memory of all engine processes; unset is no limit"
    )


class Note(Value):
    """Who wants something, and why."""

    actor: str = ""
    reason: str = ""


class HistoryEntry(Value):
    """One generation of a slot."""

    wish: SlotWish
    generation: int
    model_before: str = ""
    generation_before: int = 0
    at_ms: int
    via: Literal["api", "etcd", "host"] = "api"


class AuditEntry(Value):
    """One change, in words."""

    action: str
    service: str
    subject: str = ""
    actor: str = ""
    reason: str = ""
    generation: int = 0
    at_ms: int
    before: str = ""
    """What it was, and what it became: a slot's model, a flag's value."""
    after: str = ""


def model_key(service: str, model: str) -> str:
    return f"{PREFIX}models/{service}/{model}"


def slot_key(service: str, slot: str = STABLE) -> str:
    return f"{PREFIX}slots/{service}/{slot}"


def budget_key(service: str) -> str:
    return f"{PREFIX}budgets/{service}"


def veto_key(service: str, model: str) -> str:
    return f"{PREFIX}vetoes/{service}/{model}"


def eviction_key(service: str, model: str) -> str:
    return f"{PREFIX}evictions/{service}/{model}"


def history_key(service: str, slot: str, generation: int) -> str:
    """Sorts like the generation."""
    return f"{PREFIX}history/{service}/{slot}/{generation:020d}"


def audit_key(at_ms: int, token: str) -> str:
    """Sorts by time; `token` tells apart what happened in the same millisecond."""
    return f"{PREFIX}audit/{at_ms:015d}-{token}"


def observed_key(service: str, instance: str) -> str:
    return f"{PREFIX}observed/{service}/{instance}"


def generation_of(create_revision: int, version: int) -> int:
    """A slot's generation, from its key's metadata in etcd: everybody who sees the key agrees on it without a word.

    It grows by one with each put and never comes back, even when the key is deleted and made again: each put has used up at
    least one revision, so a later create_revision is larger than every generation before it.
    """
    return create_revision + version - 1


V = TypeVar("V", bound=BaseModel)


def parsed(kind: type[V], text: str | bytes) -> V:
    """A value as its type. Raises InvalidInput naming the field ("" for the value as a whole), and what was expected."""
    try:
        content: Any = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("", f"not JSON: {error}", "an object") from error
    if not isinstance(content, dict):
        raise InvalidInput("", f"is {type(content).__name__}", "an object")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        expected = f"one of {', '.join(kind.model_fields)}" if first["type"] == "extra_forbidden" else ""
        raise InvalidInput(".".join(map(str, first["loc"])), first["msg"], expected) from error


@dataclass(frozen=True)
class Place:
    """What a key below PREFIX is about."""

    kind: str
    service: str
    name: str = ""


def place(key: str) -> Place | None:
    """What a key is about; None if it is none of the kinds that hosts follow."""
    kind, _, rest = key.removeprefix(PREFIX).partition("/")
    service, _, name = rest.partition("/")
    if kind not in KINDS or bool(name) != (kind != "budgets"):
        return None
    return Place(kind, service, name)
