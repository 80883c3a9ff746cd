"""Peers that come, command, misbehave and vanish."""

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiortc.sdp import candidate_to_sdp

from gateway.webrtc.ice import announced, ice_servers
from gateway.webrtc.offer import offer_of
from gateway.webrtc.peers import Answer, Peers, peering
from gateway.webrtc.settings import WebRtcSettings
from services.runtime.errors import Busy, InvalidInput, NotFound, Refused, Unavailable
from talkmesh.asr.v1 import asr_pb2
from talkmesh.audio.v1 import speech_pb2
from talkmesh.conversation.v1 import conversation_pb2 as conversation
from tests.fakes.live import FakeSessions, live
from tests.mesh.browsing import Ask, Browser, ToneTrack, browser, until

SETTINGS = WebRtcSettings(host="127.0.0.1", gone_s=2.0, connect_s=3.0, most_peers=4)
Config = conversation.ConversationConfig


@pytest.fixture
async def sessions() -> AsyncIterator[FakeSessions]:
    async with live(grace_s=3.0) as sessions:
        yield sessions


@pytest.fixture
async def peers(sessions: FakeSessions) -> AsyncIterator[Peers]:
    async with peering(sessions, SETTINGS) as peers:
        yield peers


def talking(peers: Peers, session_id: str = "") -> Ask:
    async def ask(sdp: str) -> Answer:
        return await peers.talk(sdp, Config(session_id=session_id))

    return ask


async def test_commands_reach_the_session(sessions: FakeSessions, peers: Peers) -> None:
    async with browser(talking(peers)) as client:
        await until(lambda: client.said("started"))
        started = client.said("started")[0]
        assert started["models"] == [{"service": "tts", "model": "heart", "generation": 3}]
        assert (started["portrait"], started["voice"], started["size"]) == ("mei", "heart", 256)
        for message in (
            {"type": "start_turn"},
            {"type": "end_turn"},
            {"type": "ask", "text": "Wer bist du? 你好"},
            {"type": "say", "text": "Hello"},
            {"type": "interrupt"},
        ):
            client.send(message)
        session = sessions.get(started["session_id"])
        expected = ["start_of_turn", "end_of_turn", "ask Wer bist du? 你好", "say Hello", "interrupt"]
        await until(lambda: session.calls == expected)
        await until(lambda: len(client.said("clock")) >= 2)
        first, second = (message["ms"] for message in client.said("clock")[:2])
        assert 500 < second - first < 1500
        assert not client.said("error")


async def test_what_the_session_tells_reaches_the_browser(sessions: FakeSessions, peers: Peers) -> None:
    event = conversation.ConverseResponse
    async with browser(talking(peers)) as client:
        await until(lambda: client.said("started"))
        session = sessions.list()[0]
        kinds = asr_pb2.SpeechActivity
        word = speech_pb2.WordSpan(word="hi", start_sample=24000, end_sample=36000)
        mood = speech_pb2.Expression(emotion=speech_pb2.EMOTION_HAPPY)
        waterfall = conversation.Waterfall(
            stages=[conversation.Stage(name="endpoint", duration_ms=12.34)], first_audio_ms=400, first_video_ms=450
        )
        for told in (
            event(floor=conversation.FloorChange(floor=conversation.FLOOR_THINKING)),
            event(activity=kinds(kind=kinds.KIND_SPEECH_STARTED)),
            event(activity=kinds(kind=kinds.KIND_SPEECH_ENDED)),
            event(turn_id="t", transcript=asr_pb2.Transcript(text="who", is_final=True)),
            event(turn_id="t", clause=conversation.ReplyClause(index=1, text="I am.", expression=mood)),
            event(turn_id="t", phonemes=conversation.ClausePhonemes(words=[word])),
            event(cut=conversation.Cut(at_sample=12000)),
            event(
                turn_id="t",
                done=conversation.TurnDone(outcome=conversation.OUTCOME_NOTHING_HEARD, waterfall=waterfall),
            ),
        ):
            session.tell(told)
        await until(lambda: client.said("done"))
        heard = [message for message in client.messages if message["type"] not in ("started", "clock")]
        assert heard == [
            {"type": "state", "state": "thinking"},
            {"type": "activity", "speaking": True},
            {"type": "activity", "speaking": False},
            {"type": "transcript", "turn": "t", "text": "who", "final": True},
            {"type": "clause", "turn": "t", "index": 1, "text": "I am.", "emotion": "happy"},
            {"type": "words", "turn": "t", "words": [{"word": "hi", "start_ms": 1000, "end_ms": 1500}]},
            {"type": "cut", "at_ms": 500, "may_resume": False},
            {
                "type": "done",
                "turn": "t",
                "outcome": "nothing_heard",
                "user_text": "",
                "reply_text": "",
                "first_audio_ms": 400.0,
                "first_video_ms": 450.0,
                "stages": [{"name": "endpoint", "ms": 12.3}],
            },
        ]


