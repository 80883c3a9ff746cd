"""A session as MP4 and HLS, read back over HTTP, and the pushes' routes."""

import asyncio
import io
import re

import av
import httpx2 as httpx
import pytest

from gateway.outputs import hls
from tests.fakes.programme import RATE_HZ, FakeSessions
from tests.outputs.servers import Watched, until, watch, watched

KEY = "live_3f9a_TOPSECRET"
# Every fourth sound late: pictures are drawn when the sound is out already.
LATE = 4


def smooth(seen: Watched) -> None:
    """Every picture is there, and each flash comes with its click."""
    steps = [round(1000 * (later[0] - now[0])) for now, later in zip(seen.pictures, seen.pictures[1:], strict=False)]
    assert set(steps) == {40}
    assert len(seen.offsets) >= 2
    assert max(map(abs, seen.offsets)) <= 0.040, seen.offsets


async def test_the_mp4_begins_at_once_with_a_clock_of_its_own(site: str, sessions: FakeSessions) -> None:
    async with sessions.playing(delay=LATE) as session:
        await asyncio.sleep(1.5)
        seen = await watch(f"{site}/live/one/stream.mp4", 4)
        await until(lambda: session.program.watched == 0)
    assert seen.codecs == ("aac", "h264")
    assert seen.pictures[0][0] == 0
    assert abs(seen.sound[0][0]) < 0.05
    smooth(seen)


async def test_the_mp4_ends_with_the_session(site: str, sessions: FakeSessions) -> None:
    async with sessions.playing() as session, httpx.AsyncClient(timeout=20) as client:
        asyncio.get_running_loop().call_later(3, session.end)
        response = await client.get(f"{site}/live/one/stream.mp4")
        assert response.headers["content-type"] == "video/mp4"
        assert response.headers["cache-control"] == "no-store"
        data = response.content
    seen = await asyncio.to_thread(watched, io.BytesIO(data), 60)
    assert 2 < seen.pictures[-1][0] < 4
    smooth(seen)


async def test_hls_plays(site: str, sessions: FakeSessions) -> None:
    async with sessions.playing(delay=LATE):
        seen = await watch(f"{site}/live/one/index.m3u8", 6)
    assert seen.codecs == ("aac", "h264")
    smooth(seen)


async def test_each_segment_can_be_played_alone(site: str, sessions: FakeSessions) -> None:
    async with sessions.playing(delay=LATE) as session, httpx.AsyncClient(base_url=f"{site}/live/one/") as client:
        await client.get("index.m3u8")
        await asyncio.sleep(3)
        # Whoever comes to watch elsewhere gets a keyframe, which is no reason for a segment of its own.
        session.program.want_keyframe()
        await asyncio.sleep(1)
        playlist = (await client.get("index.m3u8")).text
        (header,) = re.findall(r'#EXT-X-MAP:URI="(.*)"', playlist)
        origin = int(header.removeprefix("init-").removesuffix(".mp4"))
        listed = re.findall(r"#EXTINF:([\d.]+),\n(\d+)\.m4s", playlist)
        assert len(listed) >= 3
        beginning = (await client.get(header)).content
        for duration, start in listed:
            data = beginning + (await client.get(f"{start}.m4s")).content
            with av.open(io.BytesIO(data), "r") as file:
                packets = [packet for packet in file.demux(video=0) if packet.pts is not None]
                times = [packet.pts * file.streams.video[0].time_base for packet in packets]  # type: ignore[operator]
            assert packets[0].is_keyframe
            assert float(times[0]) == pytest.approx((int(start) - origin) / RATE_HZ, abs=1e-3)
            assert len(times) / 25 == pytest.approx(float(duration))


async def test_hls_goes_on_with_a_new_renderer(site: str, sessions: FakeSessions) -> None:
    """Its pictures need another initialization."""
    async with sessions.playing() as session, httpx.AsyncClient(base_url=f"{site}/live/one/") as client:
        await client.get("index.m3u8")
        session.swap_renderer()
        await asyncio.sleep(3)
        session.end()
        playlist = (await client.get("index.m3u8")).text
        assert playlist.count("#EXT-X-MAP") == 2
        assert playlist.count("#EXT-X-DISCONTINUITY\n") == 1
        before, after = playlist.split("#EXT-X-DISCONTINUITY\n")
        for part in (before, after):
            data = b"".join([(await client.get(name)).content for name in re.findall(r"[\w-]+\.m(?:p4|4s)", part)])
            assert (await asyncio.to_thread(watched, io.BytesIO(data), 60)).pictures
        seconds = sum(map(float, re.findall(r"#EXTINF:([\d.]+)", after)))
        assert 2 < seconds < 4


