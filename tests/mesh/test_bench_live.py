"""The live bench on gateways whose faults are known: they have to be found, and in their measure."""

import asyncio
import json
import time
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from services.runtime import channels
from talkmesh import SessionConfig
from talkmesh.asr.v1 import asr_pb2, asr_pb2_grpc
from talkmesh.audio.v1 import audio_pb2, speech_pb2
from talkmesh.conversation.v1 import conversation_pb2, conversation_pb2_grpc
from talkmesh.llm.v1 import llm_pb2, llm_pb2_grpc
from talkmesh.render.v1 import render_pb2
from talkmesh.tts.v1 import tts_pb2, tts_pb2_grpc
from tools.bench import live
from tools.bench.living import arms, crowd, curve, recordings, report, scenes, truth
from tools.bench.living.arms import Kept, Outcome, Wanted
from tools.bench.living.line import SessionEnded, opened
from tools.bench.living.loudspeaker import Loudspeaker, heard
from tools.bench.living.microphone import CHUNK, Microphone
from tools.bench.living.scenes import BargeIn, Turn
from tools.bench.living.speech import Speech
from tools.bench.peers import pipecat, pipecat_figures

pytestmark = pytest.mark.mesh
OUT_HZ, STEP = 24_000, 480
LIBRIVOX = Path("/usr/share/pocketsphinx/test/data/librivox")
SENTENCE = "sense_and_sensibility_01_austen_64kb-0880"
SOUND = (8000 * np.sin(np.arange(STEP) / 5)).astype(np.int16).tobytes()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less of everything that is only waited for."""
    monkeypatch.setattr(arms, "LEAD_S", 0.1)
    monkeypatch.setattr(arms, "LISTEN_S", 0.6)
    monkeypatch.setattr(crowd, "PAUSE_S", 0.2)


@dataclass(frozen=True)
class Manner:
    """How a gateway behaves; times in media time after what it reacts to."""

    silence_ms: int = 200
    """The turn is over after so much silence."""
    think_ms: int = 300
    stop_ms: int = 160
    """A reply sounds on for so long after the user has begun to speak."""
    stale_chunks: int = 0
    picture_late_ms: int = 0
    """Behind the sound."""
    words_too_many: int = 0
    drops_every: int = 0
    """Each so-manieth picture is left out."""
    refuses: bool = False


@dataclass
class Floor:
    """The state of one call."""

    sample: int = 0
    voiced_at: float = 0.0
    silent_ms: int = 10_000
    listening: bool = False
    turn: int = 0
    speaking_from: float | None = None
    stopping_at: float | None = None
    said: list[str] = field(default_factory=list)


class Gateway(conversation_pb2_grpc.ConversationServiceServicer):
    """Takes loud audio for speech, answers with a tone, a word each 200 ms, and pictures that are none."""

    def __init__(self, manner: Manner) -> None:
        self.manner = manner

    async def GetStatus(self, request: Any, context: Any) -> conversation_pb2.GetStatusResponse:
        return conversation_pb2.GetStatusResponse()

    async def SendFeedback(self, request: Any, context: Any) -> conversation_pb2.SendFeedbackResponse:
        return conversation_pb2.SendFeedbackResponse()

    async def Converse(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        await anext(requests)
        if self.manner.refuses:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        out: asyncio.Queue[conversation_pb2.ConverseResponse] = asyncio.Queue()
        started = conversation_pb2.ConversationStarted(
            sample_rate_hz=OUT_HZ, fps_numerator=25, fps_denominator=1, width=256, height=256
        )
        yield conversation_pb2.ConverseResponse(started=started)
        call = Call(self.manner, Floor(), out)
        tasks = [asyncio.create_task(call.hear(requests)), asyncio.create_task(call.run())]
        try:
            while True:
                yield await out.get()
        finally:
            for task in tasks:
                task.cancel()


@dataclass
class Call:
    manner: Manner
    floor: Floor
    out: "asyncio.Queue[conversation_pb2.ConverseResponse]"

    async def hear(self, requests: AsyncIterator[Any]) -> None:
        async for request in requests:
            kind = request.WhichOneof("request")
            if kind == "interrupt":
                self.stop()
            elif kind == "text":
                self.commit()
            elif kind == "audio":
                self.listen(np.frombuffer(request.audio.data, np.int16))

    def listen(self, samples: Any) -> None:
        floor = self.floor
        if np.abs(samples).max() > 2000:
            if floor.silent_ms > 100 and floor.speaking_from is not None and floor.stopping_at is None:
                floor.stopping_at = time.monotonic() + self.manner.stop_ms / 1000
            floor.listening, floor.silent_ms = True, 0
            return
        floor.silent_ms += 20
        if floor.listening and floor.silent_ms >= self.manner.silence_ms:
            floor.listening = False
            self.commit()

    def commit(self) -> None:
        floor = self.floor
        floor.turn += 1
        floor.said = []
        floor.speaking_from = time.monotonic() + self.manner.think_ms / 1000
        self.tell(transcript=asr_pb2.Transcript(is_final=True, text="one two three four"))

    async def run(self) -> None:
        """The media clock."""
        began = time.monotonic()
        while True:
            floor = self.floor
            await asyncio.sleep(max(0.0, began + floor.sample / OUT_HZ - time.monotonic()))
            now = time.monotonic()
            if floor.stopping_at is not None and now >= floor.stopping_at:
                self.stop()
            speaks = floor.speaking_from is not None and now >= floor.speaking_from
            if speaks:
                self.tell(audio=audio_pb2.AudioChunk(start_sample=floor.sample, data=SOUND))
                if floor.sample % (10 * STEP) == 0:
                    self.word()
            if floor.sample % (2 * STEP) == 0:
                self.show(floor.sample - self.manner.picture_late_ms * OUT_HZ // 1000, speaks)
            floor.sample += STEP

    def show(self, start: int, speaks: bool) -> None:
        if start < 0 or (self.manner.drops_every and (start // (2 * STEP)) % self.manner.drops_every == 0):
            return
        turn = self.turn_id if speaks else ""
        self.tell(video=render_pb2.VideoFrame(turn_id=turn, start_sample=start, data=b"picture"))

    def word(self) -> None:
        """A word whose sound has come."""
        floor = self.floor
        floor.said.append(f"word{len(floor.said)}")
        span = speech_pb2.WordSpan(word=floor.said[-1], start_sample=floor.sample - STEP, end_sample=floor.sample)
        self.tell(phonemes=conversation_pb2.ClausePhonemes(words=[span]))

    def stop(self) -> None:
        floor = self.floor
        if floor.speaking_from is None:
            return
        floor.speaking_from = floor.stopping_at = None
        self.tell(cut=conversation_pb2.Cut(at_sample=floor.sample))
        for number in range(self.manner.stale_chunks):
            self.tell(audio=audio_pb2.AudioChunk(start_sample=floor.sample + number * STEP, data=SOUND))
        said = [*floor.said, *["never"] * self.manner.words_too_many]
        speculation = conversation_pb2.Speculation(begun=2, discarded=1, discarded_audio_ms=100)
        self.tell(
            done=conversation_pb2.TurnDone(
                outcome=conversation_pb2.OUTCOME_INTERRUPTED, reply_text=" ".join(said), speculation=speculation
            )
        )

    @property
    def turn_id(self) -> str:
        return f"turn-{self.floor.turn}"

    def tell(self, **event: Any) -> None:
        self.out.put_nowait(conversation_pb2.ConverseResponse(turn_id=self.turn_id, **event))


@asynccontextmanager
async def serving(add: Any, servicer: Any) -> AsyncIterator[str]:
    server = channels.server()
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def gateway(manner: Manner) -> AsyncIterator[str]:
    async with serving(conversation_pb2_grpc.add_ConversationServiceServicer_to_server, Gateway(manner)) as address:
        yield address


def said(folder: Path, name: str, *parts_ms: int) -> Speech:
    """A tone of these lengths, with pauses in between: voice, pause, voice, …"""
    pieces, pauses, at = [], [], 0
    for number, ms in enumerate(parts_ms):
        samples = ms * 16
        pieces.append((12000 * np.sin(np.arange(samples) / 4)) * (1 - number % 2))
        if number % 2:
            pauses.append((at, at + samples))
        at += samples
    path = folder / f"{name}.pcm"
    path.write_bytes(np.concatenate([*pieces, np.zeros(1600)]).astype(np.int16).tobytes())
    return Speech(name, str(path), "one two three four", 0, at, tuple(pauses))


async def test_waiting_is_measured_from_the_last_voiced_sample(tmp_path: Path) -> None:
    """The gateway waits 200 ms, thinks 300 ms and shows pictures 80 ms behind their sound."""
    kept, speech = Kept(), said(tmp_path, "whole", 600)
    async with gateway(Manner(picture_late_ms=80)) as address:
        turn = await arms.one_turn(arms.ours(address, SessionConfig(size=256), kept), speech, Wanted())
    assert turn.ttfa_ms is not None
    assert turn.ttfv_ms is not None
    assert 450 <= turn.ttfa_ms < 900
    assert 450 <= turn.ttfv_ms < 1000
    assert turn.timely
    found = report.of_records(kept)
    assert 60 <= found["av_offset_ms"]["p50"] < 140
    assert found["stale_chunks"] == 0
    assert found["wasted_speculation_pct"] == 50.0


async def test_a_turn_that_ends_in_a_pause_is_a_cut_off(tmp_path: Path) -> None:
    speech = said(tmp_path, "paused", 400, 600, 400)
    async with gateway(Manner()) as address:
        hasty = await arms.one_turn(arms.ours(address, SessionConfig(), Kept()), speech, Wanted())
    async with gateway(Manner(silence_ms=800)) as address:
        patient = await arms.one_turn(arms.ours(address, SessionConfig(), Kept()), speech, Wanted())
    assert (hasty.cut_off, hasty.timely) == (True, False)
    assert (patient.cut_off, patient.timely) == (False, True)
    figures = report.of_outcome(Outcome([hasty, patient]))
    assert figures["false_cutoff_rate"] == 0.5
    assert figures["ttfa_ms"]["p50"] == round(patient.ttfa_ms or 0, 2)


async def test_faults_of_an_interruption_are_found(tmp_path: Path) -> None:
    """It sounds on for 160 ms, sends 2 chunks too many and claims to have said a word more than it has."""
    question, interruption = said(tmp_path, "question", 400), said(tmp_path, "interruption", 900)
    figures = []
    for manner in (Manner(), Manner(stale_chunks=2, words_too_many=1)):
        kept = Kept()
        async with gateway(manner) as address:
            open = arms.ours(address, SessionConfig(), kept)
            barge_in = await arms.one_barge_in(open, question, interruption, Wanted())
        assert barge_in.silent_ms is not None
        assert 100 <= barge_in.silent_ms < 500
        found = report.of_records(kept)
        assert 100 <= found["barge_in_cut_ms"]["p50"] < 500
        figures.append(found)
    assert [found["played_word_error"] for found in figures] == [0.0, 1.0]
    # Each of the two replies of a session is cut: the one that is interrupted, and the answer to the interruption.
    assert [found["stale_chunks"] for found in figures] == [0, 4]


async def test_pictures_left_out_are_late_and_end_the_curve(tmp_path: Path) -> None:
    speeches = [said(tmp_path, "short", 300)]
    rows = {}
    for manner in (Manner(), Manner(drops_every=5)):
        async with gateway(manner) as address:
            crowds = [crowd.Crowd(address, speeches, typed, 0.5, SessionConfig(size=256)) for typed in (False, True)]
            rows[manner] = await crowd.curve([replace(one, lasts_s=1.0) for one in crowds[:1]], 2, print)
            typed = await crowds[1].row(1)
            assert typed["turns"] >= 1
            assert 250 <= typed["ttfv_p50_ms"] < 1500
    dropped = rows[Manner(drops_every=5)]
    assert [row["n"] for row in dropped] == [1]
    assert 15 <= dropped[0]["late_frames_pct"] <= 60
    assert rows[Manner()][0]["late_frames_pct"] < dropped[0]["late_frames_pct"]
    ET.fromstring(report.drawn(dropped))


async def test_a_refused_session_is_a_turn_without_an_answer(tmp_path: Path) -> None:
    async with gateway(Manner(refuses=True)) as address:
        turn = await arms.one_turn(arms.ours(address, SessionConfig(), Kept()), said(tmp_path, "s", 100), Wanted())
        with pytest.raises(SessionEnded, match="RESOURCE_EXHAUSTED: full"):
            async with opened(address, SessionConfig()):
                pass
    assert "RESOURCE_EXHAUSTED" in turn.error
    assert report.of_outcome(Outcome([turn]))["unanswered"] == 1


async def test_the_microphone_keeps_the_pace() -> None:
    sent: list[bytes] = []

    async def send(data: bytes) -> None:
        sent.append(data)

    microphone = Microphone(send)
    running = asyncio.create_task(microphone.run())
    speech = microphone.say(b"\1\0" * (5 * CHUNK + 100))
    await asyncio.wait_for(speech.over.wait(), 10)
    running.cancel()
    assert all(len(chunk) == 2 * CHUNK for chunk in sent)
    assert b"".join(sent).count(b"\1\0") == 5 * CHUNK + 100
    assert speech.at(5 * CHUNK + 100) - speech.at(0) == pytest.approx((5 * CHUNK + 100) / 16_000, abs=1e-6)
    with pytest.raises(LookupError):
        speech.at(6 * CHUNK)


def test_only_what_is_loud_enough_is_heard() -> None:
    quiet, loud = np.full(480, 200, np.int16), np.concatenate([np.zeros(240), np.full(240, 4000)]).astype(np.int16)
    speaker = Loudspeaker()
    speaker.chunks += [heard(quiet.tobytes(), OUT_HZ, 1.0), heard(loud.tobytes(), OUT_HZ, 2.0, "a")]
    assert speaker.first_audible(0.5) == pytest.approx(2.01)
    assert speaker.last_audible(0.5, 3.0) == pytest.approx(2.02)
    assert speaker.last_audible(0.5, 3.0, "b") is None


def test_transcripts_that_lack_a_part_are_told_from_wrong_ones() -> None:
    speech = Speech("s", "", "no empty conferences currently exist at all", 0, 32_000, ((12_000, 20_000),))
    assert speech.lacks_rest("no empty")
    assert not speech.lacks_rest("know empty conference current lee exist at all")
    committed = [(1.0, "no empty conferences"), (9.0, "currently exist at all")]
    assert scenes.was_cut_off(speech, committed, ended=8.0)
    assert not scenes.was_cut_off(speech, [(9.0, "no empty conferences currently exist at all")], ended=8.0)
    assert Speech.from_json(speech.as_json()) == speech


def test_differences_are_paired() -> None:
    def turn(ms: float | None, cut_off: bool = False) -> Turn:
        return Turn("s", ms, None, cut_off, "")

    ours, theirs = [turn(400), turn(500), turn(300, True)], [turn(900), turn(None), turn(100)]
    assert report.paired(ours, theirs) == {
        "n": 1,
        "ratio": 0.444,
        "difference_ms": {"p50": 500, "low": 500, "high": 500},
    }
    assert truth.distance(["a", "b", "c"], ["a", "c", "d"]) == 2
    assert curve.nice(1234) == 1500


@pytest.mark.skipif(not LIBRIVOX.is_dir(), reason="needs pocketsphinx-testdata")
def test_voice_is_found_in_recordings(tmp_path: Path) -> None:
    (speech,) = recordings.of_folder(one_recording(tmp_path), tmp_path)
    assert speech.words[:3] == ["he", "was", "not"]
    assert speech.first_voiced == pytest.approx(1600, abs=320)
    assert 2.3 < (speech.last_voiced - speech.first_voiced) / 16_000 < 2.9
    assert len(speech.data) // 2 >= speech.last_voiced
    assert np.abs(np.frombuffer(speech.silence, np.int16)).max() < 2000


def one_recording(folder: Path) -> Path:
    chosen = folder / "chosen"
    chosen.mkdir()
    (chosen / f"{SENTENCE}.wav").write_bytes((LIBRIVOX / f"{SENTENCE}.wav").read_bytes())
    texts = {SENTENCE: "he was not an ill disposed young man"}
    (chosen / "transcripts.json").write_text(json.dumps(texts))
    return chosen


class Engines(asr_pb2_grpc.AsrServiceServicer, llm_pb2_grpc.LlmServiceServicer, tts_pb2_grpc.TtsServiceServicer):
    """Hear always the same, and say it."""

    def __init__(self) -> None:
        self.heard_samples = 0
        self.prompts: list[llm_pb2.Prompt] = []
        self.texts: list[str] = []

    async def StreamingRecognize(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            self.heard_samples += len(request.audio.data) // 2
            if request.HasField("flush"):
                transcript = asr_pb2.Transcript(is_final=True, text="How are you?")
                yield asr_pb2.StreamingRecognizeResponse(transcript=transcript)

    async def Generate(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            if request.HasField("prompt"):
                self.prompts.append(request.prompt)
                for text in ("I am", " very", " well.", " And", " you?"):
                    yield llm_pb2.GenerateResponse(delta=llm_pb2.TextDelta(text=text))
                yield llm_pb2.GenerateResponse(finished=llm_pb2.Finished())

    async def Synthesize(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            if request.HasField("clause"):
                self.texts.append(request.clause.text)
                for number in range(100):
                    chunk = audio_pb2.AudioChunk(start_sample=number * STEP, data=SOUND)
                    yield tts_pb2.SynthesizeResponse(audio=chunk)


def add_all(engines: Engines, server: grpc.aio.Server) -> None:
    asr_pb2_grpc.add_AsrServiceServicer_to_server(engines, server)
    llm_pb2_grpc.add_LlmServiceServicer_to_server(engines, server)
    tts_pb2_grpc.add_TtsServiceServicer_to_server(engines, server)


@pytest.mark.skipif(not LIBRIVOX.is_dir(), reason="needs pocketsphinx-testdata")
@pytest.mark.skipif(not (pipecat.environment() / "complete").exists(), reason="pipecat is not installed beside us")
async def test_pipecat_answers_from_our_engine_servers(tmp_path: Path) -> None:
    (speech,) = recordings.of_folder(one_recording(tmp_path), tmp_path)
    engines = Engines()
    async with serving(add_all, engines) as address:
        targets = dict.fromkeys(live.ENGINES, address)
        async with pipecat_figures.running(tmp_path, targets) as runtime:
            open = pipecat_figures.arm(runtime, "tuned")
            turn = await arms.one_turn(open, speech, Wanted())
            barge_in = await arms.one_barge_in(open, speech, speech, Wanted(system_prompt="Be long."))
    assert turn.error == ""
    assert turn.ttfa_ms is not None
    assert 150 < turn.ttfa_ms < 5000
    assert turn.understood.startswith("How are you?")
    assert engines.heard_samples > speech.last_voiced
    assert engines.texts[0] == "I am very well."
    assert engines.prompts[-1].messages[0].role == llm_pb2.ROLE_SYSTEM
    assert barge_in.silent_ms is not None
    assert 100 < barge_in.silent_ms < 3000


def test_peer_figures_stand_beside_ours() -> None:
    ours, theirs = ([Turn("s", ms, None, False, "")] for ms in (400.0, 800.0))
    barge_ins = [BargeIn(300.0, 1.0, 2.0, "")]
    found = {arms.OURS: Outcome(ours), "default": Outcome(theirs, barge_ins)}
    figures = pipecat_figures.figures(found, set())
    assert figures["ratio"] == 0.5
    assert figures["ttfa_ms"]["p50"] == 800.0
    assert figures["arms"]["default"]["barge_in_ms"]["p50"] == 300.0
    assert "not_measured" in pipecat_figures.figures({arms.OURS: Outcome(ours)}, set())


def test_options_that_do_not_fit_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("--peer pipecat --address here:1", "--peer-arms fastest", "--engines asr=a:1"):
        with pytest.raises(SystemExit):
            live.parsed(wrong.split())
    assert "asr=HOST:PORT" in capsys.readouterr().err
