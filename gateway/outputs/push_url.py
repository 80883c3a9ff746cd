"""Where a push goes: the parts of an RTMP URL, of which the key, the user and the password are secrets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from services.runtime.errors import InvalidInput

PORTS = {"rtmp": 1935, "rtmps": 443}
EXPECTED = "rtmp://host/app/key or rtmps://host/app/key"
LONGEST = 2048


@dataclass(frozen=True)
class PushUrl:
    """A server and the name of a stream on it. As a string it is what may be shown to anybody."""

    scheme: str
    host: str
    port: int
    app: str
    key: str = field(repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def encrypted(self) -> bool:
        return self.scheme == "rtmps"

    @property
    def place(self) -> str:
        """The URL down to the application, which servers want to be told; no secret is in it."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{name}{port}/{self.app}"

    def __str__(self) -> str:
        return f"{self.place}/***"

    def redacted(self, text: str) -> str:
        """What somebody else has said, without our secrets."""
        for secret in sorted({self.key, self.key.partition("?")[0], self.user, self.password}, key=len, reverse=True):
            if secret:
                text = text.replace(secret, "***")
        return text


def push_url(text: str, allowed_hosts: Sequence[str] = ()) -> PushUrl:
    """The parts of a URL: the last part of its path, with the query, is the key.

    `allowed_hosts` are names, or "*.name" for all below one; none allows all. Raises InvalidInput, which does not repeat
    the URL.
    """
    if len(text) > LONGEST or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidInput("url", "it is too long, or has characters that no URL has", EXPECTED)
    parts, port = split(text)
    if parts.scheme not in PORTS:
        raise InvalidInput("url", "only RTMP can be pushed to", EXPECTED)
    app, _, name = parts.path.strip("/").rpartition("/")
    host = (parts.hostname or "").rstrip(".")
    if not host or not app or not name:
        raise InvalidInput("url", "it does not name a host, an application and a stream key", EXPECTED)
    if allowed_hosts and not any(allows(pattern.lower(), host) for pattern in allowed_hosts):
        raise InvalidInput("url", f"this gateway may not push to {host}", f"one of {', '.join(allowed_hosts)}")
    key = f"{name}?{parts.query}" if parts.query else name
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return PushUrl(parts.scheme, host, port or PORTS[parts.scheme], app, key, user, password)


def split(text: str) -> tuple[SplitResult, int | None]:
    """The parts that every URL has."""
    try:
        parts = urlsplit(text)
        return parts, parts.port
    except ValueError:
        # What it says repeats parts of the URL.
        raise InvalidInput("url", "it cannot be taken apart", EXPECTED) from None


def allows(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