async def test_bad_messages_are_answered_and_harm_nothing(sessions: FakeSessions, peers: Peers) -> None:
    bad = ("{", "[]", "1", '{"type":1}', '{"type":"fly"}', '{"type":"ask"}', b"\xff\x00", "[" * 9000, "x" * 20000)
    async with browser(talking(peers)) as client:
        await until(lambda: client.said("started"))
        for message in (*bad, {"type": "ask", "text": ""}):
            client.send(message)
        await until(lambda: len(client.said("error")) == len(bad) + 1)
        assert {error["code"] for error in client.said("error")} == {"INVALID_ARGUMENT"}
        assert all(error["field"] and error["message"] for error in client.said("error"))
        client.send({"type": "say", "text": "still there"})
        await until(lambda: sessions.list()[0].calls == ["say still there"])


async def test_a_viewer_may_not_command(sessions: FakeSessions, peers: Peers) -> None:
    async with browser(talking(peers)):
        session = sessions.list()[0]
        async with browser(lambda sdp: peers.watch(sdp, session.id), ToneTrack()) as viewer:
            await until(lambda: viewer.said("started"))
            viewer.send({"type": "say", "text": "no"})
            await until(lambda: viewer.said("error"))
            assert viewer.said("error")[0]["code"] == "PERMISSION_DENIED"
            await asyncio.sleep(0.5)
            assert not session.calls and not session.heard


async def test_a_peer_that_vanishes_leaves_its_session_for_a_while(sessions: FakeSessions, peers: Peers) -> None:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(browser(talking(peers), ToneTrack()))
        session = sessions.list()[0]
        await until(lambda: client.video.frames)
        client.vanish()
        await until(lambda: not peers.count, within_s=10)
        assert session.attachments == 0 and session.id in sessions.sessions
        again = await stack.enter_async_context(browser(talking(peers, session.id), ToneTrack()))
        await until(lambda: again.video.frames)
        assert again.answer and again.answer.session_id == session.id
        await asyncio.sleep(3.5)
        assert session.id in sessions.sessions


async def test_nobody_back_in_time_ends_the_session(sessions: FakeSessions, peers: Peers) -> None:
    async with browser(talking(peers)) as client:
        await until(lambda: client.video.frames)
        client.vanish()
        await until(lambda: not sessions.sessions, within_s=15)
    assert not peers.count


async def test_a_client_that_comes_back_replaces_itself(sessions: FakeSessions, peers: Peers) -> None:
    async with browser(talking(peers), ToneTrack(440)) as old:
        await until(lambda: old.said("started"))
        session = sessions.list()[0]
        async with browser(talking(peers, session.id), ToneTrack(440)) as new:
            await until(lambda: new.video.frames)
            assert peers.count == 1 and session.attachments == 1
            assert old.said("error")[0]["code"] == "ABORTED"


async def test_goodbye_ends_a_peer_at_once(sessions: FakeSessions, peers: Peers) -> None:
    async with browser(talking(peers)) as client:
        answer = client.answer
        assert answer is not None
        await peers.leave(answer.session_id, answer.peer_id)
        assert not peers.count and sessions.list()[0].attachments == 0
        with pytest.raises(NotFound):
            await peers.leave(answer.session_id, answer.peer_id)


async def test_a_gateway_that_stops_lets_go_of_all(sessions: FakeSessions) -> None:
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(20):
            async with peering(sessions, SETTINGS) as peers:
                client = await stack.enter_async_context(browser(talking(peers), ToneTrack()))
                await until(lambda: client.video.frames)
                unanswered = Browser(None, "")
                await peers.talk(await unanswered.offer(), Config())
                await unanswered.close()
            assert not peers.count and not any(session.attachments for session in sessions.list())
        await until(lambda: client.connection.connectionState == "closed")


async def test_a_session_that_fails_says_why(sessions: FakeSessions, peers: Peers) -> None:
    async with browser(talking(peers)) as client:
        await until(lambda: client.said("started"))
        sessions.list()[0].end(Unavailable("the voice is away", retry_after_s=2.0))
        await until(lambda: client.said("error"))
        expected = {"code": "UNAVAILABLE", "message": "the voice is away", "retry_after_s": 2.0}
        assert client.said("error") == [{"type": "error", **expected}]
        await until(lambda: not peers.count)


async def test_a_client_that_never_connects_is_given_up(sessions: FakeSessions, peers: Peers) -> None:
    client = Browser(None, "H264")
    await peers.talk(await client.offer(), Config())
    await client.close()
    assert peers.count == 1
    await until(lambda: not peers.count, within_s=10)
    await until(lambda: not sessions.sessions, within_s=10)


