"""How the gateway does WebRTC."""

from dataclasses import dataclass

from gateway.webrtc.ice import IceServer


@dataclass(frozen=True)
class WebRtcSettings:
    """Settings of all peers of a gateway."""

    ice_servers: tuple[IceServer, ...] = ()
    """For browsers, and for the gateway itself."""
    host: str = ""
    """The one address at which peers find the gateway: one of this machine, or mapped to it. "": all it has."""
    connect_s: float = 30.0
    """How long a peer may take to connect."""
    gone_s: float = 10.0
    """After so long without a packet a peer is gone. ICE itself needs 30 s to tell."""
    most_peers: int = 64
