"""The gate before an app's routes, as plain ASGI: bodies and responses pass through as streams."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access import needs
from gateway.access.gate import Gate
from gateway.access.principals import enter
from gateway.http.errors import told
from services.runtime.errors import DomainError


class HttpGate:
    """ASGI middleware. What the table of needs does not know ends here, whether there is a route for it or not."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # There are none; one that is added must be let in here on purpose.
            await send({"type": "websocket.close", "code": 1008, "reason": "not here"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        headers = {key.lower(): value for key, value in Headers(scope=scope).items()}
        try:
            principal = await self._gate.admit(headers, peer(scope), needs.of_route(method, path), method)
        except DomainError as error:
            await told(error)(scope, receive, send)
            return
        enter(principal)
        await self._app(scope, receive, send)


def peer(scope: Scope) -> str:
    """The address that a request comes from."""
    return str((scope.get("client") or ("unknown",))[0])
