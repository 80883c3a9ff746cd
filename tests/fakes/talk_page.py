"""The talk page without services: the gateway's real HTTP and WebRTC, and behind them a face that follows a script.

    python -m tests.fakes.talk_page --port 8080 [--adopt] [--places 3] [--reply-words-per-s 3]

It answers whatever it is asked with the same three clauses (in Chinese what is asked in Chinese), moving its mouth and
humming. Sound from the microphone counts as speech by its loudness. `POST /test/busy?times=2&retry_after_s=3` turns the
next callers away, `POST /test/busy?times=0` lets them in again, `GET /test/seen` tells what was asked for.
"""

import argparse
import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.frame import PictureType
from fastapi import FastAPI
from google.protobuf.message import Message

from gateway.http.app import app_of
from gateway.http.hosted import hosting
from gateway.http.page_routes import Offerings
from gateway.http.serving import serving
from gateway.live.program import Picture, Program, Sound, Told
from gateway.webrtc.peers import peering
from gateway.webrtc.settings import WebRtcSettings
from services.render.pixels import over, premultiplied
from services.render.portrait import load_portrait
from services.runtime.errors import Busy, InvalidInput, NotFound
from talkmesh.asr.v1 import asr_pb2
from talkmesh.audio.v1 import speech_pb2
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.model.v1 import model_pb2

PORTRAITS = Path(__file__).resolve().parents[2] / "services" / "render" / "portraits"
RATE_HZ, FPS = 24_000, Fraction(25)
SOUND, PICTURE = RATE_HZ // 50, RATE_HZ // 25
INPUT_HZ = 16_000
LOUD = 400.0
"""Root mean square of 20 ms that counts as speech."""
PAUSE_MS = 600
MOUTHS = 6
HEARD = {"en": "What is the tallest mountain on Earth?", "zh": "世界上最高的山是哪一座？"}
REPLIES = {
    "en": (
        "The tallest mountain above sea level is Mount Everest,",
        "at eight thousand eight hundred and forty-nine metres.",
        "Measured from its foot on the sea floor, though, Mauna Kea in Hawaii is even taller!",
    ),
    "zh": (
        "世界上海拔最高的山峰是珠穆朗玛峰，",
        "高度约为八千八百四十九米。",
        "如果从海底算起，夏威夷的冒纳凯阿火山更高！",
    ),
}
STAGES = {
    "asr_final": 92.0,
    "first_token": 118.4,
    "first_clause": 61.2,
    "endpoint": 40.1,
    "first_audio": 84.9,
    "first_face_frame": 6.3,
    "first_video_frame": 21.6,
}
Response = conversation_pb2.ConverseResponse


def language_of(text: str) -> str:
    return "zh" if re.search(r"[\u4e00-\u9fff]", text) else "en"


class Face:
    """A portrait whose mouth opens and closes, as H.264."""

    def __init__(self, portrait: str, size: int) -> None:
        loaded = load_portrait(PORTRAITS / portrait, size)
        closed, opened = (over(premultiplied(loaded.keys[key]), loaded.background) for key in ("neutral", "open"))
        self._pictures = [
            av.VideoFrame.from_ndarray(
                np.asarray(cv2.addWeighted(closed, 1 - share, opened, share, 0), np.uint8), format="bgr24"
            ).reformat(format="yuv420p")
            for share in np.linspace(0, 0.8, MOUTHS)
        ]
        self._codec = av.CodecContext.create("libx264", "w")
        self._codec.width = self._codec.height = size
        self._codec.pix_fmt, self._codec.time_base, self._codec.framerate = "yuv420p", 1 / FPS, FPS
        self._codec.profile, self._codec.gop_size, self._codec.bit_rate = "Baseline", 1000, 1_200_000
        self._codec.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "scenecut=0"}
        self.keyframe_wanted = True

    def picture(self, index: int, opening: float, speaking: bool) -> Picture:
        """Picture `index`, the mouth open by 0 to 1."""
        frame = self._pictures[round(opening * (MOUTHS - 1))]
        frame.pts = index
        frame.pict_type = PictureType.I if self.keyframe_wanted else PictureType.NONE
        packets = self._codec.encode(frame)
        keyframe = any(packet.is_keyframe for packet in packets)
        self.keyframe_wanted = False
        return Picture(index * PICTURE, b"".join(bytes(packet) for packet in packets), keyframe, speaking)


