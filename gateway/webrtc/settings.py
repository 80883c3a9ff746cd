"""How the gateway does WebRTC."""

import ipaddress
from dataclasses import dataclass

from gateway.webrtc.ice import IceServer
from services.runtime.errors import InvalidInput


@dataclass(frozen=True)
class WebRtcSettings:
    """Settings of all peers of a gateway. UDP ports are the kernel's to choose: net.ipv4.ip_local_port_range bounds them."""

    ice_servers: tuple[IceServer, ...] = ()
    """For browsers, and for the gateway itself."""
    host: str = ""
    """The one address at which peers find the gateway: one of this machine, or mapped to it. "": all it has."""
    connect_s: float = 30.0
    """How long a peer may take to connect."""
    gone_s: float = 10.0
    """After so long without a packet a peer is gone. ICE itself needs 30 s to tell."""
    most_peers: int = 64

    def __post_init__(self) -> None:
        """Raises InvalidInput for a host that is no address."""
        try:
            ipaddress.ip_address(self.host or "::")
        except ValueError:
            raise InvalidInput("webrtc_host", f"{self.host!r} is no IP address", "one of IPv4 or IPv6") from None
