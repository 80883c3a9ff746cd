"""Who somebody is, and what that lets them do. Knows nothing of keys, tokens, gRPC or HTTP."""

from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from services.runtime.errors import InvalidInput

MOST_CLAIMED_CHARS = 100


class Role(IntEnum):
    """What one may do to the mesh; each may all that the ones before it may."""

    NONE = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """As people write it."""
        return self.name.lower()


class Scope(StrEnum):
    """What a client may do with the mesh. No role has any of these by itself."""

    TALK = "talk"
    """Hold conversations, and steer live sessions whose id one knows."""
    PUSH = "push"
    """Have the gateway connect outwards, to an RTMP server."""


ROLES = {role.word: role for role in Role if role}
SCOPES = {scope.value: scope for scope in Scope}


@dataclass(frozen=True)
class Limits:
    """Of one principal; 0 is none."""

    requests_per_s: float = 0.0
    burst: int = 0
    """Of them that may come at once; 0 is as many as come in two seconds, and one at least."""
    sessions: int = 0
    """At a time."""


@dataclass(frozen=True)
class Principal:
    """Somebody who calls. `id` tells two of the same name apart; an empty name is nobody in particular."""

    id: str
    name: str
    role: Role = Role.NONE
    scopes: frozenset[Scope] = frozenset()
    limits: Limits = Limits()

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes


EVERYBODY = Principal("", "", Role.ADMIN, frozenset(Scope))
"""Whoever calls a gateway whose access is open."""
NOBODY = Principal("", "")
"""Whoever calls without a token what needs none."""
# What is done outside of any call is the gateway's own doing, and may be done.
_current: ContextVar[Principal] = ContextVar("principal", default=EVERYBODY)


def current() -> Principal:
    """Who makes the call in which this runs, or in whose name a task was begun."""
    return _current.get()


def enter(principal: Principal) -> None:
    """From now on, what this task does is done for `principal`. Each call has a task of its own, so nobody leaves."""
    _current.set(principal)


def author(claimed: str) -> str:
    """Who is named as the author of a change: whoever has shown who they are, with what they say of themselves behind it.

    Where nobody has to show who they are, what they say. Raises InvalidInput.
    """
    name = current().name
    if not name or claimed in ("", name):
        return name or claimed
    if len(claimed) > MOST_CLAIMED_CHARS or not claimed.isprintable():
        raise InvalidInput("actor", "is too long, or no text", f"at most {MOST_CLAIMED_CHARS} printable characters")
    return f"{name} (says: {claimed})"
