"""The HTTP interface as a whole."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response

from gateway.access.gate import Gate
from gateway.access.http_gate import HttpGate
from gateway.admin import Administration
from gateway.http import feedback_routes, ofrep_routes, outputs_routes, page_routes, peer_routes, session_routes
from gateway.http.admin import routes as admin_routes
from gateway.http.errors import told_as_json
from gateway.http.guards import Guards
from gateway.http.hosted import Hosted
from gateway.http.page_routes import STATIC, Offered
from gateway.http.session_routes import Listed
from gateway.outcomes.ratings import Ratings
from gateway.outputs.outputs import Outputs
from gateway.webrtc.peers import Peers

ASKED = ("Content-Type", "Authorization", "X-API-Key", "If-Match", "If-None-Match")
EXPOSED = ("Location", "Link", "Retry-After", "ETag", "WWW-Authenticate")


def described(app: FastAPI) -> None:
    """Have the document say how to get in, and nothing of the 422 that FastAPI would answer with: here it is 400."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes["bearer"] = {"type": "http", "scheme": "bearer", "description": "a key of talkmesh, or a JWT"}
            document["security"] = [{"bearer": []}, {}]
            for operations in document["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
        assert app.openapi_schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it


class Fresh(StaticFiles):
    """Files that browsers ask after each time: after an update, no old module meets a new one."""

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        response = super().file_response(*arguments, **named)
        response.headers["Cache-Control"] = "no-cache"
        return response


def app_of(
    sessions: Listed,
    hosted: Hosted,
    peers: Peers,
    offered: Offered,
    version: str,
    origins: Sequence[str] = (),
    outputs: Outputs | None = None,
    *,
    ratings: Ratings | None = None,
    admin: Administration | None = None,
    gate: Gate | None = None,
) -> FastAPI:
    """The app. Pages of other `origins` may use it; by default none may. Without a `gate` everybody may do everything."""
    # The pages that show an OpenAPI document come from elsewhere; the document itself is there.
    app = FastAPI(title="talkmesh", version=version, docs_url=None, redoc_url=None)
    told_as_json(app)
    described(app)
    app.include_router(page_routes.router_of(offered, peers.settings.ice_servers, version))
    app.include_router(session_routes.router_of(sessions, hosted))
    app.include_router(outputs_routes.router_of(sessions, outputs))
    app.include_router(feedback_routes.router_of(ratings))
    if admin:
        app.include_router(admin_routes.router_of(admin))
        app.include_router(ofrep_routes.router_of(admin.flags.registry))
    # Last, since "/{place}/…" would otherwise be asked first.
    app.include_router(peer_routes.router_of(peers))
    app.mount("/static", Fresh(directory=STATIC, check_dir=False), name="static")
    if gate is not None:
        app.add_middleware(HttpGate, gate=gate)
    if origins:
        methods, headers = (
            ("GET", "POST", "PUT", "PATCH", "DELETE"),
            ASKED,
        )
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=methods,
            allow_headers=headers,
            expose_headers=EXPOSED,
        )
    app.add_middleware(Guards, origins=origins)
    return app
