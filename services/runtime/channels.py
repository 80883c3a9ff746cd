"""How every channel and server of the mesh is set up."""

from collections.abc import Sequence

import grpc

from talkmesh.flow import FLOW_CONTROL

# A service that was restarted is found again within a second; grpc's default backs off to two minutes.
RECONNECT: tuple[tuple[str, int], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

# Calls inside the mesh never go through the proxy that a user's environment may name for the world outside.
DIRECT: tuple[tuple[str, int], ...] = (("grpc.enable_http_proxy", 0),)

# A caller that vanishes without a word (power, network) is noticed within half a minute, and its streams end.
# The second and third are one setting by two names: this grpc heeds the third.
NOTICE_LOSS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
)

# Without this, a second process could share a port that is already taken and get half of the calls.
ONE_OWNER: tuple[tuple[str, int], ...] = (("grpc.so_reuseport", 0),)


def channel(target: str) -> grpc.aio.Channel:
    """A plaintext channel to `target` ("host:port" or "unix:/path"), used as an async context manager."""
    return grpc.aio.insecure_channel(target, options=[*FLOW_CONTROL, *RECONNECT, *DIRECT])


def server(interceptors: Sequence[grpc.aio.ServerInterceptor] = ()) -> grpc.aio.Server:
    """A server with the mesh's flow control."""
    return grpc.aio.server(interceptors=interceptors, options=[*FLOW_CONTROL, *NOTICE_LOSS, *ONE_OWNER])
