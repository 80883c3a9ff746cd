"""API keys: tmk_{id}_{secret}. etcd holds the hash of the secret and what the key lets its holder do, never the secret."""

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import Field

from gateway.access.principals import ROLES, Limits, Principal, Role, Scope
from gateway.following import follow
from services.runtime.desired import PREFIX, Value, parsed
from services.runtime.errors import InvalidInput, Unauthenticated, Unavailable
from services.runtime.etcd import Away, Changes, Etcd, Heard, KeyValue, Snapshot
from services.runtime.records import now_ms

KEYS = f"{PREFIX}access/keys/"
TOKEN = re.compile(r"tmk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
SECRET_BYTES = 32
NEVER = "0" * 64
"""What no secret's hash is; compared with where there is no key, so that one takes as long as the other."""
log = logging.getLogger(__name__)


class Key(Value):
    """A key as it stands in etcd."""

    name: str
    role: str = Field(default="none", pattern=f"^(none|{'|'.join(ROLES)})$")
    scopes: tuple[Scope, ...] = ()
    sha256: str = Field(pattern="^[0-9a-f]{64}$", repr=False)
    requests_per_s: float = Field(default=0, ge=0)
    burst: int = Field(default=0, ge=0)
    sessions: int = Field(default=0, ge=0)
    created_ms: int = 0
    created_by: str = ""
    expires_ms: int = Field(default=0, description="0 is never")
    revoked_ms: int = Field(default=0, description="0: it is not")
    revoked_by: str = ""

    def principal(self, id_: str) -> Principal:
        role = ROLES.get(self.role, Role.NONE)
        limits = Limits(self.requests_per_s, self.burst, self.sessions)
        return Principal(id_, self.name, role, frozenset(self.scopes), limits)


@dataclass(frozen=True)
class Issued:
    """A new key: the only moment at which its token is known."""

    id: str
    token: str
    sha256: str


def issue() -> Issued:
    """A new id, and 256 random bits."""
    id_, secret = secrets.token_hex(6), secrets.token_urlsafe(SECRET_BYTES)
    return Issued(id_, f"tmk_{id_}_{secret}", digest(secret))


def digest(secret: str) -> str:
    """Of a secret with so much chance in it that nothing slower is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyRing:
    """All keys, as etcd tells of them; while it is away, as it told of them last."""

    def __init__(self, clock_ms: Callable[[], int] = now_ms) -> None:
        self._clock_ms = clock_ms
        self._keys: dict[str, Key] = {}
        self.known = False
        """Whether etcd has told yet."""

    @property
    def keys(self) -> Mapping[str, Key]:
        return self._keys

    async def follow(self, etcd: Etcd) -> None:
        """Keep up with etcd until cancelled."""
        await follow(etcd, KEYS, self.take)

    def take(self, heard: Heard) -> None:
        """Take in what a watch tells."""
        match heard:
            case Snapshot():
                self._keys.clear()
                for kv in heard.kvs.values():
                    self._put(kv)
                self.known = True
            case Changes():
                for event in heard.events:
                    self._drop(event.kv.key) if event.deleted else self._put(event.kv)
            case Away(reason):
                log.warning("etcd is away, going on with the %d keys that are known: %s", len(self._keys), reason)

    def principal(self, token: str) -> Principal:
        """Whoever has been given a token. Raises Unauthenticated, and Unavailable while nothing is known of keys."""
        found = TOKEN.fullmatch(token)
        if found is None:
            raise Unauthenticated("this is not what a key looks like: tmk_, its id, its secret", "malformed key")
        if not self.known:
            raise Unavailable("this gateway has not heard from etcd yet, and so knows no keys")
        id_, secret = found.groups()
        key = self._keys.get(id_)
        right = hmac.compare_digest(digest(secret), key.sha256 if key else NEVER)
        if key is None or not right:
            raise Unauthenticated("there is no such key", "unknown key")
        if key.revoked_ms:
            raise Unauthenticated(f"key {key.name!r} was revoked", "revoked key")
        if key.expires_ms and key.expires_ms <= self._clock_ms():
            raise Unauthenticated(f"key {key.name!r} has expired", "expired key")
        return key.principal(id_)

    def _put(self, kv: KeyValue) -> None:
        id_ = kv.key.removeprefix(KEYS)
        try:
            self._keys[id_] = parsed(Key, kv.value)
        except InvalidInput as error:
            # The value is not told: it holds the hash.
            log.error("key %s does not count, its field %r cannot be read", id_, error.field)
            self._keys.pop(id_, None)

    def _drop(self, key: str) -> None:
        self._keys.pop(key.removeprefix(KEYS), None)
