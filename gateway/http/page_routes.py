"""The talk page, and what it needs to know."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from gateway.http.errors import Wrong
from gateway.http.models import PageConfig, Portrait, Voice
from gateway.webrtc.ice import IceServer

STATIC = Path(__file__).parent / "static"
PAGE = STATIC / "index.html"
KINDS = (".jpg", ".png", ".webp", ".svg")


@dataclass(frozen=True)
class Offerings:
    """What users may choose from."""

    portraits: tuple[str, ...] = ()
    voices: tuple[str, ...] = ()


Offered = Callable[[], Awaitable[Offerings]]


def image_of(portrait: str) -> str:
    """Path of a portrait's picture; "" if there is none. Names come from renderers: they stay inside the folder."""
    folder = STATIC / "portraits"
    if not portrait or "/" in portrait or portrait.startswith("."):
        return ""
    found = next((kind for kind in KINDS if (folder / f"{portrait}{kind}").is_file()), "")
    return f"/static/portraits/{portrait}{found}" if found else ""


def router_of(offered: Offered, servers: tuple[IceServer, ...], version: str) -> APIRouter:
    """The routes of the page."""
    router = APIRouter(tags=["page"])

    @router.get("/", response_class=FileResponse, include_in_schema=False)
    async def page() -> Response:
        if not PAGE.is_file():
            raise Wrong(404, "", "this gateway has no talk page")
        return FileResponse(PAGE, headers={"Cache-Control": "no-cache"})

    @router.get("/api/config")
    async def config(response: Response) -> PageConfig:
        """Faces and voices to choose from, and how to reach the gateway over WebRTC."""
        response.headers["Cache-Control"] = "no-store"
        found = await offered()
        return PageConfig(
            portraits=[Portrait(name=name, image=image_of(name)) for name in found.portraits],
            voices=[Voice(name=name) for name in found.voices],
            ice_servers=[server.for_browsers() for server in servers],
            version=version,
        )

    return router
