"""What stands before every route: sizes, patience, headers, and who may change things."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.errors import Wrong, response_of
from gateway.webrtc.faults import Fault

MOST_BODY_BYTES = 64 * 1024
BODY_S = 10.0
"""How long a client may take to send a body."""
SAFE = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


class Guards:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, origins: Sequence[str] = ()) -> None:
        """`origins` may change things although they are not this gateway's own pages."""
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        if scope["method"] not in SAFE and not self._welcome(headers):
            refusal = Fault("PERMISSION_DENIED", "pages of this origin may not change anything here", "Origin")
            await response_of(refusal)(scope, receive, answer)
            return
        await self._app(scope, limited(receive, headers), answer)

    def _welcome(self, headers: Headers) -> bool:
        """Whether a request that changes something comes from no page, a page of ours, or one that is allowed."""
        origin = headers.get("origin", "")
        if not origin or origin in self._origins or "*" in self._origins:
            return True
        return urlsplit(origin).netloc == headers.get("host", "")


def limited(receive: Receive, headers: Headers) -> Receive:
    """`receive` that raises Wrong for a body that is too long, or too long in coming."""
    length = headers.get("content-length", "")
    size = int(length) if length.isdecimal() else 0
    received, complete = 0, False
    deadline = asyncio.get_running_loop().time() + BODY_S

    async def receive_some() -> Message:
        nonlocal received, complete
        if complete:
            return await receive()
        if size > MOST_BODY_BYTES:
            raise Wrong(413, "body", f"{size} bytes are more than {MOST_BODY_BYTES}")
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise Wrong(408, "body", f"did not come within {BODY_S:.0f} s") from None
        received += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if received > MOST_BODY_BYTES:
            raise Wrong(413, "body", f"more than {MOST_BODY_BYTES} bytes")
        return message

    return receive_some
