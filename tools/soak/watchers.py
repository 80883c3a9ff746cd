"""Live sessions as browsers and players have them: one after the other over WebRTC, MP4, HLS and RTMP."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from fractions import Fraction
from typing import Any

import av
import httpx2
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaBlackhole
from av import AudioFrame

from talkmesh import read_wav
from tools.soak.caller import QUESTION, TURN_S, TurnLost

Visit = Callable[[httpx2.AsyncClient], Awaitable[None]]
SIZE = 256
TEXT = "Good morning, and welcome."
LEAST_BYTES = 100_000
LEAST_PICTURES = 50
SEGMENTS = 3
POLL_S = 0.2
MICROPHONE_HZ = 48000
STEP = 960
"""Samples of a microphone's frame."""


class Microphone(MediaStreamTrack):
    """Says the question, then nothing more."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        said = np.frombuffer(read_wav(QUESTION).data, "<i2")
        self._left = np.repeat(said, MICROPHONE_HZ // 16000)
        self._sent = 0
        self._began_s = 0.0

    async def recv(self) -> AudioFrame:
        self._began_s = self._began_s or time.monotonic()
        await asyncio.sleep(max(0.0, self._began_s + self._sent / MICROPHONE_HZ - time.monotonic()))
        part, self._left = self._left[:STEP], self._left[STEP:]
        frame = AudioFrame.from_ndarray(np.pad(part, (0, STEP - len(part))).reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = MICROPHONE_HZ, self._sent, Fraction(1, MICROPHONE_HZ)
        self._sent += STEP
        return frame


class Visitor:
    """A browser's end of a connection. Made by `visitor`."""

    def __init__(self) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel = self.connection.createDataChannel("events")
        self.open = asyncio.Event()
        self._heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sink = MediaBlackhole()
        self.channel.on("open", self.open.set)
        self.channel.on("message", lambda text: self._heard.put_nowait(json.loads(text)))
        self.connection.on("track", self._sink.addTrack)
        self.place = ""

    async def join(self, http: httpx2.AsyncClient, microphone: bool) -> None:
        """Connect to a session of its own. Raises TurnLost when it is refused."""
        if microphone:
            self.connection.addTrack(Microphone())
        else:
            self.connection.addTransceiver("audio", direction="recvonly")
        self.connection.addTransceiver("video", direction="recvonly")
        await self.connection.setLocalDescription()
        offer = self.connection.localDescription.sdp
        headers = {"Content-Type": "application/sdp"}
        answer = must(await http.post("/whip", params={"size": SIZE}, content=offer, headers=headers))
        self.place = answer.headers["Location"]
        await self.connection.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        await self._sink.start()
        await self.open.wait()

    def send(self, **message: str) -> None:
        self.channel.send(json.dumps(message))

    async def until(self, kind: str) -> None:
        """Take what the gateway says until there is one of a type."""
        while (await self._heard.get())["type"] != kind:
            pass

    def vanish(self) -> None:
        """Be gone without a word."""
        for protocol in self.connection.getReceivers()[0].transport.transport._connection._protocols:
            protocol.transport.abort()

    async def close(self) -> None:
        await self._sink.stop()
        await self.connection.close()


@asynccontextmanager
async def visitor(http: httpx2.AsyncClient, microphone: bool = False) -> AsyncIterator[Visitor]:
    """Somebody at the talk page."""
    made = Visitor()
    try:
        await made.join(http, microphone)
        yield made
    finally:
        await made.close()


async def speaks(http: httpx2.AsyncClient) -> None:
    """A question by voice, its answer, and a goodbye."""
    async with visitor(http, microphone=True) as guest:
        await guest.until("done")
        must(await http.delete(guest.place))


async def types(http: httpx2.AsyncClient) -> None:
    """A question in writing; whoever asked closes the browser in the middle of the answer."""
    async with visitor(http) as guest:
        guest.send(type="ask", text="Tell me a long story about the sea.")
        await guest.until("clause")


async def vanishes(http: httpx2.AsyncClient) -> None:
    """A battery is empty in the middle of the answer."""
    async with visitor(http) as guest:
        guest.send(type="ask", text="Tell me a long story about the sea.")
        await guest.until("clause")
        guest.vanish()


async def looks_on(http: httpx2.AsyncClient) -> None:
    """Somebody watches a session that another one talks with."""
    async with visitor(http) as guest:
        session_id = guest.place.split("/")[2]
        watching = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        sink = MediaBlackhole()
        watching.on("track", sink.addTrack)
        try:
            for kind in ("audio", "video"):
                watching.addTransceiver(kind, direction="recvonly")
            await watching.setLocalDescription()
            headers = {"Content-Type": "application/sdp"}
            posted = await http.post(f"/whep/{session_id}", content=watching.localDescription.sdp, headers=headers)
            await watching.setRemoteDescription(RTCSessionDescription(must(posted).text, "answer"))
            await sink.start()
            guest.send(type="say", text=TEXT)
            await guest.until("done")
            must(await http.delete(posted.headers["Location"]))
        finally:
            await sink.stop()
            await watching.close()


