"""What administrators do with keys: written to etcd for every gateway to follow, each with its record in one transaction.

Knows nothing of gRPC. All raise InvalidInput naming the field, NotFound, Outrun, Refused without etcd, and EtcdAway.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway import checks
from gateway.access.keys import KEYS, Issued, Key, issue
from gateway.access.principals import ROLES, SCOPES, Scope
from services.runtime.desired import Note, parsed
from services.runtime.errors import InvalidInput, NotFound, Outrun, Refused
from services.runtime.etcd import Etcd, Put, absent, mod_revision_is
from services.runtime.records import audited, now_ms

ACCESS = "access"
"""Stands in the audit where a service would."""
LONGEST_S = 10 * 366 * 86400
MOST_PER_S, MOST_SESSIONS = 100_000.0, 100_000


@dataclass(frozen=True)
class Wanted:
    """A key that somebody wants. 0 is no limit, or no end."""

    name: str
    role: str = ""
    scopes: Sequence[str] = ()
    expires_in_s: int = 0
    requests_per_s: float = 0.0
    burst: int = 0
    sessions: int = 0

    def checked(self, sha256: str, by: str) -> Key:
        """As it is to stand in etcd. Raises InvalidInput."""
        at_ms = now_ms()
        return Key(
            name=checks.checked_name("name", self.name),
            role=self._role(),
            scopes=self._scopes(),
            sha256=sha256,
            requests_per_s=within("requests_per_s", self.requests_per_s, MOST_PER_S),
            burst=int(within("burst", self.burst, MOST_PER_S)),
            sessions=int(within("sessions", self.sessions, MOST_SESSIONS)),
            created_ms=at_ms,
            created_by=by,
            expires_ms=at_ms + 1000 * int(within("expires_in_s", self.expires_in_s, LONGEST_S))
            if self.expires_in_s
            else 0,
        )

    def _role(self) -> str:
        if self.role and self.role not in ROLES:
            raise InvalidInput("role", f"is {self.role[:80]!r}", f"one of {', '.join(ROLES)}, or none")
        if not self.role and not self.scopes:
            raise InvalidInput("role", "is empty, and there are no scopes", "a role, a scope, or both")
        return self.role or "none"

    def _scopes(self) -> tuple[Scope, ...]:
        if unknown := next((scope for scope in self.scopes if scope not in SCOPES), None):
            raise InvalidInput("scopes", f"has {unknown[:80]!r}", f"some of {', '.join(SCOPES)}")
        return tuple(sorted({SCOPES[scope] for scope in self.scopes}))


class KeyControl:
    """The administrator's verbs."""

    def __init__(self, etcd: Etcd | None) -> None:
        self._connected = etcd

    async def create(self, wanted: Wanted, *, actor: str = "", reason: str = "") -> tuple[Issued, Key]:
        """A new key, whose token is returned this once. Raises Refused when its name belongs to another one in force."""
        issued, note = issue(), checks.checked_note(actor, reason)
        key = wanted.checked(issued.sha256, note.actor)
        for id_, other in (await self.list()).items():
            if other.name == key.name and not other.revoked_ms:
                raise Refused(
                    f"there is a key named {key.name!r} already, {id_}: revoke it first, or take another name"
                )
        record = audited("create key", ACCESS, f"{key.name} ({issued.id}): {described(key)}", note)
        put = Put(KEYS + issued.id, key.model_dump_json())
        if not (await self._etcd.transact([absent(put.key)], [put, record])).succeeded:
            raise Outrun(f"there is a key {issued.id} already: try again")
        return issued, key

    async def list(self) -> dict[str, Key]:
        """All keys that can be read, also those that do not hold any more, by id."""
        found = {}
        for kv in (await self._etcd.list(KEYS)).kvs:
            try:
                found[kv.key.removeprefix(KEYS)] = parsed(Key, kv.value)
            except InvalidInput:
                continue
        return found

    async def revoke(self, id_: str, *, actor: str = "", reason: str = "") -> Key:
        """Have a key hold no more, from now on and on every gateway. One that was revoked before stays as it was."""
        note = checks.checked_note(actor, reason)
        place = KEYS + checks.checked_name("id", id_)
        found = await self._etcd.get(place)
        if found is None:
            raise NotFound("key", id_, await self.list())
        key = parsed(Key, found.value)
        if key.revoked_ms:
            return key
        revoked = key.model_copy(update={"revoked_ms": now_ms(), "revoked_by": note.actor})
        operations = [Put(place, revoked.model_dump_json()), self._revocation(id_, key, note)]
        if not (await self._etcd.transact([mod_revision_is(place, found.mod_revision)], operations)).succeeded:
            raise Outrun(f"key {id_} has changed just now: look again")
        return revoked

    @staticmethod
    def _revocation(id_: str, key: Key, note: Note) -> Put:
        return audited("revoke key", ACCESS, f"{key.name} ({id_})", note)

    @property
    def _etcd(self) -> Etcd:
        if self._connected is None:
            raise Refused("this gateway was started without etcd: there are no keys")
        return self._connected


def described(key: Key) -> str:
    """What a key lets its holder do, in words."""
    return ", ".join([f"role {key.role}", *(f"scope {scope}" for scope in key.scopes)])


def within(field: str, value: float, most: float) -> float:
    """Raises InvalidInput for what is not from 0 to `most`."""
    if not 0 <= value <= most:
        raise InvalidInput(field, f"is {value:g}", f"0 to {most:g}")
    return value
