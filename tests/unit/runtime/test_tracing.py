"""Traces: the same ids everywhere, whole trees at the collector, and nothing at all when off."""

import asyncio
import hashlib
import json
import logging
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway import traces
from gateway.waterfall import LIVE_STAGES, Waterfall
from services.runtime import tracing
from services.runtime.tracing import Span, StreamTrace
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.model.v1 import model_pb2
from tests.fakes.collector import Collector, collecting
from tools.etcd import free_ports

ROOT = Path(__file__).resolve().parents[3]
TURN = "Zm9vYmFy-3"
MODEL = model_pb2.ServingModel(service="tts", model="heart", slot="stable", slot_generation=7)
NAMES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "OTEL_SDK_DISABLED")
IMPORTED = """
import json, sys
import gateway.__main__, services.runtime.engine_process, services.runtime.host
from services.runtime import tracing
tracing.write("a-1", tracing.Span("x", 0.0, 1.0))
print(json.dumps([name for name in sys.modules if name.startswith("opentelemetry")]))
"""


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def asked(monkeypatch: pytest.MonkeyPatch, collector: Collector, **more: str) -> None:
    for name, value in {**collector.environment, **more}.items():
        monkeypatch.setenv(name, value)


def work(name: str = "work") -> Span:
    now = time.perf_counter()
    return Span(name, now - 0.25, now)


def test_ids_follow_from_the_turn_alone() -> None:
    digest = hashlib.sha256(b"talkmesh turn Zm9vYmFy-3").hexdigest()
    ids = tracing.ids_of(TURN)
    assert f"{ids.trace:032x}{ids.root:016x}" == digest[:48]
    assert digest[:48] == "07470f244e9b922aa03471e7b68bfd6a574d5d35da3b0ae3"


def test_nothing_is_imported_and_nothing_is_written_when_off() -> None:
    command = [sys.executable, "-c", IMPORTED]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env={"PATH": "/usr/bin"})
    assert json.loads(done.stdout) == []


async def test_a_turn_is_one_tree_in_wall_clock_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with collecting() as collector:
        asked(monkeypatch, collector)
        before = time.time_ns()
        async with tracing.exported("tts"):
            began = time.perf_counter()
            tracing.write(TURN, work("child"), root=Span("turn", began - 0.5, began, {"outcome": "completed"}))
            StreamTrace(MODEL).done("tts.synthesize", TURN, began - 0.1, 40.0, {"first_speech": began - 0.06}, clause=2)
        after = time.time_ns()
    spans = {each.name: each for each in collector.of(TURN)}
    assert len(collector.told) == len(spans) == 3
    root = spans["turn"].span
    assert root.span_id == tracing.ids_of(TURN).root.to_bytes(8, "big")
    assert root.parent_span_id == b""
    assert {spans[name].span.parent_span_id for name in ("child", "tts.synthesize")} == {root.span_id}
    assert {spans[name].span.span_id for name in ("child", "tts.synthesize")} != {root.span_id}
    assert before - 1e9 < root.start_time_unix_nano < root.end_time_unix_nano < after
    assert spans["turn"].ms == pytest.approx(500, abs=0.01)
    assert spans["turn"].figures == {"talkmesh.outcome": "completed"}
    assert spans["tts.synthesize"].figures == {
        **{"talkmesh.model": "heart", "talkmesh.slot": "stable", "talkmesh.generation": 7},
        **{"talkmesh.engine_ms": 40.0, "talkmesh.clause": 2},
    }
    synthesis = spans["tts.synthesize"]
    since = synthesis.events["first_speech"] - synthesis.span.start_time_unix_nano
    assert since / 1e6 == pytest.approx(40, abs=0.01)
    assert {each.service for each in collector.told} == {"talkmesh-tts"}
    assert all(each.instance for each in collector.told)


async def test_what_belongs_to_no_turn_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with collecting() as collector:
        asked(monkeypatch, collector)
        async with tracing.exported("asr"):
            for turn_id in tracing.NO_TURN:
                tracing.write(turn_id, work())
            tracing.write(TURN, work("told"))
    assert [each.name for each in collector.told] == ["told"]


async def test_of_many_pictures_the_first_of_each_turn_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with collecting() as collector:
        asked(monkeypatch, collector)
        async with tracing.exported("render"):
            trace = StreamTrace(MODEL)
            for turn_id in ("", "a-1", "a-1", "", "a-1", "a-2", "a-2", ""):
                trace.first("render.render", turn_id, 12.0)
    assert [len(collector.of(turn_id)) for turn_id in ("a-1", "a-2")] == [1, 1]
    assert len(collector.told) == 2
    assert collector.told[0].ms == pytest.approx(12, abs=0.01)


