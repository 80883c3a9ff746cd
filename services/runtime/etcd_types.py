"""What one says to etcd and hears from it, in the project's own words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from services.runtime.errors import InvalidInput, Refused, Unavailable


class EtcdAway(Unavailable):
    """etcd did not answer in time, or nobody could be reached.

    `maybe_applied` tells of a write whether etcd may have taken it all the same: the caller must look, or write in a way
    that does no harm when it is done twice. When False, the write certainly never left this process.
    """

    def __init__(self, problem: str, maybe_applied: bool = False) -> None:
        self.maybe_applied = maybe_applied
        super().__init__(problem)


class EtcdRefused(Refused):
    """etcd answered and said no: a request too large, a lease unknown, … The message names what and, of a key, which."""


class EtcdFull(EtcdRefused):
    """etcd is out of space: it takes no writes until it was compacted, defragmented and its alarm disarmed. Reads go on."""


class EtcdForbidden(EtcdRefused):
    """The user may not do this, or is not who it says it is."""


class EtcdSettings(BaseModel):
    """Where etcd is, and who we are to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoints: tuple[str, ...] = Field(description='"host:port" of each member; text is split at commas')
    ca: Path | None = Field(
        default=None, description="PEM file to check etcd's certificate with; its presence means TLS"
    )
    cert: Path | None = Field(default=None, description="our own certificate for mutual TLS, a PEM file; needs key")
    key: Path | None = Field(default=None, description="the private key of cert, a PEM file")
    user: str = Field(default="", description="empty if etcd asks for no name, or takes it from the certificate")
    password: SecretStr = SecretStr("")
    timeout_s: float = Field(default=2.0, gt=0, le=60, description="time a call may take, all attempts together")

    @field_validator("endpoints", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("endpoints")
    @classmethod
    def _reachable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("names no endpoint")
        for endpoint in value:
            host, _, port = endpoint.rpartition(":")
            if not host or "/" in host or not port.isdecimal():
                raise ValueError(f"{endpoint!r} is not host:port")
        return value

    @field_validator("ca", "cert", "key", mode="before")
    @classmethod
    def _no_file(cls, value: Any) -> Any:
        return value or None

    @model_validator(mode="after")
    def _pairs(self) -> "EtcdSettings":
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key come together")
        if self.cert and not self.ca:
            raise ValueError("cert needs ca: without it there is no TLS")
        return self


def etcd_settings(endpoints: str, **rest: Any) -> EtcdSettings:
    """Settings from text such as "10.0.0.1:2379,10.0.0.2:2379". Raises InvalidInput naming the setting, never its value."""
    try:
        return EtcdSettings.model_validate({"endpoints": endpoints, **rest})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(["etcd", *map(str, first["loc"])])
        raise InvalidInput(field, first["msg"].removeprefix("Value error, ")) from None


@dataclass(frozen=True)
class KeyValue:
    """A key of etcd. Bytes that are no UTF-8 show as U+FFFD in the value and as \\xNN in the key."""

    key: str
    value: str = ""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    lease: int = 0


@dataclass(frozen=True)
class Span:
    """The keys from `start` up to `end`, which is not one of them, in the order of their bytes."""

    start: str
    end: str


Keys = str | Span
"""Everything below a prefix, or a span."""


@dataclass(frozen=True)
class Listing:
    """What was asked for at one revision, ordered by key."""

    revision: int
    kvs: tuple[KeyValue, ...]
    count: int = 0
    """How many keys there are, of which a limit may have left some out."""


@dataclass(frozen=True)
class Event:
    """One key was put or deleted. Of a deletion, `kv` has key and mod_revision only; `previous` is None for a new key."""

    kv: KeyValue
    deleted: bool = False
    previous: KeyValue | None = None


@dataclass(frozen=True)
class Snapshot:
    """All that is followed at a revision: it replaces everything that was heard before."""

    revision: int
    kvs: Mapping[str, KeyValue]


@dataclass(frozen=True)
class Changes:
    """Events of one or more whole transactions, in order; `revision` is that of the last."""

    revision: int
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Away:
    """etcd is out of sight: what was heard may be out of date from now on. Told once an outage."""

    reason: str


@dataclass(frozen=True)
class Back:
    """etcd is seen again, and everything up to `revision` has been delivered."""

    revision: int


Heard = Snapshot | Changes | Away | Back


@dataclass(frozen=True)
class Compare:
    """A condition of a transaction on one key. A key that does not exist has 0 for every number."""

    key: str
    what: Literal["version", "create_revision", "mod_revision", "lease", "value"]
    relation: Literal["=", "!=", ">", "<"]
    number: int = 0
    text: str = ""


def version_is(key: str, number: int) -> Compare:
    """The key has been put that many times since it was created."""
    return Compare(key, "version", "=", number)


def mod_revision_is(key: str, revision: int) -> Compare:
    """Nobody has changed the key since that revision."""
    return Compare(key, "mod_revision", "=", revision)


def create_revision_is(key: str, revision: int) -> Compare:
    return Compare(key, "create_revision", "=", revision)


def lease_is(key: str, lease: int) -> Compare:
    return Compare(key, "lease", "=", lease)


def value_is(key: str, value: str) -> Compare:
    return Compare(key, "value", "=", text=value)


def absent(key: str) -> Compare:
    return Compare(key, "version", "=", 0)


def exists(key: str) -> Compare:
    return Compare(key, "version", ">", 0)


@dataclass(frozen=True)
class Put:
    key: str
    value: str
    lease: int = 0


@dataclass(frozen=True)
class Delete:
    key: Keys
    prefix: bool = False


@dataclass(frozen=True)
class Get:
    key: Keys
    prefix: bool = False


Operation = Put | Delete | Get


@dataclass(frozen=True)
class Transaction:
    """What became of a transaction: which branch was taken, and what each Get of that branch found, in order."""

    succeeded: bool
    revision: int
    results: tuple[tuple[KeyValue, ...], ...] = ()


@dataclass(frozen=True)
class Status:
    """How the member that answered is."""

    version: str
    db_size: int = field(metadata={"unit": "bytes"})
    member: int
    leader: int
    raft_term: int
    revision: int
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alarm:
    """Something that a member cannot get over by itself: "NOSPACE" or "CORRUPT"."""

    member: int
    kind: str