async def test_candidates_may_come_later(peers: Peers) -> None:
    client = Browser(None, "H264")
    offer = await client.offer()
    lines = offer.splitlines()
    answer = await peers.talk("\r\n".join(line for line in lines if "candidate" not in line) + "\r\n", Config())
    accepting = asyncio.create_task(client.accept(answer))
    await asyncio.sleep(0.3)
    ids = (answer.session_id, answer.peer_id)
    found = client.ice.iceGatherer.getLocalCandidates()
    fragment = "\r\n".join(["a=mid:0", *(f"a=candidate:{candidate_to_sdp(each)}" for each in found)])
    await peers.trickle(*ids, fragment)
    await accepting
    for wrong in ("a=candidate:nonsense", "a=ice-ufrag:other", "a=candidate:1 1 udp x 1.2.3.4 5 typ host"):
        with pytest.raises(InvalidInput):
            await peers.trickle(*ids, wrong)
    with pytest.raises(NotFound):
        await peers.trickle(answer.session_id, "nobody", fragment)
    with pytest.raises(Refused):
        for _ in range(10):
            await peers.trickle(*ids, "a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n" * 40)
    await client.close()


async def test_offers_that_cannot_be_answered_open_nothing(sessions: FakeSessions, peers: Peers) -> None:
    client = Browser(ToneTrack(), "H264 VP8")
    good = await client.offer()
    await client.close()
    video = good[good.index("m=video") : good.index("m=application")]
    audio = good[good.index("m=audio") : good.index("m=video")]
    wrong = {
        "": "no media",
        "hello": "no media",
        good.replace("v=0", "v=x"): "understood",
        good.replace(audio, ""): "0 audio",
        good.replace(video, video + video): "2 video",
        good.replace("opus/48000/2", "speex/48000/2"): "Opus",
        good.replace("H264/90000", "AV1/90000").replace("VP8/90000", "VP9/90000"): "neither H.264 nor VP8",
        good.replace("a=ice-pwd", "a=ice-pvd"): "ice-pwd",
        good.replace("a=fingerprint", "a=finger"): "fingerprint",
        good.replace("a=rtcp-mux", "a=rtcp-max"): "rtcp-mux",
        good.replace("m=application", "m=image"): "kind",
        good[: len(good) // 2]: "sdp",
        good.replace("m=audio", "m=audio x"): "sdp",
    }
    for sdp, problem in wrong.items():
        with pytest.raises(InvalidInput, match=problem) as raised:
            await peers.talk(sdp, Config())
        assert raised.value.field == "sdp"
    assert not sessions.sessions and not peers.count


async def test_more_peers_than_may_be_are_sent_away(peers: Peers) -> None:
    clients = [Browser(None, "") for _ in range(SETTINGS.most_peers + 1)]
    offers = [await client.offer() for client in clients]
    for offer in offers[:-1]:
        await peers.talk(offer, Config())
    with pytest.raises(Busy):
        await peers.talk(offers[-1], Config())
    for client in clients:
        await client.close()


async def test_thirty_connections_leave_nothing_behind() -> None:
    async with live(grace_s=0.05) as sessions, peering(sessions, SETTINGS) as peers:

        async def once() -> None:
            async with browser(talking(peers), ToneTrack()) as client:
                await until(lambda: client.video.frames)
                if client.answer:
                    await peers.leave(client.answer.session_id, client.answer.peer_id)
            await until(lambda: not peers.count and not sessions.sessions)

        def held() -> dict[str, int]:
            gc.collect()
            files = [*Path("/proc/self/fd").iterdir()]
            return {"tasks": len(asyncio.all_tasks()), "files": len(files), "threads": threading.active_count()}

        # The loop's own pool of threads never shrinks: have it as large as it gets.
        await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.05) for _ in range(64)))
        for _ in range(2):
            await once()
        await asyncio.sleep(0.5)
        before = held()
        for _ in range(30):
            await once()
        with contextlib.suppress(TimeoutError):
            await until(lambda: all(held()[name] <= count for name, count in before.items()), within_s=10)
        after = held()
        assert {name: max(0, after[name] - count) for name, count in before.items()} == dict.fromkeys(before, 0)


def test_ice_servers_keep_their_secrets() -> None:
    text = '[{"urls": "turn:t.example:3478", "username": "u", "credential": "hush"}, {"urls": ["stun:s.example"]}]'
    servers = ice_servers(text)
    assert "hush" not in repr(servers)
    assert servers[0].for_browsers() == {"urls": ["turn:t.example:3478"], "username": "u", "credential": "hush"}
    assert servers[1].for_browsers() == {"urls": ["stun:s.example"]}
    assert ice_servers("") == ()
    for wrong in ("{", '[{"urls": "http://hush"}]', '[{"urls": [], "credential": "hush"}]', '[{"user": "hush"}]'):
        with pytest.raises(ValueError, match=r".") as raised:
            ice_servers(wrong)
        assert "hush" not in str(raised.value)


async def test_an_address_that_is_mapped_here_is_announced() -> None:
    client = Browser(None, "H264")
    sdp = await client.offer()
    await client.close()
    moved = announced(sdp, "203.0.113.7")
    candidates = [line for line in moved.splitlines() if line.startswith("a=candidate")]
    assert candidates and all(line.split()[4] == "203.0.113.7" for line in candidates)
    assert announced(sdp, "127.0.0.1") == sdp
    assert offer_of(moved).video == "H264"
