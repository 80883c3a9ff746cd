"""A turn is one trace over six processes; a collector that goes away is missed by nobody."""

import itertools
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from talkmesh import AudioInput, Client, Outcome, SessionConfig, TurnDone
from tests.e2e.asking import collect
from tests.e2e.talking import listening, person
from tests.fakes.collector import Collector, Told, collecting
from tools.up import CROWDED, running_mesh

pytestmark = pytest.mark.mesh
ENGINES = {"asr.recognize", "llm.generate", "tts.synthesize", "animation.animate", "render.render"}
PROCESSES = {f"talkmesh-{name}" for name in ("gateway", "asr", "llm", "tts", "animation", "render")}
LOST = "traces get lost until the collector is back"


async def test_every_turn_is_one_trace_and_goes_on_without_a_collector(tmp_path: Path, question: Path) -> None:
    async with AsyncExitStack() as collectors, AsyncExitStack() as stack:
        collector = await collectors.enter_async_context(collecting())
        environment = {**collector.environment, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
        mesh = await stack.enter_async_context(
            running_mesh(tmp_path, extra={"gateway": CROWDED}, environment=environment)
        )
        asked = await ask(mesh.address, question)
        await check(collector, 1, asked)
        said = await talk(mesh.address, question)
        await check(collector, 2, said)
        await collectors.aclose()
        for _ in range(3):
            alone = await ask(mesh.address, question)
            assert alone.outcome is Outcome.COMPLETED
            assert alone.reply_text == asked.reply_text
    log = (tmp_path / "mesh.log").read_text()
    assert "Traceback" not in log
    assert "opentelemetry" not in log, "what it says at every attempt is not shown"
    lost = [line.split()[2] for line in log.splitlines() if LOST in line]
    assert lost and max(Counter(lost).values()) == 1, "said once by each process"


async def ask(address: str, question: Path) -> TurnDone:
    config = SessionConfig(input=AudioInput(16000), size=256, seed=1, temperature=0)
    async with Client(address) as client, client.session(config) as session:
        return (await collect(session.ask_wav(question, real_time=True))).done


async def talk(address: str, question: Path) -> TurnDone:
    async with person(address, listening()) as user:
        await user.say(question)
        return (await user.turns(1))[0]


async def check(collector: Collector, turns: int, done: TurnDone) -> None:
    """The newest trace tells of a turn what its client was told."""
    await collector.until(lambda: len(collector.roots()) == turns)
    root = collector.roots()[-1]
    turn_id = root.figures["talkmesh.turn_id"]
    await collector.until(lambda: {each.name for each in collector.of(turn_id)} >= ENGINES)
    spans = collector.of(turn_id)
    below = [each for each in spans if each is not root]
    assert {each.service for each in spans} == PROCESSES
    assert len({each.instance for each in spans}) == 6
    assert {each.span.parent_span_id for each in below} == {root.span.span_id}
    assert len({each.span.span_id for each in spans}) == len(spans)
    check_root(root, done)
    check_stages(root, [each for each in below if each.service == "talkmesh-gateway"], done)
    check_engines([each for each in below if each.name in ENGINES], done)
    for words in (done.user_text, done.reply_text):
        assert words and words not in str(spans)


def check_root(root: Told, done: TurnDone) -> None:
    told = {name.removeprefix("talkmesh."): value for name, value in root.figures.items()}
    assert root.name == "turn"
    assert told["outcome"] == "completed"
    assert told["reply_tokens"] == done.reply_tokens > 0
    assert told["first_audio_ms"] == done.first_audio_ms > 0
    assert told["first_video_ms"] == done.first_video_ms > 0
    for model in done.models:
        assert told[f"{model.service}.model"] == model.name
        assert told[f"{model.service}.generation"] > 0
    assert root.ms >= done.first_video_ms


def check_stages(root: Told, spans: list[Told], done: TurnDone) -> None:
    """They are those of the waterfall, and tile the time from the turn's begin to its first picture."""
    found = {each.name: each for each in spans if each.name != "draft"}
    stages = [found.pop(stage.name) for stage in done.stages]
    assert not found
    assert len(stages) >= 6
    assert stages[0].span.start_time_unix_nano == root.span.start_time_unix_nano
    for before, after in itertools.pairwise(stages):
        assert before.span.end_time_unix_nano == after.span.start_time_unix_nano
    assert [each.ms for each in stages] == pytest.approx([stage.duration_ms for stage in done.stages], abs=0.01)


def check_engines(spans: list[Told], done: TurnDone) -> None:
    named = {name: [each for each in spans if each.name == name] for name in ENGINES}
    assert len(named["animation.animate"]) == len(named["render.render"]) == 1
    models = {model.service: model.name for model in done.models}
    for each in spans:
        assert each.figures["talkmesh.model"] == models[each.name.partition(".")[0]]
        assert each.figures["talkmesh.generation"] > 0
        assert each.figures["talkmesh.engine_ms"] > 0
    reply = next(each for each in named["llm.generate"] if "talkmesh.cut_short" not in each.figures)
    assert reply.figures["talkmesh.reply_tokens"] == done.reply_tokens
    assert reply.span.start_time_unix_nano < reply.events["first_token"] < reply.span.end_time_unix_nano
    spoken = [each for each in named["tts.synthesize"] if each.span.start_time_unix_nano >= reply.events["first_token"]]
    assert [each.figures["talkmesh.clause"] for each in spoken] == list(range(len(spoken)))
    assert sum(each.figures["talkmesh.audio_ms"] for each in spoken) > 300
