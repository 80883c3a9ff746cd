"""A gateway's HTTP side, over real connections."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.admin import Administration, AdminServicer
from gateway.http.app import app_of
from gateway.http.hosted import hosting
from gateway.http.page_routes import Offerings
from gateway.http.serving import serving
from gateway.webrtc.peers import peering
from gateway.webrtc.settings import WebRtcSettings
from services.runtime.etcd import Etcd
from tests.fakes.live import FakeSessions, live
from tests.fakes.operators import Told, administration, write_catalog


async def offered() -> Offerings:
    return Offerings(("mei", "leo"), ("heart", "joe"))


@asynccontextmanager
async def site(
    settings: WebRtcSettings | None = None,
    origins: tuple[str, ...] = (),
    most: int = 3,
    admin: Administration | None = None,
) -> AsyncIterator[tuple[int, FakeSessions]]:
    """Its port, and the sessions behind it: `most` at a time."""
    async with (
        live(grace_s=0.5, most=most) as sessions,
        peering(sessions, settings or WebRtcSettings(host="127.0.0.1")) as peers,
        hosting(sessions) as hosted,
        serving(app_of(sessions, hosted, peers, offered, "1.2.3", origins, admin=admin), "127.0.0.1:0") as port,
    ):
        yield port, sessions


@asynccontextmanager
async def administered_site(etcd: Etcd) -> AsyncIterator[tuple[int, AdminServicer]]:
    """Its port, and the control plane behind it, with a catalog and a host that only says what it serves."""
    await write_catalog(etcd)
    await Told(etcd, model="heart", generation=1).tell()
    async with administration(etcd) as admin, site(admin=admin.of) as (port, _):
        yield port, admin
