"""HTTP: pushes of a session, and the session itself as MP4 and HLS. Domain errors are the application's to answer."""

from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import BaseModel, Field
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.outputs.hls import HlsStreams
from gateway.outputs.outputs import Outputs
from gateway.outputs.progressive import mp4_of
from gateway.outputs.push import Push
from gateway.outputs.pushes import Pushes
from gateway.outputs.sessions import Sessions

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
SEGMENT_TYPE = "video/mp4"
# A segment never changes, and is of no use when it has left the playlist.
KEEP_SHORTLY = {"Cache-Control": "max-age=60, immutable"}


class LiveResponse(StreamingResponse):
    """Lets go of its source as soon as its reader has gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().__call__(scope, receive, send)


class PushTarget(BaseModel):
    """Where to push to."""

    url: str = Field(description="rtmp://host/app/key or rtmps://host/app/key; the key is kept secret")


class PushStatus(BaseModel):
    """A push, without its secrets."""

    push_id: str
    url: str = Field(description="rtmp://host/app/***")
    state: str = Field(description="CONNECTING, LIVE, RETRYING, STOPPED or FAILED")
    bytes: int
    reconnects: int = Field(description="how often it has gone live again")
    dropped_pictures: int = Field(description="what the server was too slow for, or away")
    dropped_sound_ms: float
    error: str = Field(description="why it is not live, or was not the last time")


class PushList(BaseModel):
    """The pushes of a session, also those that were over a few minutes ago."""

    pushes: list[PushStatus]


def router_of(sessions: Sessions, outputs: Outputs | None = None) -> APIRouter:
    """The routes; of a gateway without outputs, those that need no more than a session."""
    router = APIRouter(tags=["outputs"])
    if outputs is not None:
        add_pushes(router, outputs.pushes)
    add_mp4(router, sessions)
    if outputs is not None:
        add_hls(router, outputs.hls)
    return router


def add_pushes(router: APIRouter, pushes: Pushes) -> None:
    every = "/api/sessions/{session_id}/pushes"

    @router.post(every, status_code=201)
    async def start_push(session_id: str, target: PushTarget) -> PushStatus:
        """Push a session to an RTMP server, until it is stopped or the session ends."""
        return status_of(pushes.start(session_id, target.url))

    @router.get(every)
    async def list_pushes(session_id: str) -> PushList:
        """How the pushes of a session do."""
        return PushList(pushes=[status_of(push) for push in pushes.list(session_id)])

    @router.delete(every + "/{push_id}")
    async def stop_push(session_id: str, push_id: str) -> PushStatus:
        """End a push."""
        return status_of(await pushes.stop(session_id, push_id))


def add_mp4(router: APIRouter, sessions: Sessions) -> None:
    @router.get("/live/{session_id}/stream.mp4", response_class=Response)
    async def progressive(session_id: str) -> Response:
        """A fragmented MP4 that goes on until the session ends."""
        stream = mp4_of(sessions.get(session_id).program)
        return LiveResponse(stream, media_type=SEGMENT_TYPE, headers={"Cache-Control": "no-store"})


def add_hls(router: APIRouter, hls: HlsStreams) -> None:
    @router.get("/live/{session_id}/index.m3u8", response_class=Response)
    async def playlist(session_id: str, if_none_match: Annotated[str, Header()] = "") -> Response:
        """An HLS playlist, of segments that are made while it is asked for."""
        made = await hls.begun(session_id).playlist()
        headers = {"ETag": f'"{made.tag}"', "Cache-Control": "no-cache"}
        if made.tag in if_none_match:
            return Response(status_code=304, headers=headers)
        return Response(made.text, media_type=PLAYLIST_TYPE, headers=headers)

    @router.get("/live/{session_id}/{name}", response_class=Response)
    async def segment(session_id: str, name: str) -> Response:
        """What the playlist names."""
        return Response(hls.running(session_id).part(name), media_type=SEGMENT_TYPE, headers=KEEP_SHORTLY)


def status_of(push: Push) -> PushStatus:
    return PushStatus(
        push_id=push.id,
        url=str(push.url),
        state=push.state.name,
        bytes=push.sent_bytes,
        reconnects=push.reconnects,
        dropped_pictures=push.dropped_pictures,
        dropped_sound_ms=push.dropped_sound_ms,
        error=push.last_error,
    )