async def test_the_playlist_moves_on(site: str, sessions: FakeSessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hls, "LISTED", 2)
    monkeypatch.setattr(hls, "HELD", 3)
    async with sessions.playing() as session, httpx.AsyncClient(base_url=f"{site}/live/one/") as client:
        first = await client.get("index.m3u8")
        assert (first.headers["content-type"], first.headers["cache-control"]) == (hls_type(), "no-cache")
        same = await client.get("index.m3u8", headers={"If-None-Match": first.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        oldest = names(first.text)[0]
        assert (await client.get(oldest)).headers["content-type"] == "video/mp4"
        numbers: list[int] = [number(first.text)]
        for _ in range(4):
            await asyncio.sleep(1)
            playlist = await client.get("index.m3u8")
            numbers.append(number(playlist.text))
            durations = [float(each) for each in re.findall(r"#EXTINF:([\d.]+)", playlist.text)]
            assert len(durations) <= 2
            assert all(0.8 <= duration < 2.5 for duration in durations)
            assert "#EXT-X-TARGETDURATION:2\n" in playlist.text
        assert numbers == sorted(numbers)
        assert numbers[-1] > numbers[0]
        assert (await client.get(oldest)).status_code == 404
        # Keyframes were asked for, once a segment or so.
        assert session.keyframes_wanted > len(numbers) - 1
        session.end()
        await until_async(client, "#EXT-X-ENDLIST")


async def test_hls_is_made_only_while_somebody_asks(
    site: str, sessions: FakeSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hls, "IDLE_S", 3.0)
    async with sessions.playing() as session, httpx.AsyncClient(base_url=f"{site}/live/one/") as client:
        assert session.program.watched == 0
        first = (await client.get("index.m3u8")).text
        assert session.program.watched == 1
        await asyncio.gather(*(client.get("index.m3u8") for _ in range(8)))
        assert session.program.watched == 1
        await until(lambda: session.program.watched == 0)
        assert (await client.get(names(first)[0])).status_code == 404
        again = (await client.get("index.m3u8")).text
        assert number(again) > number(first)
        assert not set(names(first)) & set(names(again))


async def test_a_session_without_pictures_has_no_playlist(
    site: str, sessions: FakeSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hls, "FIRST_S", 0.3)
    async with sessions.playing(delay=1000), httpx.AsyncClient() as client:
        assert (await client.get(f"{site}/live/one/index.m3u8")).status_code == 503


async def test_what_is_not_there(site: str, sessions: FakeSessions) -> None:
    async with sessions.playing(), httpx.AsyncClient(base_url=site) as client:
        for path in ("/live/two/index.m3u8", "/live/two/stream.mp4", "/live/one/1.m4s", "/api/sessions/two/pushes"):
            assert (await client.get(path)).status_code == 404, path
        assert (await client.delete("/api/sessions/one/pushes/x")).status_code == 404


async def test_pushes_over_http_keep_their_secrets(site: str, sessions: FakeSessions) -> None:
    async with sessions.playing(), httpx.AsyncClient(base_url=site) as client:
        path, told = "/api/sessions/one/pushes", []
        for url in (
            "http://h/a/b",
            "rtmp://h",
            f"rtmp://h/{KEY}",
            f"rtmp://u:{KEY}@h:x/a/{KEY}",
            f"rtmp://h/a/{KEY} y",
        ):
            response = await client.post(path, json={"url": url})
            assert response.status_code == 400, url
            told.append(response.text)
        for body in ({}, {"url": [f"rtmp://h/a/{KEY}"]}, {"key": f"rtmp://h/a/{KEY}"}, f"rtmp://h/a/{KEY}"):
            response = await client.post(path, json=body)
            assert response.status_code == 400, body
            told.append(response.text)
        response = await client.post(path, json={"url": f"rtmp://ann:{KEY}@127.0.0.1:1/live/{KEY}?t={KEY}"})
        assert response.status_code == 201
        push = response.json()
        assert push["url"] == "rtmp://127.0.0.1:1/live/***"
        assert push["state"] == "CONNECTING"
        await asyncio.sleep(0.2)
        listed = await client.get(path)
        (same,) = listed.json()["pushes"]
        assert (same["push_id"], same["state"]) == (push["push_id"], "RETRYING")
        stopped = await client.delete(f"{path}/{push['push_id']}")
        assert stopped.json()["state"] == "STOPPED"
        assert KEY not in "".join([*told, response.text, listed.text, stopped.text])


def hls_type() -> str:
    return "application/vnd.apple.mpegurl"


def names(playlist: str) -> list[str]:
    return re.findall(r"^\d+\.m4s$", playlist, re.MULTILINE)


def number(playlist: str) -> int:
    (found,) = re.findall(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", playlist)
    return int(found)


async def until_async(client: httpx.AsyncClient, line: str) -> None:
    async with asyncio.timeout(10):
        while line not in (await client.get("index.m3u8")).text:
            await asyncio.sleep(0.05)
