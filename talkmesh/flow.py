"""Flow control of every channel and server that speaks to or within the mesh."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024

# gRPC's own estimate of the bandwidth lets 4 MiB (two minutes of speech) pile up before a write waits. Without the probe
# and with a small window a slow reader is felt within half a second of speech.
FLOW_CONTROL: tuple[tuple[str, int], ...] = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 16384),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)
