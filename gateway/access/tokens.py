"""Tokens of an identity provider: signed JWTs, checked with the public keys that it publishes (JWKS)."""

import asyncio
import json
import logging
import time
import urllib.request
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt

from gateway.access.principals import ROLES, SCOPES, Principal, Role, Scope
from services.runtime.errors import InvalidInput, Unauthenticated, Unavailable

ALGORITHMS = ("RS256", "ES256", "EdDSA")
"""Asymmetric ones only: with a symmetric one, whoever can check a token could make one."""
LEEWAY_S = 30
FETCH_S = 5.0
COOLDOWN_S = 30.0
FRESH_S = 600.0
MOST_JWKS_BYTES = 256 * 1024
MOST_CLAIM_CHARS = 100
MOST_VERIFIED = 1024
LOCAL = ("localhost", "127.0.0.1", "::1")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Issuer:
    """Whose tokens count, for whom they must be made out, and what their claims stand for."""

    issuer: str
    audience: str
    jwks: str
    """A URL, https but on this machine, or a file."""
    roles_claim: str = "roles"
    scopes_claim: str = "scope"
    names: Mapping[str, str] = field(default_factory=dict)
    """What the provider calls our roles and scopes, by its names; without it, as we do."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.jwks)
        if parts.scheme == "http" and parts.hostname not in LOCAL:
            raise InvalidInput("jwt_jwks", f"is {self.jwks!r}", "https: whoever could change it could make tokens")
        if not self.audience or not self.jwks:
            raise InvalidInput("jwt_audience" if self.jwks else "jwt_jwks", "is empty", "a value, with jwt_issuer")


class KeySet:
    """The provider's public keys, fetched when they are needed and once in a while; what is known stays while it is away."""

    def __init__(self, where: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._where = where
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._tried: float | None = None
        self._lock = asyncio.Lock()

    async def key(self, kid: str) -> jwt.PyJWK:
        """The key of an id. Raises Unauthenticated for one that is not known, Unavailable when no keys can be had."""
        # Keys that are known do not wait while somebody asks for others.
        if kid not in self._keys or self._worth_asking(kid):
            async with self._lock:
                if self._worth_asking(kid):
                    await self._refresh()
        if not self._keys:
            raise Unavailable("the identity provider's keys cannot be had", retry_after_s=COOLDOWN_S)
        if not kid and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if kid not in self._keys:
            raise Unauthenticated("the token names a key that the identity provider does not have", "unknown kid")
        return self._keys[kid]

    def _worth_asking(self, kid: str) -> bool:
        age_s = float("inf") if self._tried is None else self._clock() - self._tried
        return age_s > FRESH_S or (kid not in self._keys and age_s > COOLDOWN_S)

    async def _refresh(self) -> None:
        self._tried = self._clock()
        try:
            found = keys_in(await asyncio.to_thread(fetched, self._where))
        except (OSError, ValueError, jwt.PyJWTError) as error:
            log.warning("%s cannot be read, going on with %d keys: %s", self._where, len(self._keys), error)
            return
        self._keys = found


def fetched(where: str) -> bytes:
    """What is at a URL or in a file. Raises OSError, and ValueError for too much."""
    if urlsplit(where).scheme in ("http", "https"):
        with urllib.request.urlopen(where, timeout=FETCH_S) as response:  # noqa: S310  the scheme has been looked at
            found: bytes = response.read(MOST_JWKS_BYTES + 1)
    else:
        found = Path(where).read_bytes()
    if len(found) > MOST_JWKS_BYTES:
        raise ValueError(f"more than {MOST_JWKS_BYTES} bytes")
    return found


def keys_in(text: bytes) -> dict[str, jwt.PyJWK]:
    """The public keys of a JWKS that we can use, by id. Raises ValueError."""
    content = json.loads(text)
    listed = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no JWKS: an object with a list of keys is expected")
    found = {}
    for each in listed:
        if not isinstance(each, dict) or each.get("kty") not in ("RSA", "EC", "OKP") or each.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK.from_dict(each)
        except jwt.PyJWTError:
            continue
        if key.algorithm_name in ALGORITHMS:
            found[str(each.get("kid", ""))] = key
    return found


class Tokens:
    """Turns tokens into principals."""

    def __init__(
        self, issuer: Issuer, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._issuer = issuer
        self._keys = KeySet(issuer.jwks, clock)
        self._wall = wall
        self._verified: OrderedDict[str, tuple[Principal, float]] = OrderedDict()

    def known(self, token: str) -> Principal | None:
        """Whoever a token stands for that was checked not long ago and has not expired."""
        found = self._verified.get(token)
        return found[0] if found and found[1] > self._wall() else None

    async def principal(self, token: str) -> Principal:
        """Whoever a token stands for. Raises Unauthenticated, and Unavailable when no keys can be had."""
        if found := self.known(token):
            return found
        claims = await self._claims(token)
        principal = self._principal(claims)
        # Not for as long as it lasts: the provider may have taken back the key that signed it.
        until = min(float(claims["exp"]) + LEEWAY_S, self._wall() + FRESH_S)
        self._verified[token] = (principal, until)
        if len(self._verified) > MOST_VERIFIED:
            self._verified.popitem(last=False)
        return principal

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                raise Unauthenticated(f"a token must be signed by one of {', '.join(ALGORITHMS)}", "algorithm")
            # The key says by which algorithm; PyJWT refuses a header that says another.
            key = await self._keys.key(str(header.get("kid", "")))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._issuer.issuer,
                audience=self._issuer.audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the token has expired", "expired token") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise Unauthenticated(f"the token does not hold: {error}", type(error).__name__) from error
        return claims

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= MOST_CLAIM_CHARS or not subject.isprintable():
            raise Unauthenticated("the token's subject is no name", "subject")
        names = self._names(claims, self._issuer.roles_claim) | self._names(claims, self._issuer.scopes_claim)
        role = max((ROLES[name] for name in names if name in ROLES), default=Role.NONE)
        scopes: frozenset[Scope] = frozenset(SCOPES[name] for name in names if name in SCOPES)
        # Apart from the names of keys, so that neither can pass for the other in the audit.
        return Principal(f"jwt:{subject}", f"jwt:{subject}", role, scopes)

    def _names(self, claims: Mapping[str, Any], path: str) -> set[str]:
        """What a claim holds, in our words. `path`: with dots, such as realm_access.roles; a text is split at spaces."""
        found: Any = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        listed = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
        own = self._issuer.names
        return {own.get(name, "") if own else name for name in listed if isinstance(name, str)}
