"""The HTTP interface over real connections."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import pytest
from fastapi import FastAPI

from gateway.http.serving import serving
from gateway.webrtc.ice import ice_servers
from gateway.webrtc.peers import Answer
from gateway.webrtc.settings import WebRtcSettings
from services.runtime.serve import PortTaken
from talkmesh.conversation.v1 import conversation_pb2
from tests.fakes import sites
from tests.fakes.live import FakeSessions
from tests.mesh.browsing import Browser, ToneTrack, browser, until

TURN = '[{"urls": "turn:127.0.0.1:1?transport=udp", "username": "u", "credential": "hush"}]'
SDP = {"Content-Type": "application/sdp"}
ELSEWHERE = "https://elsewhere.example"


@dataclass
class Site:
    """A gateway's HTTP side and a client of it."""

    client: httpx2.AsyncClient
    sessions: FakeSessions
    port: int


@asynccontextmanager
async def site(settings: WebRtcSettings, origins: tuple[str, ...] = (), most: int = 3) -> AsyncIterator[Site]:
    async with (
        sites.site(settings, origins, most) as (port, sessions),
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        yield Site(client, sessions, port)


@pytest.fixture
async def web() -> AsyncIterator[Site]:
    async with site(WebRtcSettings(host="127.0.0.1")) as made:
        yield made


async def whip(web: Site, sdp: str, path: str = "/whip") -> Answer:
    """Post an offer, as `browser` wants it done."""
    response = await web.client.post(path, content=sdp, headers=SDP)
    assert response.status_code == 201, response.text
    assert response.headers["content-type"].startswith("application/sdp")
    _, _, session_id, peer_id = response.headers["location"].split("/")
    return Answer(session_id, peer_id, response.text)


def wrong(response: httpx2.Response, status: int, code: str, field: str | None = None) -> None:
    """Check an error: its status, and its shape."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert (error["code"], error.get("field")) == (code, field), response.text
    assert error["message"]


async def test_whip_from_offer_to_goodbye(web: Site) -> None:
    path = "/whip?portrait=leo&voice=joe&size=128&language=en&mode=push"
    async with browser(lambda sdp: whip(web, sdp, path), ToneTrack()) as client:
        await until(lambda: client.video.frames and client.audio.frames)
        assert client.answer is not None
        session = web.sessions.get(client.answer.session_id)
        config = session.config
        assert (config.portrait, config.voice, config.size, config.language) == ("leo", "joe", 128, "en")
        assert config.live.endpointing == conversation_pb2.ENDPOINTING_PUSH_TO_TALK
        assert config.input.sample_rate_hz == 16000
        assert (config.outputs.audio, config.outputs.video, config.outputs.phonemes) == (True, True, True)
        async with browser(lambda sdp: whip(web, sdp, f"/whep/{session.id}"), video="H264") as viewer:
            await until(lambda: viewer.video.frames)
            assert session.attachments == 1
        place = f"/whip/{client.answer.session_id}/{client.answer.peer_id}"
        fragment = {"Content-Type": "application/trickle-ice-sdpfrag"}
        candidate = "a=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n"
        assert (await web.client.patch(place, content=candidate, headers=fragment)).status_code == 204
        wrong(await web.client.patch(place, content=candidate, headers=SDP), 415, "INVALID_ARGUMENT", "Content-Type")
        assert (await web.client.delete(place)).status_code == 200
        wrong(await web.client.delete(place), 404, "NOT_FOUND")
        wrong(await web.client.patch(place, content=candidate, headers=fragment), 404, "NOT_FOUND")


async def test_a_session_is_taken_up_again(web: Site) -> None:
    async with browser(lambda sdp: whip(web, sdp)) as client:
        assert client.answer is not None
        await web.client.delete(f"/whip/{client.answer.session_id}/{client.answer.peer_id}")
        path = f"/whip?session={client.answer.session_id}"
        async with browser(lambda sdp: whip(web, sdp, path)) as again:
            assert again.answer and again.answer.session_id == client.answer.session_id
            await until(lambda: again.video.frames)


async def test_what_is_wrong_with_an_offer(web: Site) -> None:
    client = Browser(None, "H264")
    offer = await client.offer()
    await client.close()
    post = web.client.post
    wrong(await post("/whip", content="rubbish", headers=SDP), 400, "INVALID_ARGUMENT", "sdp")
    wrong(await post("/whip", content=b"\xff", headers=SDP), 400, "INVALID_ARGUMENT", "body")
    wrong(await post("/whip", content=offer), 415, "INVALID_ARGUMENT", "Content-Type")
    silent = offer.replace("m=audio", "m=video", 1)
    wrong(await post("/whip", content=silent, headers=SDP), 400, "INVALID_ARGUMENT", "sdp")
    wrong(await post("/whip", content="v" * 70000, headers=SDP), 413, "INVALID_ARGUMENT", "body")
    wrong(await post("/whip?size=big", content=offer, headers=SDP), 400, "INVALID_ARGUMENT", "size")
    wrong(await post("/whip?size=127", content=offer, headers=SDP), 400, "INVALID_ARGUMENT", "size")
    wrong(await post("/whip?mode=shout", content=offer, headers=SDP), 400, "INVALID_ARGUMENT", "mode")
    wrong(await post("/whip?portrait=nobody", content=offer, headers=SDP), 404, "NOT_FOUND")
    wrong(await post("/whip?session=gone", content=offer, headers=SDP), 404, "NOT_FOUND")
    wrong(await post("/whep/gone", content=offer, headers=SDP), 404, "NOT_FOUND")
    assert not web.sessions.sessions


async def test_a_body_without_length_is_limited_too(web: Site) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"v" * 1000

    wrong(await web.client.post("/whip", content=endless(), headers=SDP), 413, "INVALID_ARGUMENT", "body")


async def test_when_all_sessions_are_in_use(web: Site) -> None:
    for _ in range(3):
        assert (await web.client.post("/api/sessions", json={})).status_code == 201
    client = Browser(None, "H264")
    response = await web.client.post("/whip", content=await client.offer(), headers=SDP)
    await client.close()
    wrong(response, 503, "RESOURCE_EXHAUSTED")
    assert response.headers["retry-after"] == "3"
    assert response.json()["error"]["retry_after_s"] == 2.5


async def test_a_scripted_host(web: Site) -> None:
    wishes = {"portrait": "mei", "voice": "heart", "size": 256, "barge_in": False, "grace_ms": 5000}
    opened = await web.client.post("/api/sessions", json=wishes)
    assert opened.status_code == 201
    session_id = opened.json()["session_id"]
    session = web.sessions.get(session_id)
    assert session.config.live.HasField("barge_in") and not session.config.live.barge_in
    base = f"/api/sessions/{session_id}"
    assert (await web.client.post(f"{base}/say", json={"text": "Hello"})).json() == {"turn_id": "turn-1"}
    assert (await web.client.post(f"{base}/ask", json={"text": "Who?"})).json() == {"turn_id": "turn-2"}
    assert (await web.client.post(f"{base}/interrupt")).status_code == 204
    assert session.calls == ["say Hello", "ask Who?", "interrupt"]
    await asyncio.sleep(1)
    state = {"session_id": session_id, "portrait": "mei", "width": 256, "height": 256, "viewers": 0}
    assert (await web.client.get("/api/sessions")).json() == {"sessions": [state]}
    assert (await web.client.get(base)).json() == state
    assert (await web.client.delete(base)).json() == {"session_id": session_id}
    wrong(await web.client.delete(base), 404, "NOT_FOUND")
    wrong(await web.client.post(f"{base}/say", json={"text": "Hello"}), 404, "NOT_FOUND")


async def test_json_that_is_wrong(web: Site) -> None:
    post = web.client.post
    wrong(await post("/api/sessions", json={"size": "big"}), 400, "INVALID_ARGUMENT", "size")
    wrong(await post("/api/sessions", json={"colour": "red"}), 400, "INVALID_ARGUMENT", "colour")
    as_json = {"Content-Type": "application/json"}
    wrong(await post("/api/sessions", content="[" * 70000, headers=as_json), 413, "INVALID_ARGUMENT", "body")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    wrong(await post("/api/sessions", content=endless(), headers=as_json), 413, "INVALID_ARGUMENT", "body")
    wrong(await post("/api/sessions", json={"size": 255}), 400, "INVALID_ARGUMENT", "size")
    response = await post("/api/sessions", content=b'{"size":', headers=as_json)
    assert response.status_code == 400 and response.json()["error"]["code"] == "INVALID_ARGUMENT"
    wrong(await web.client.get("/nothing/here"), 404, "NOT_FOUND")
    wrong(await web.client.put("/api/sessions"), 405, "INVALID_ARGUMENT")
    wrong(await web.client.get("/static/../app.py"), 404, "NOT_FOUND")
    wrong(await web.client.get("/static/%2e%2e/app.py"), 404, "NOT_FOUND")


async def test_the_page_is_told_what_there_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with site(WebRtcSettings(host="127.0.0.1", ice_servers=ice_servers(TURN))) as web:
        response = await web.client.get("/api/config")
        config = response.json()
        assert config["version"] == "1.2.3"
        assert [portrait["name"] for portrait in config["portraits"]] == ["mei", "leo"]
        assert config["voices"] == [{"name": "heart"}, {"name": "joe"}]
        turn = {"urls": ["turn:127.0.0.1:1?transport=udp"], "username": "u", "credential": "hush"}
        assert config["ice_servers"] == [turn]
        for name in ("x-content-type-options", "content-security-policy", "referrer-policy", "x-frame-options"):
            assert response.headers[name]
        assert "server" not in response.headers
        client = Browser(None, "H264")
        answered = await web.client.post("/whip", content=await client.offer(), headers=SDP)
        await client.close()
        assert answered.headers["link"] == '<turn:127.0.0.1:1?transport=udp>; rel="ice-server"'
        assert "hush" not in answered.text + str(answered.headers)
        described = (await web.client.get("/openapi.json")).json()
        assert {"/whip", "/whep/{session_id}", "/api/sessions", "/api/config"} <= set(described["paths"])
        assert "application/sdp" in described["paths"]["/whip"]["post"]["requestBody"]["content"]
    own = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert not [record for record in own if "hush" in record.getMessage()]


async def test_pages_of_others_may_not_change_things(web: Site) -> None:
    foreign = {"Origin": ELSEWHERE}
    wrong(await web.client.post("/api/sessions", json={}, headers=foreign), 403, "PERMISSION_DENIED", "Origin")
    assert not web.sessions.sessions
    own = {"Origin": f"http://127.0.0.1:{web.port}"}
    assert (await web.client.post("/api/sessions", json={}, headers=own)).status_code == 201
    assert "access-control-allow-origin" not in (await web.client.get("/api/config", headers=foreign)).headers


async def test_pages_that_are_allowed_may() -> None:
    async with site(WebRtcSettings(host="127.0.0.1"), origins=(ELSEWHERE,)) as web:
        asked = {"Origin": ELSEWHERE, "Access-Control-Request-Method": "POST"}
        preflight = await web.client.options(
            "/whip", headers=asked | {"Access-Control-Request-Headers": "Content-Type"}
        )
        assert preflight.headers["access-control-allow-origin"] == ELSEWHERE
        opened = await web.client.post("/api/sessions", json={}, headers={"Origin": ELSEWHERE})
        assert opened.status_code == 201
        assert "Location" in opened.headers["access-control-expose-headers"]


async def test_a_taken_port_is_told() -> None:
    async with serving(FastAPI(), "127.0.0.1:0") as port:
        with pytest.raises(PortTaken, match=str(port)):
            async with serving(FastAPI(), f"127.0.0.1:{port}"):
                pass
    async with serving(FastAPI(), f"127.0.0.1:{port}"):
        pass
    for address in ("127.0.0.1", "127.0.0.1:x", "nowhere.invalid:1", "203.0.113.1:0"):
        with pytest.raises(PortTaken):
            async with serving(FastAPI(), address):
                pass


async def test_requests_in_flight_may_end_and_endless_ones_do_not_hold_the_server() -> None:
    app = FastAPI()

    @app.get("/slow")
    async def slow() -> str:
        await asyncio.sleep(0.7)
        return "done"

    @app.get("/endless")
    async def endless() -> str:
        await asyncio.sleep(600)
        return "never"

    async with httpx2.AsyncClient(timeout=20) as client:
        async with asyncio.timeout(15):
            async with serving(app, "127.0.0.1:0", grace_s=2) as port:
                base = f"http://127.0.0.1:{port}"
                waiting = asyncio.create_task(client.get(f"{base}/slow"))
                stuck = asyncio.create_task(client.get(f"{base}/endless"))
                await asyncio.sleep(0.3)
        assert (await waiting).json() == "done"
        with contextlib.suppress(httpx2.HTTPError):
            assert (await stuck).status_code >= 500
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"{base}/slow")


async def test_a_defect_shows_no_internals(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("the password is hush")

    monkeypatch.setattr(web.sessions, "list", broken)
    response = await web.client.get("/api/sessions")
    wrong(response, 500, "INTERNAL")
    assert "hush" not in json.dumps(response.json())