class ScriptedSession:
    """A live session as its transports see it."""

    input_rate_hz = INPUT_HZ

    def __init__(self, id_: str, config: conversation_pb2.ConversationConfig, words_per_s: float) -> None:
        self.id = id_
        self.push = config.live.endpointing == conversation_pb2.ENDPOINTING_PUSH_TO_TALK
        self.language = config.language or "en"
        size = config.size or 512
        self._words_per_s = words_per_s
        self._face = Face(config.portrait or "mei", size)
        self.program = Program(RATE_HZ, FPS, size, size)
        self.program.keyframe = self._want_keyframe
        self.started = conversation_pb2.ConversationStarted(
            session_id=id_,
            portrait=config.portrait or "mei",
            width=size,
            height=size,
            models=[
                model_pb2.ServingModel(service=service, model=model)
                for service, model in (("asr", "whisper-tiny"), ("llm", "qwen-0.5b"), ("tts", "heart"))
            ],
        )
        self.attached = 0
        self._now = 0
        self._prefix = secrets.token_hex(4)
        self._turns = 0
        self._turn_id = ""
        """Of the reply in progress. What the user says into it is told with this id until it is certain."""
        self._speaking = False
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._reply: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._pressed = False
        self._voiced_ms = 0
        self._quiet_ms = 0

    # What the transports call.

    async def hear(self, data: bytes, start_sample: int | None = None) -> None:
        if self.push and not self._pressed:
            return
        samples = np.frombuffer(data, "<i2").astype(np.float32)
        ms = len(samples) * 1000 // INPUT_HZ
        if float(np.sqrt((samples**2).mean())) > LOUD:
            self._voiced_ms, self._quiet_ms = self._voiced_ms + ms, 0
            self._interim()
        elif self._voiced_ms:
            self._quiet_ms += ms
            if self._quiet_ms > PAUSE_MS and not self.push:
                self._end_utterance()

    async def ask(self, text: str) -> str:
        if not text.strip():
            raise InvalidInput("text", "is empty")
        if text == "fail":
            raise InvalidInput("text", "cannot be answered", "something else")
        self._queue.put_nowait(text)
        return f"{self._prefix}-{self._turns + self._queue.qsize()}"

    async def say(self, text: str) -> str:
        return await self.ask(text)

    async def start_of_turn(self) -> None:
        self._needs_push()
        await self.interrupt()
        self._pressed = True

    async def end_of_turn(self) -> None:
        self._needs_push()
        self._pressed = False
        self._end_utterance()

    async def interrupt(self) -> None:
        if self._reply:
            self._reply.cancel()

    async def closed(self) -> None:
        await self._over.wait()

    def end(self) -> None:
        self._over.set()
        self.program.end()

    def _needs_push(self) -> None:
        if not self.push:
            raise InvalidInput("start_of_turn", "the session listens all the time")

    def _want_keyframe(self) -> None:
        self._face.keyframe_wanted = True

    # The script.

    async def play(self) -> None:
        """Everything, until it ends."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._release()), group.create_task(self._answer())]
            await self._over.wait()
            for task in tasks:
                task.cancel()

    async def _release(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            speaking, at_s = self._speaking, self._now / RATE_HZ
            opening = float(np.sin(at_s * 11) ** 2 * (0.6 + 0.4 * np.sin(at_s * 3.1))) if speaking else 0.0
            self.program.release(Sound(self._now, hum(self._now, opening), speaking))
            if self._now % PICTURE == 0:
                self.program.release(self._face.picture(self._now // PICTURE, opening, speaking))
            self._now += SOUND
            await asyncio.sleep(began + self._now / RATE_HZ - loop.time())

    async def _answer(self) -> None:
        while True:
            text = await self._queue.get()
            self._turns += 1
            self._turn_id = f"{self._prefix}-{self._turns}"
            self._reply = asyncio.create_task(self._turn(self._turn_id, text))
            await asyncio.wait((self._reply,))
            self._reply, self._turn_id = None, ""

    async def _turn(self, turn: str, text: str) -> None:
        outcome = conversation_pb2.OUTCOME_COMPLETED
        clauses = REPLIES[language_of(text)]
        try:
            self._tell(turn, transcript=asr_pb2.Transcript(text=text, is_final=True))
            self._floor(conversation_pb2.FLOOR_THINKING)
            await asyncio.sleep(0.5)
            self._floor(conversation_pb2.FLOOR_SPEAKING)
            self._speaking = True
            for index, clause in enumerate(clauses):
                self._tell(turn, clause=conversation_pb2.ReplyClause(index=index, text=clause))
                await self._speak(turn, index, clause)
        except asyncio.CancelledError:
            outcome = conversation_pb2.OUTCOME_INTERRUPTED
            self._tell(turn, cut=conversation_pb2.Cut(at_sample=self._now))
        finally:
            self._speaking = False
            self._tell(turn, done=done(outcome, text, clauses))
            self._floor(conversation_pb2.FLOOR_IDLE)

    async def _speak(self, turn: str, index: int, clause: str) -> None:
        words = re.findall(r"[\w'-]+", clause) if language_of(clause) == "en" else list(re.sub(r"\W", "", clause))
        each = round(RATE_HZ / self._words_per_s / (1 if language_of(clause) == "en" else 2))
        start = self._now
        spans = [
            speech_pb2.WordSpan(word=word, start_sample=start + each * at, end_sample=start + each * (at + 1))
            for at, word in enumerate(words)
        ]
        self._tell(turn, phonemes=conversation_pb2.ClausePhonemes(clause_index=index, start_sample=start, words=spans))
        await asyncio.sleep(each * len(words) / RATE_HZ + 0.15)

    def _interim(self) -> None:
        """More and more of what the user is taken to have said."""
        kinds = asr_pb2.SpeechActivity
        if self._voiced_ms <= 20:
            self._floor(conversation_pb2.FLOOR_LISTENING)
            self._tell("", activity=asr_pb2.SpeechActivity(kind=kinds.KIND_SPEECH_STARTED))
        if self._voiced_ms > 300 and self._reply:
            self._reply.cancel()
        if self._voiced_ms % 100 == 0:
            text = HEARD[self.language]
            said = text[: max(4, round(len(text) * min(1.0, self._voiced_ms / 1500)))]
            self._tell(self._turn_id, transcript=asr_pb2.Transcript(text=said))

    def _end_utterance(self) -> None:
        voiced, self._voiced_ms, self._quiet_ms = self._voiced_ms, 0, 0
        self._tell("", activity=asr_pb2.SpeechActivity(kind=asr_pb2.SpeechActivity.KIND_SPEECH_ENDED))
        if voiced >= 200:
            self._queue.put_nowait(HEARD[self.language])
            return
        self._turns += 1
        self._tell(f"{self._prefix}-{self._turns}", done=done(conversation_pb2.OUTCOME_NOTHING_HEARD, "", ()))
        self._floor(conversation_pb2.FLOOR_IDLE)

    def _floor(self, floor: "conversation_pb2.Floor.ValueType") -> None:
        self._tell("", floor=conversation_pb2.FloorChange(floor=floor))

    def _tell(self, turn: str, **event: Message) -> None:
        self.program.release(Told(Response(turn_id=turn, **event)))  # type: ignore[arg-type]


def done(
    outcome: "conversation_pb2.Outcome.ValueType", text: str, clauses: tuple[str, ...]
) -> conversation_pb2.TurnDone:
    stages = [conversation_pb2.Stage(name=name, duration_ms=ms) for name, ms in STAGES.items()]
    audio = sum(ms for name, ms in STAGES.items() if name not in ("first_face_frame", "first_video_frame"))
    waterfall = conversation_pb2.Waterfall(stages=stages, first_audio_ms=audio, first_video_ms=sum(STAGES.values()))
    heard = outcome != conversation_pb2.OUTCOME_NOTHING_HEARD
    return conversation_pb2.TurnDone(
        outcome=outcome, user_text=text, reply_text=" ".join(clauses), waterfall=waterfall if heard else None
    )


def hum(start: int, loudness: float) -> bytes:
    """20 ms of a vowel."""
    at = np.arange(start, start + SOUND) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * hz * at) * part for hz, part in ((140, 1.0), (280, 0.6), (700, 0.35), (1120, 0.2)))
    return np.asarray(tone * 2500 * loudness).astype("<i2").tobytes()


@dataclass
class Scripted:
    """All live sessions of the fake gateway."""

    adopt: bool = False
    """Take up sessions that are not known, as if this process had been there before."""
    places: int = 3
    words_per_s: float = 3.0
    busy: int = 0
    """So many callers are turned away."""
    retry_after_s: float = 3.0
    seen: list[dict[str, str]] = field(default_factory=list)
    """What callers asked for, those who were turned away included."""

    def __post_init__(self) -> None:
        self._sessions: dict[str, ScriptedSession] = {}
        self._known: set[str] = set()
        self._playing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def attached(self, config: conversation_pb2.ConversationConfig) -> AsyncIterator[ScriptedSession]:
        mode = "push" if config.live.endpointing == conversation_pb2.ENDPOINTING_PUSH_TO_TALK else "auto"
        self.seen.append(
            {"session": config.session_id, "portrait": config.portrait, "voice": config.voice, "mode": mode}
        )
        if self.busy or len(self._sessions) >= self.places:
            self.busy = max(0, self.busy - 1)
            raise Busy("all places of this gateway are taken", self.retry_after_s)
        session = self._sessions.get(config.session_id) or self._begin(config)
        session.attached += 1
        try:
            yield session
        finally:
            session.attached -= 1
            asyncio.get_running_loop().call_later(2, self._leave, session)

    def get(self, session_id: str) -> ScriptedSession:
        if session_id not in self._sessions:
            raise NotFound("live session", session_id)
        return self._sessions[session_id]

    def list(self) -> list[ScriptedSession]:
        return list(self._sessions.values())

    def close(self, session_id: str) -> None:
        self.get(session_id).end()
        del self._sessions[session_id]

    @asynccontextmanager
    async def kept(self, session_id: str) -> AsyncIterator[ScriptedSession]:
        yield self.get(session_id)

    def _begin(self, config: conversation_pb2.ConversationConfig) -> ScriptedSession:
        if config.session_id and not self.adopt and config.session_id not in self._known:
            raise NotFound("session", config.session_id)
        made = ScriptedSession(config.session_id or secrets.token_urlsafe(8), config, self.words_per_s)
        self._sessions[made.id] = made
        self._known.add(made.id)
        task = asyncio.create_task(made.play())
        self._playing.add(task)
        task.add_done_callback(self._playing.discard)
        return made

    def _leave(self, session: ScriptedSession) -> None:
        if not session.attached and self._sessions.get(session.id) is session:
            self.close(session.id)


def add_test_routes(app: FastAPI, sessions: Scripted) -> None:
    """What tests turn."""

    @app.post("/test/busy")
    async def busy(times: int, retry_after_s: float = 3.0) -> None:
        sessions.busy, sessions.retry_after_s = times, retry_after_s

    @app.get("/test/seen")
    async def seen() -> list[dict[str, str]]:
        return sessions.seen


@asynccontextmanager
async def talk_page(sessions: Scripted, address: str, media_host: str = "127.0.0.1") -> AsyncIterator[int]:
    """The page at "host:port" (0 takes a free port); yields the port. Media come from `media_host`."""

    async def offered() -> Offerings:
        return Offerings(("mei", "leo"), ("heart", "joe"))

    async with AsyncExitStack() as stack:
        peers = await stack.enter_async_context(peering(sessions, WebRtcSettings(host=media_host)))
        hosted = await stack.enter_async_context(hosting(sessions))
        app = app_of(sessions, hosted, peers, offered, "0.0.0")
        # Before the routes of peers, which would take any two words for theirs.
        routes = len(app.router.routes)
        add_test_routes(app, sessions)
        app.router.routes[:] = app.router.routes[routes:] + app.router.routes[:routes]
        yield await stack.enter_async_context(serving(app, address))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--adopt", action="store_true")
    parser.add_argument("--places", type=int, default=3)
    parser.add_argument("--reply-words-per-s", type=float, default=3.0)
    asked = parser.parse_args()
    sessions = Scripted(adopt=asked.adopt, places=asked.places, words_per_s=asked.reply_words_per_s)
    async with talk_page(sessions, f"127.0.0.1:{asked.port}") as port:
        print(port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
