"""Voice, face and microphone over real WebRTC on loopback."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import numpy as np
import pytest

from gateway.webrtc.peers import Answer, Peers, peering
from gateway.webrtc.settings import WebRtcSettings
from talkmesh.conversation.v1 import conversation_pb2
from tests.fakes.live import FakeSessions, live
from tests.mesh.browsing import Ask, ToneTrack, browser, percentile, pitch_hz, until

LOOPBACK = WebRtcSettings(host="127.0.0.1")
Config = conversation_pb2.ConversationConfig


@pytest.fixture
async def sessions() -> AsyncIterator[FakeSessions]:
    async with live() as sessions:
        yield sessions


@pytest.fixture
async def peers(sessions: FakeSessions) -> AsyncIterator[Peers]:
    async with peering(sessions, LOOPBACK) as peers:
        yield peers


def talking(peers: Peers, session_id: str = "") -> Ask:
    async def ask(sdp: str) -> Answer:
        return await peers.talk(sdp, Config(session_id=session_id))

    return ask


def watching(peers: Peers, session_id: str) -> Ask:
    async def ask(sdp: str) -> Answer:
        return await peers.watch(sdp, session_id)

    return ask


async def test_voice_and_face_arrive(peers: Peers) -> None:
    async with browser(talking(peers)) as client:
        await until(lambda: len(client.video.onsets) >= 2 and len(client.audio.onsets) >= 2)
        frames = client.video.frames
        assert frames[0].width == frames[0].height == 256
        steps = np.diff([frame.pts for frame in frames])
        assert np.median(steps) == 90000 / 25
        assert 8000 < client.audio.loudest < 16000


async def test_voice_and_face_are_in_step(peers: Peers) -> None:
    async with browser(talking(peers)) as client:
        await until(lambda: client.audio.reports and client.video.reports)
        await until(lambda: len(client.video.onsets) >= 6, within_s=20)
        await asyncio.sleep(0.5)
        beeps, flashes = client.audio.onset_times, client.video.onset_times
        offsets = [min((abs(flash - beep) for beep in beeps), default=9.0) for flash in flashes[1:-1]]
        assert len(offsets) >= 4
        print(f"offsets of {[round(1000 * offset, 1) for offset in offsets]} ms")
        assert percentile(offsets, 0.95) <= 0.04


async def test_all_reports_of_a_peer_tell_the_same_clock(sessions: FakeSessions, peers: Peers) -> None:
    """However late the packets are that they come after: this is what keeps lips and voice together on a busy gateway."""
    async with browser(talking(peers)) as client:
        session = sessions.list()[0]
        await until(lambda: len(client.audio.reports) >= 4 and len(client.video.reports) >= 4, within_s=20)
        for ear in (client.audio, client.video):
            first_s, first = ear.reports[0]
            for at_s, stamp in ear.reports[1:]:
                assert abs((stamp - first) % (1 << 32) / ear.rate_hz - (at_s - first_s)) < 0.0003
        assert session.program.watched == 3


async def test_a_second_viewer_gets_a_keyframe_at_once(sessions: FakeSessions, peers: Peers) -> None:
    async with browser(talking(peers)) as first:
        await until(lambda: first.video.frames)
        session = sessions.list()[0]
        await asyncio.sleep(0.6)
        before = session.camera.keyframes
        begun = time.monotonic()
        async with browser(watching(peers, session.id), video="H264") as second:
            # The encoder makes no keyframe within 40 s unless it is asked to.
            await until(lambda: second.video.frames, within_s=5)
            assert time.monotonic() - begun < 5
            assert session.camera.keyframes == before + 1
            count = len(first.video.frames)
            await until(lambda: len(first.video.frames) > count + 10)
        assert session.attachments == 1


async def test_a_lost_picture_brings_a_keyframe(sessions: FakeSessions, peers: Peers) -> None:
    async with browser(talking(peers), video="H264") as client:
        await until(lambda: client.video.frames)
        session = sessions.list()[0]
        await asyncio.sleep(0.6)
        before = session.camera.keyframes
        await client.video.receiver._send_rtcp_pli(client.video.ssrc)
        await until(lambda: session.camera.keyframes == before + 1, within_s=5)
        assert client.video.frames


async def test_a_browser_without_h264_gets_vp8(peers: Peers) -> None:
    async with browser(talking(peers), video="VP8") as client:
        assert client.answer is not None
        assert "VP8/90000" in client.answer.sdp and "H264" not in client.answer.sdp
        await until(lambda: len(client.video.onsets) >= 2)
        await until(lambda: client.video.reports and client.audio.reports)


async def test_voice_alone(sessions: FakeSessions, peers: Peers) -> None:
    async with browser(talking(peers), video="") as client:
        await until(lambda: client.audio.onsets)
        assert "m=video" not in (client.answer.sdp if client.answer else "")
        assert not sessions.list()[0].config.outputs.video


async def test_the_microphone_is_heard(sessions: FakeSessions, peers: Peers) -> None:
    async with browser(talking(peers), ToneTrack(440.0)):
        session = sessions.list()[0]
        await until(lambda: len(session.heard) > 32000)
        begun, had = time.monotonic(), len(session.heard)
        await asyncio.sleep(3)
        heard = (len(session.heard) - had) / 32000
        assert abs(heard - (time.monotonic() - begun)) < 0.4
        pcm = bytes(session.heard[had:])
        assert abs(pitch_hz(pcm, 16000) - 440) < 3
        assert 5000 < np.abs(np.frombuffer(pcm, "<i2")).max() < 14000


async def test_an_unplugged_microphone_is_silence_in_real_time(sessions: FakeSessions, peers: Peers) -> None:
    microphone = ToneTrack()
    async with browser(talking(peers), microphone):
        session = sessions.list()[0]
        await until(lambda: len(session.heard) > 32000)
        microphone.unplugged = True
        await asyncio.sleep(0.5)
        begun, had = time.monotonic(), len(session.heard)
        await asyncio.sleep(2)
        heard = (len(session.heard) - had) / 32000
        assert abs(heard - (time.monotonic() - begun)) < 0.4
        assert not np.frombuffer(bytes(session.heard[-16000:]), "<i2").any()
        microphone.unplugged = False
        await until(lambda: np.frombuffer(bytes(session.heard[-3200:]), "<i2").any())


async def test_five_percent_loss(sessions: FakeSessions, peers: Peers) -> None:
    async with browser(talking(peers), ToneTrack(), video="H264") as client:
        session = sessions.list()[0]
        await until(lambda: client.video.frames and client.audio.frames)
        client.lose(incoming=0.05, outgoing=0.05)
        begun, frames, had = time.monotonic(), len(client.video.frames), len(session.heard)
        packets = len(client.audio.arrivals)
        await asyncio.sleep(6)
        elapsed = time.monotonic() - begun
        # Pictures come again by retransmission, or after a keyframe.
        assert len(client.video.frames) - frames > 25 * elapsed * 0.6
        assert 0.85 < (len(client.audio.arrivals) - packets) / (50 * elapsed) < 0.995
        assert abs((len(session.heard) - had) / 32000 - elapsed) < 0.4
        assert abs(pitch_hz(bytes(session.heard[had:]), 16000) - 440) < 3


async def test_after_a_network_stall_the_voice_is_not_late(peers: Peers) -> None:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(browser(talking(peers), ToneTrack()))
        await until(lambda: client.audio.reports)
        await asyncio.sleep(1)
        usual = percentile(client.audio.lateness_s(0, time.time()), 0.5)
        client.lose(incoming=1.0, outgoing=1.0)
        await asyncio.sleep(3)
        client.lose()
        back = time.time()
        await asyncio.sleep(1.5)
        late = client.audio.lateness_s(back + 0.3, time.time())
        assert len(late) > 20
        assert percentile(late, 0.5) < usual + 0.3


async def test_after_a_stall_of_the_gateway_everything_catches_up(sessions: FakeSessions, peers: Peers) -> None:
    async with browser(talking(peers), ToneTrack()) as client:
        session = sessions.list()[0]
        await until(lambda: client.audio.reports and client.video.frames)
        usual = percentile(client.audio.lateness_s(0, time.time()), 0.5)
        time.sleep(3)
        back, packets = time.time(), len(client.audio.arrivals)
        await asyncio.sleep(2)
        late = client.audio.lateness_s(back + 0.7, time.time())
        assert percentile(late, 0.5) < usual + 0.3
        # Of 3 s that were due at once, what was over is left out: a browser would have played it.
        assert sum(late > 1 for late in client.audio.lateness_s(back, time.time())) < 25
        assert len(client.audio.arrivals) - packets < 50 * 2 + 40
        frames = len(client.video.frames)
        await until(lambda: len(client.video.frames) > frames + 10)
        begun, had = time.monotonic(), len(session.heard)
        await asyncio.sleep(2)
        assert abs((len(session.heard) - had) / 32000 - (time.monotonic() - begun)) < 0.4
