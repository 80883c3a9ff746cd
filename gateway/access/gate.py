"""Who may come in: from what a call brings along to whoever makes it, or a refusal. Knows nothing of gRPC or HTTP."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gateway.access.buckets import Buckets
from gateway.access.keys import KeyRing
from gateway.access.needs import Need
from gateway.access.principals import EVERYBODY, NOBODY, Principal
from gateway.access.tokens import Tokens
from services.runtime.errors import Denied, OverLimit, Unauthenticated

HOW = "make one with `python -m gateway.access --etcd … --name me --role admin`, see docs/access.md"
FAILURES_PER_S, FAILURES_AT_ONCE = 0.5, 30.0
"""How often one peer may fail to say who it is before it is not listened to for a while."""
BURST_S = 2.0
LONGEST_TOKEN = 8192
log = logging.getLogger(__name__)


class Gate:
    """One for all ways into a gateway. `ring` and `tokens`: None where it has no keys, or no identity provider."""

    def __init__(
        self,
        ring: KeyRing | None,
        tokens: Tokens | None,
        *,
        everybody: bool = False,
        failures: Buckets | None = None,
        requests: Buckets | None = None,
    ) -> None:
        self._ring = ring
        self._tokens = tokens
        self._everybody = everybody
        self._failures = Buckets() if failures is None else failures
        self._requests = Buckets() if requests is None else requests

    async def admit(self, brought: Mapping[str, str], peer: str, need: Need, what: str) -> Principal:
        """Whoever makes a call. `brought`: its headers, in small letters. `peer`: where it comes from.

        Raises Unauthenticated, Denied, OverLimit, and Unavailable while it cannot be known.
        """
        if self._everybody:
            return EVERYBODY
        if need.free:
            return NOBODY
        token = token_of(brought)
        principal = await self._known(token, peer)
        self._count(principal)
        if not need.met_by(principal):
            log.info("%s may not %s", principal.name, what)
            raise Denied(f"{principal.name} may not do this: {what} takes {need}")
        return principal

    async def _known(self, token: str, peer: str) -> Principal:
        if not token:
            raise Unauthenticated(f"no token came with the call: {self._advice()}", "no token")
        try:
            # To look at what was brought costs little, so it comes before all patience: nobody whose key or token holds is
            # kept out by others behind the same proxy. How often a provider is asked for its keys is limited there.
            if token.startswith("tmk_") and self._ring:
                return self._ring.principal(token)
            if not self._tokens or token.startswith("tmk_"):
                raise Unauthenticated(f"this gateway knows no such tokens: {self._advice()}", "unknown kind")
            return await self._tokens.principal(token)
        except Unauthenticated as error:
            self._failed(peer, error)
            raise

    def _failed(self, peer: str, error: Unauthenticated) -> None:
        """Count a failure, and tell of it unless there were too many to tell of. Raises OverLimit."""
        if wait_s := self._failures.take(peer, FAILURES_PER_S, FAILURES_AT_ONCE):
            raise OverLimit("too many tokens from here did not hold", wait_s) from error
        log.warning("a call from %s was refused: %s", peer, error.kind)

    def _count(self, principal: Principal) -> None:
        if per_s := principal.limits.requests_per_s:
            burst = principal.limits.burst or max(1.0, BURST_S * per_s)
            if wait_s := self._requests.take(principal.id, per_s, burst):
                raise OverLimit(f"{principal.name} may make {per_s:g} calls a second", wait_s)

    def _advice(self) -> str:
        if not self._ring and not self._tokens:
            return "this gateway has neither etcd for keys nor an identity provider, see docs/access.md"
        if self._ring and self._ring.known and not self._ring.keys and not self._tokens:
            return f"there are no keys yet; {HOW}"
        return "send `authorization: Bearer TOKEN` or `x-api-key: TOKEN`"


def token_of(brought: Mapping[str, str]) -> str:
    """The token of a call; "" for none. Raises Unauthenticated for another kind of authorization."""
    said = brought.get("authorization", "")
    kind, _, token = said.partition(" ")
    if said and kind.lower() != "bearer":
        raise Unauthenticated("authorization must be `Bearer TOKEN`", "other scheme")
    found = token.strip() or brought.get("x-api-key", "").strip()
    if len(found) > LONGEST_TOKEN:
        raise Unauthenticated(f"the token is longer than {LONGEST_TOKEN} characters", "too long")
    return found


class OpenSessions:
    """How many sessions each principal has open."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    @contextmanager
    def one_more(self, principal: Principal) -> Iterator[None]:
        """One more, for as long as this is not left. Raises OverLimit."""
        most, now = principal.limits.sessions, self._open.get(principal.id, 0)
        if most and now >= most:
            raise OverLimit(f"{principal.name} may have {most} sessions at a time", retry_after_s=2.0)
        self._open[principal.id] = now + 1
        try:
            yield
        finally:
            self._open[principal.id] -= 1
            if not self._open[principal.id]:
                del self._open[principal.id]
