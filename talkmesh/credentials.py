"""Which token a client shows, and channels that show it.

The first of: what the caller says, $TALKMESH_TOKEN, the file $TALKMESH_TOKEN_FILE, and for a gateway of this machine that
`tools.up` has started, the file that it has left for this user.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from talkmesh.errors import TalkmeshError
from talkmesh.flow import FLOW_CONTROL

TOKEN, TOKEN_FILE = "TALKMESH_TOKEN", "TALKMESH_TOKEN_FILE"
LOCAL = ("127.0.0.1", "localhost", "[::1]")
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def local_file(address: str) -> Path:
    """Where the token of a gateway of this machine is left, by its port."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "talkmesh" / "tokens" / address.rpartition(":")[2]


def token_for(address: str, token: str = "") -> str:
    """The token to show to a gateway; "" for none. Raises TalkmeshError when a file that was named cannot be read."""
    if found := token or os.environ.get(TOKEN, ""):
        return found.strip()
    if path := os.environ.get(TOKEN_FILE, ""):
        return read(Path(path))
    return left_for_us(address) if address.rpartition(":")[0] in LOCAL else ""


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TalkmeshError(f"{path} cannot be read: {type(error).__name__}", "INVALID_ARGUMENT", TOKEN_FILE) from None


def left_for_us(address: str) -> str:
    """What a local gateway's file holds, if nobody else can have written or read it."""
    path = local_file(address)
    try:
        found = path.lstat()
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
        return path.read_text(encoding="utf-8").strip() if ours else ""
    except (OSError, UnicodeDecodeError):
        return ""


def gateway_channel(address: str, token: str = "") -> grpc.aio.Channel:
    """A channel to a gateway whose every call shows the token. Raises TalkmeshError."""
    channel = grpc.aio.insecure_channel(address, options=FLOW_CONTROL)
    found = token_for(address, token)
    return showing(channel, ("authorization", f"Bearer {found}")) if found else channel


def showing(channel: grpc.aio.Channel, header: tuple[str, str]) -> grpc.aio.Channel:
    """Have every call that is made on a channel bring a header along.

    Not by interceptors: those of grpc.aio put a queue of their own between a stream and whoever writes to it.
    """
    for kind in KINDS:
        setattr(channel, kind, bringing(getattr(channel, kind), header))
    return channel


def bringing(make: Callable[..., Any], header: tuple[str, str]) -> Callable[..., Any]:
    def made(*arguments: Any, **named: Any) -> Callable[..., Any]:
        call = make(*arguments, **named)

        def called(*arguments: Any, metadata: Any = (), **named: Any) -> Any:
            return call(*arguments, metadata=(*(metadata or ()), header), **named)

        return called

    return made