async def test_all_processes_choose_the_same_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [f"a-{number}" for number in range(200)]
    async with collecting() as collector:
        asked(monkeypatch, collector, OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0.25")
        for service in ("gateway", "tts"):
            async with tracing.exported(service):
                for turn_id in turns:
                    tracing.write(turn_id, work(), root=work("turn") if service == "gateway" else None)
    told = [[each.service for each in collector.of(turn_id)] for turn_id in turns]
    assert {tuple(sorted(services)) for services in told} == {
        (),
        ("talkmesh-gateway", "talkmesh-gateway", "talkmesh-tts"),
    }
    assert 25 <= sum(map(bool, told)) <= 75


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "a lot"},
    ],
)
async def test_an_environment_without_traces_has_none(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    async with collecting() as collector:
        asked(monkeypatch, collector, **environment)
        async with tracing.exported("tts"):
            tracing.write(TURN, work())
    assert collector.calls == 0


async def test_a_collector_that_comes_late_is_told_what_is_new(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (port,) = free_ports(1)
    asked(monkeypatch, Collector(address=f"127.0.0.1:{port}"), OTEL_EXPORTER_OTLP_TIMEOUT="1")
    lost = "traces get lost until the collector is back"
    async with AsyncExitStack() as outlasting, tracing.exported("tts"):
        for number in range(200):
            tracing.write(f"lost-{number}", work())
        async with asyncio.timeout(20):
            while lost not in caplog.text:
                tracing.write("lost", work())
                await asyncio.sleep(0.05)
        collector = await outlasting.enter_async_context(collecting(f"127.0.0.1:{port}"))
        async with asyncio.timeout(20):
            while "traces reach the collector again" not in caplog.text:
                tracing.write("found", work())
                await asyncio.sleep(0.05)
    assert collector.of("found")
    words = [record.getMessage() for record in caplog.records if record.name.startswith(("services", "opentelemetry"))]
    assert [bool(word.startswith(lost)) for word in words] == [False, True, False], words
    assert str(port) in words[0] and str(port) in words[1]


@pytest.mark.parametrize("silent", [False, True])
async def test_a_collector_that_does_not_answer_holds_up_no_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, silent: bool
) -> None:
    async with collecting() as collector:
        collector.silent = silent
        asked(monkeypatch, collector)
        if not silent:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_ports(1)[0]}")
        async with tracing.exported("tts", flush_s=0.3):
            tracing.write(TURN, work())
            await asyncio.sleep(0.3)
            began = time.perf_counter()
        assert time.perf_counter() - began < 5, "the exporter itself would try for 10 s"
    assert not tracing.is_on()
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


async def test_the_address_is_logged_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:sesame@127.0.0.1:9/?key=sesame")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=sesame")
    async with tracing.exported("tts"):
        pass
    assert "127.0.0.1:9" in caplog.text
    assert "sesame" not in caplog.text


async def test_a_turn_tells_where_its_time_went_and_not_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.perf_counter()
    waterfall = Waterfall(began=now - 1.0, stages=LIVE_STAGES)
    for stage, at in (("asr_final", 0.2), ("first_token", 0.3), ("synthesis", 0.5), ("endpoint", 0.4)):
        waterfall.mark(stage, now - 1.0 + at, 5.0)
    heart = model_pb2.ServingModel(service="tts", model="heart", slot_generation=7)
    joe = model_pb2.ServingModel(service="tts", model="joe", slot_generation=8)
    done = conversation_pb2.TurnDone(
        outcome=conversation_pb2.OUTCOME_FAILED,
        user_text="sesame?",
        reply_text="sesame!",
        waterfall=waterfall.proto(),
        reply_tokens=11,
        models=[heart, joe],
    )
    async with collecting() as collector:
        asked(monkeypatch, collector)
        async with tracing.exported("gateway"):
            traces.turn_over(TURN, waterfall, done)
            traces.turn_over("a-1", waterfall, None)
            traces.draft_discarded("a-2", now - 0.5)
    spans = {each.name: each for each in collector.of(TURN)}
    assert [each.name for each in collector.of(TURN)] == ["turn", "asr_final", "first_token", "synthesis", "endpoint"]
    assert [round(spans[name].ms) for name in ("asr_final", "first_token", "synthesis", "endpoint")] == [
        200,
        100,
        200,
        0,
    ]
    assert spans["turn"].figures.items() >= {
        ("talkmesh.outcome", "failed"),
        ("talkmesh.reply_tokens", 11),
        ("talkmesh.tts.model", "heart,joe"),
        ("talkmesh.tts.generation", 8),
        ("talkmesh.turn_id", TURN),
    }
    assert spans["turn"].span.status.code == 2
    (cut,) = (each for each in collector.of("a-1") if each.name == "turn")
    assert cut.figures == {"talkmesh.outcome": "cut_short", "talkmesh.turn_id": "a-1"}
    (draft,) = collector.of("a-2")
    assert draft.name == "draft" and draft.figures["talkmesh.discarded"] is True
    assert draft.span.parent_span_id == tracing.ids_of("a-2").root.to_bytes(8, "big")
    assert "sesame" not in str(collector.told)
