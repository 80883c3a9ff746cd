"""The access of a gateway, from its settings: what it knows of keys and tokens for as long as it runs."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.access.gate import HOW, Gate
from gateway.access.keys import KeyRing
from gateway.access.tokens import Issuer, Tokens
from gateway.settings import GatewaySettings
from services.runtime.etcd import Etcd
from services.runtime.resident import cancelled_at_end

REMIND_S = 3600.0
LOOK_S = 0.2
log = logging.getLogger(__name__)


@asynccontextmanager
async def gated(settings: GatewaySettings, etcd: Etcd | None) -> AsyncIterator[Gate]:
    """The gate. Raises InvalidInput for an identity provider that is half described."""
    ring, tokens = KeyRing() if etcd else None, tokens_of(settings)
    everybody = settings.access == "open"
    chores = [ring.follow(etcd)] if ring and etcd else []
    async with cancelled_at_end(*chores, remind() if everybody else advise(ring, tokens)):
        yield Gate(ring, tokens, everybody=everybody)


def tokens_of(settings: GatewaySettings) -> Tokens | None:
    """None without an identity provider. Raises InvalidInput."""
    if not settings.jwt_issuer:
        return None
    names = dict(part.partition("=")[::2] for part in settings.jwt_names.split(",") if part)
    return Tokens(
        Issuer(
            settings.jwt_issuer,
            settings.jwt_audience,
            settings.jwt_jwks,
            settings.jwt_roles_claim,
            settings.jwt_scopes_claim,
            names,
        )
    )


async def remind() -> None:
    """Say now, and again and again, that nobody is asked who they are."""
    while True:
        log.warning("ACCESS IS OPEN: whoever reaches this gateway may do everything. Start it with --access required")
        await asyncio.sleep(REMIND_S)


async def advise(ring: KeyRing | None, tokens: Tokens | None) -> None:
    """Say once, when nobody can come in, how that is changed."""
    while ring and not ring.known:
        await asyncio.sleep(LOOK_S)
    if tokens is None and (ring is None or not ring.keys):
        log.warning(
            "nobody has access to this gateway: %s", HOW if ring else "it has no etcd, and no identity provider"
        )
