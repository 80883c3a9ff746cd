"""WHIP (RFC 9725) and WHEP: an SDP offer is posted, an answer comes back."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from gateway.http.errors import RESPONSES, Wrong
from gateway.http.models import Mode, SessionWishes
from gateway.webrtc.ice import IceServer
from gateway.webrtc.peers import Answer, Peers

Place = Literal["whip", "whep"]
SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
ANSWERED: dict[int | str, dict[str, object]] = {
    201: {
        "description": "The answer; Location is the peer, to PATCH candidates to and to DELETE",
        "content": {SDP: {"schema": {"type": "string"}}},
    },
    413: RESPONSES[400] | {"description": "More than 64 KB"},
    415: RESPONSES[400] | {"description": f"Not {SDP}"},
    **RESPONSES,
}


def body_of(kind: str) -> dict[str, object]:
    """How OpenAPI tells of a body that is no JSON."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": {"type": "string"}}}}}


async def text_of(request: Request, kind: str) -> str:
    """The body, which must be of a content type. Raises Wrong."""
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != kind:
        raise Wrong(415, "Content-Type", f"{found[:80] or 'nothing'!r} instead of {kind}")
    try:
        return (await request.body()).decode()
    except UnicodeDecodeError as error:
        raise Wrong(400, "body", "is not UTF-8") from error


def links_of(servers: tuple[IceServer, ...]) -> str:
    """ICE servers as a Link header, without credentials: those are in /api/config."""
    return ", ".join(f'<{url}>; rel="ice-server"' for server in servers for url in server.urls)


def created(answer: Answer, place: str, peers: Peers) -> Response:
    headers = {"Location": f"/{place}/{answer.session_id}/{answer.peer_id}", "Cache-Control": "no-store"}
    links = links_of(peers.settings.ice_servers)
    if links:
        headers["Link"] = links
    return Response(answer.sdp, 201, headers, media_type=SDP)


def wishes(
    portrait: Annotated[str, Query(max_length=200)] = "",
    voice: Annotated[str, Query(max_length=200)] = "",
    size: Annotated[int, Query(ge=0, le=4096)] = 0,
    language: Annotated[str, Query(max_length=40)] = "",
    mode: Mode = Mode.AUTO,
) -> SessionWishes:
    """Of a query."""
    return SessionWishes(portrait=portrait, voice=voice, size=size, language=language, mode=mode)


def router_of(peers: Peers) -> APIRouter:
    """The routes of peers."""
    router = APIRouter(tags=["WebRTC"])

    @router.post("/whip", status_code=201, responses=ANSWERED, openapi_extra=body_of(SDP), response_class=Response)
    async def talk(
        request: Request,
        wanted: Annotated[SessionWishes, Depends(wishes)],
        session: Annotated[str, Query(max_length=200, description="a session to take up again")] = "",
    ) -> Response:
        """Talk with a face: microphone in, voice and face out, a data channel named "events" for everything else."""
        offer = await text_of(request, SDP)
        return created(await peers.talk(offer, wanted.config(session)), "whip", peers)

    @router.post(
        "/whep/{session_id}", status_code=201, responses=ANSWERED, openapi_extra=body_of(SDP), response_class=Response
    )
    async def watch(request: Request, session_id: str) -> Response:
        """Watch a session that somebody else talks with."""
        return created(await peers.watch(await text_of(request, SDP), session_id), "whep", peers)

    @router.patch(
        "/{place}/{session_id}/{peer_id}",
        status_code=204,
        responses=RESPONSES,
        openapi_extra=body_of(FRAGMENT),
        response_class=Response,
    )
    async def trickle(request: Request, place: Place, session_id: str, peer_id: str) -> Response:
        """Add ICE candidates of a peer."""
        await peers.trickle(session_id, peer_id, await text_of(request, FRAGMENT))
        return Response(status_code=204)

    @router.delete("/{place}/{session_id}/{peer_id}", responses=RESPONSES, response_class=Response)
    async def leave(place: Place, session_id: str, peer_id: str) -> Response:
        """End a peer. Its session goes on for a while, and can be taken up again."""
        await peers.leave(session_id, peer_id)
        return Response()

    return router
