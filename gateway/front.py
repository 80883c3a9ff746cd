"""The gateway's HTTP side: talk page, WebRTC, streams and pushes. Imported only where it is wanted: it brings much along."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from gateway.access.gate import Gate
from gateway.admin import Administration
from gateway.http.app import app_of
from gateway.http.hosted import Hosted
from gateway.http.serving import serving
from gateway.live.sessions import LiveSessions
from gateway.mesh import Mesh
from gateway.offerings import Offered
from gateway.outcomes.ratings import Ratings
from gateway.outputs.outputs import Outputs
from gateway.settings import GatewaySettings
from gateway.webrtc.ice import ice_servers
from gateway.webrtc.peers import peering
from gateway.webrtc.settings import WebRtcSettings


@asynccontextmanager
async def fronted(
    settings: GatewaySettings,
    mesh: Mesh,
    sessions: LiveSessions,
    hosted: Hosted,
    outputs: Outputs,
    ratings: Ratings,
    admin: Administration,
    gate: Gate,
) -> AsyncIterator[int]:
    """Serve HTTP as the settings say; yields the port. Raises PortTaken."""
    webrtc = WebRtcSettings(ice_servers=ice_servers(settings.ice_servers), host=settings.webrtc_host)
    origins = tuple(origin for origin in settings.http_origins.split(",") if origin)
    async with AsyncExitStack() as stack:
        peers = await stack.enter_async_context(peering(sessions, webrtc))
        offered = Offered(mesh, settings)
        app = app_of(
            sessions,
            hosted,
            peers,
            offered,
            version("talkmesh"),
            origins,
            outputs,
            ratings=ratings,
            admin=admin,
            gate=gate,
        )
        yield await stack.enter_async_context(serving(app, settings.http, settings.grace_s))
