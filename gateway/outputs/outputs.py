"""All that a gateway sends to people who only watch."""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.outputs.hls import HlsStreams, hls_streams
from gateway.outputs.pushes import Pushes, pushes
from gateway.outputs.sessions import Sessions


@dataclass(frozen=True)
class Outputs:
    """Made by `outputs`."""

    pushes: Pushes
    hls: HlsStreams


@asynccontextmanager
async def outputs(
    sessions: Sessions, push_hosts: Sequence[str] = (), most_pushes: int = 16, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Outputs]:
    """The outputs of a gateway, which end on leaving. `push_hosts` are names that may be pushed to; none are all."""
    async with pushes(sessions, push_hosts, most_pushes, tls) as pushing, hls_streams(sessions) as hls:
        yield Outputs(pushing, hls)