@asynccontextmanager
async def hosted(http: httpx2.AsyncClient) -> AsyncIterator[str]:
    """A session that nobody talks with, which has something to say; returns its id."""
    session_id = must(await http.post("/api/sessions", json={"size": SIZE})).json()["session_id"]
    try:
        must(await http.post(f"/api/sessions/{session_id}/say", json={"text": TEXT}))
        yield session_id
    finally:
        await http.delete(f"/api/sessions/{session_id}")


async def plays_mp4(http: httpx2.AsyncClient) -> None:
    """An MP4 until its session ends."""
    await play_mp4(http, to_the_end=True)


async def leaves_mp4(http: httpx2.AsyncClient) -> None:
    """An MP4 that is not looked at to its end."""
    await play_mp4(http, to_the_end=False)


async def play_mp4(http: httpx2.AsyncClient, to_the_end: bool) -> None:
    async with hosted(http) as session_id, http.stream("GET", f"/live/{session_id}/stream.mp4") as answer:
        if not answer.is_success:
            await answer.aread()
        must(answer)
        received = 0
        async for part in answer.aiter_bytes():
            received += len(part)
            if received > LEAST_BYTES and not to_the_end:
                return
            if received > LEAST_BYTES > received - len(part):
                must(await http.delete(f"/api/sessions/{session_id}"))
        if received < LEAST_BYTES:
            raise TurnLost(f"the MP4 ended after {received} bytes")


async def plays_hls(http: httpx2.AsyncClient) -> None:
    """A playlist, and each of its segments once."""
    async with hosted(http) as session_id:
        seen: set[str] = set()
        while len(seen) < SEGMENTS:
            playlist = must(await http.get(f"/live/{session_id}/index.m3u8")).text
            for name in (line for line in playlist.splitlines() if line and not line.startswith("#")):
                if name not in seen:
                    must(await http.get(f"/live/{session_id}/{name}"))
                    seen.add(name)
            await asyncio.sleep(POLL_S)


async def pushes(http: httpx2.AsyncClient) -> None:
    """A push to an RTMP server that is stopped."""
    await push(http, dies=False)


async def loses_server(http: httpx2.AsyncClient) -> None:
    """A push to an RTMP server that dies."""
    await push(http, dies=True)


async def push(http: httpx2.AsyncClient, dies: bool) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"rtmp://127.0.0.1:{probe.getsockname()[1]}/live/face"
    enough, stop = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    server = asyncio.create_task(asyncio.to_thread(receive, url, lambda: loop.call_soon_threadsafe(enough.set), stop))
    try:
        async with hosted(http) as session_id:
            every = f"/api/sessions/{session_id}/pushes"
            push_id = must(await http.post(every, json={"url": url})).json()["push_id"]
            await enough.wait()
            if dies:
                stop.set()
                await server
                await retried(http, every)
            must(await http.delete(f"{every}/{push_id}"))
    finally:
        stop.set()
        await server


async def retried(http: httpx2.AsyncClient, every: str) -> None:
    """Return when a push has noticed that its server is gone."""
    while must(await http.get(every)).json()["pushes"][0]["state"] != "RETRYING":
        await asyncio.sleep(POLL_S)


def receive(url: str, enough: Callable[[], object], stop: threading.Event) -> None:
    """Be an RTMP server for one push, until it ends or `stop` is set."""
    with suppress(av.FFmpegError), av.open(url, options={"listen": "1", "timeout": "20"}) as container:
        for number, _ in enumerate(container.demux(video=0)):
            if number == LEAST_PICTURES:
                enough()
            if stop.is_set():
                return


VISITS: dict[str, tuple[Visit, ...]] = {
    "webrtc": (speaks, types, vanishes, looks_on),
    "mp4": (plays_mp4, leaves_mp4),
    "hls": (plays_hls,),
    "rtmp": (pushes, loses_server),
}


async def visit(base_url: str, token: str, what: Visit) -> None:
    """Come, look and leave, and see the session go. `base_url`: of the gateway's HTTP. Raises TurnLost."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=base_url, headers=headers, timeout=TURN_S) as http:
        try:
            async with asyncio.timeout(TURN_S):
                await what(http)
                while must(await http.get("/api/sessions")).json()["sessions"]:
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise TurnLost(f"{what.__name__} took more than {TURN_S:g} s") from None
        except httpx2.HTTPError as error:
            raise TurnLost(f"{what.__name__}: {type(error).__name__}: {error}") from None


def must(response: httpx2.Response) -> httpx2.Response:
    """An answer that is not a refusal. Raises TurnLost."""
    if response.is_success:
        return response
    asked, said = (
        f"{response.request.method} {response.request.url.path}",
        f"{response.status_code} {response.text[:300]}",
    )
    raise TurnLost(f"{asked} was answered with {said}")
