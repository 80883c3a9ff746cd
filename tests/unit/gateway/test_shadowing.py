"""A candidate is told what the live model is told, and nobody hears of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.addresses import Places
from gateway.experiments.registry import FLAGS, Assigned
from gateway.experiments.shadowing import MOST_WAITING, Answers, Figures, difference
from gateway.mesh import Mesh, Stream, connected, opened
from services.runtime.etcd import Changes, Event, KeyValue
from talkmesh.llm.v1 import llm_pb2
from tests.fakes.hosts import until
from tests.fakes.small_hosts import Candidate, small_host

WITHIN_S = 10.0
CONFIG = llm_pb2.GenerateRequest(config=llm_pb2.GenerationConfig())
FLAG: dict[str, Any] = {
    "owner": "me",
    "state": "shadow",
    "variants": {"small": {}, "large": {"slots": {"llm": "candidate"}}},
    "control": "small",
    "enrolled": [[0, 1_000_000]],
    "forced": {"tester": "large"},
}


def write(mesh: Mesh, revision: int, **fields: Any) -> None:
    kv = KeyValue(f"{FLAGS}words", json.dumps(FLAG | fields), mod_revision=revision)
    mesh.experiments.take(FLAGS, Changes(revision, (Event(kv),)))


@asynccontextmanager
async def mesh_with(candidate: Candidate) -> AsyncIterator[Mesh]:
    async with (
        small_host(candidate=candidate) as host,
        connected({"llm": Places((host.address,))}) as mesh,
    ):
        await until(lambda: asyncio.sleep(0, mesh.serves("llm", "candidate")), WITHIN_S)
        write(mesh, 1)
        yield mesh


def assigned(mesh: Mesh) -> Assigned:
    return mesh.experiments.assign({"user": "tester"}, {})


async def heard(mesh: Mesh, texts: list[str], given: Assigned) -> list[str]:
    """What a session hears on one stream."""
    words = []

    async def tell(stream: Stream[Any, Any]) -> None:
        for text in texts:
            prompt = llm_pb2.Prompt(messages=[llm_pb2.Message(content=text)])
            await stream.send(llm_pb2.GenerateRequest(prompt=prompt))
        await stream.close()

    async with opened("llm", mesh.seats({}, given).llm.Generate(), CONFIG) as (stream, _), asyncio.TaskGroup() as group:
        group.create_task(tell(stream))
        async for response in stream:
            words.append(response.delta.text)
    return words


async def ended(mesh: Mesh, count: int = 1) -> Figures:
    async def are_over() -> bool:
        return sum(figures.ended.total() for _, _, figures in mesh.shadows.of("words")) >= count

    await until(are_over, WITHIN_S)
    ((variant, service, figures),) = mesh.shadows.of("words")
    assert (variant, service) == ("large", "llm")
    return figures


async def test_the_candidate_is_told_the_same_and_its_answers_go_nowhere() -> None:
    candidate = Candidate(says="something else", late_s=0.05)
    async with mesh_with(candidate) as mesh:
        given = assigned(mesh)
        assert given.protos() == [], "the session has what everybody has"
        assert await heard(mesh, ["one", "two", "three"], given) == ["one", "two", "three", ""]
        figures = await ended(mesh)
        assert candidate.told == ["one", "two", "three"]
        assert figures.ended == {"ok": 1}
        assert figures.shadow_ms.mean - figures.live_ms.mean > 25, "it is that much later"
        assert figures.unlike.mean > 0.5
        labels = {"flag": "words", "variant": "large", "service": "llm", "ended": "ok"}
        assert mesh.metrics.registry.get_sample_value("talkmesh_gateway_shadow_streams_total", labels) == 1


async def test_a_candidate_that_fails_or_hangs_is_no_trouble_to_anybody() -> None:
    candidate = Candidate(fails=True)
    async with mesh_with(candidate) as mesh:
        assert await heard(mesh, ["one", "two"], assigned(mesh)) == ["one", "two", ""]
        assert (await ended(mesh)).ended == {"failed": 1}
        candidate.fails, candidate.late_s = False, 3_600.0
        many = [f"{number} {2_000 * 'x'}" for number in range(MOST_WAITING + 200)]
        assert await heard(mesh, many, assigned(mesh)) == [*many, ""]
        assert (await ended(mesh, 2)).ended == {"failed": 1, "behind": 1}


async def test_a_copy_ends_with_a_stream_that_is_left() -> None:
    candidate = Candidate(late_s=3_600.0)
    async with mesh_with(candidate) as mesh:
        async with opened("llm", mesh.seats({}, assigned(mesh)).llm.Generate(), CONFIG) as (stream, _):
            prompt = llm_pb2.Prompt(messages=[llm_pb2.Message(content="one")])
            await stream.send(llm_pb2.GenerateRequest(prompt=prompt))
            await stream.first()
        assert (await ended(mesh)).ended == {"left": 1}


async def test_a_stream_that_was_only_tried_is_none() -> None:
    async with mesh_with(Candidate()) as mesh:
        async with opened("llm", mesh.seats({}, assigned(mesh)).llm.Generate(), CONFIG):
            pass
        await heard(mesh, ["one"], assigned(mesh))
        assert (await ended(mesh)).ended == {"ok": 1}


async def test_there_are_only_so_many_at_a_time() -> None:
    async with mesh_with(Candidate(late_s=0.3)) as mesh:
        given = assigned(mesh)
        await asyncio.gather(*(heard(mesh, ["one"], given) for _ in range(7)))
        assert (await ended(mesh, 7)).ended == {"ok": 4, "too many": 3}


async def test_nothing_is_copied_once_the_flag_is_no_shadow_any_more() -> None:
    candidate = Candidate()
    async with mesh_with(candidate) as mesh:
        given = assigned(mesh)
        for revision, state in enumerate(("on", "held", "off"), start=2):
            write(mesh, revision, state=state)
            await heard(mesh, ["one"], given)
        assert candidate.told == []
        write(mesh, 9, state="on")
        assert [each.variant for each in assigned(mesh).protos()] == ["large"], "sessions from now on are given it"


@pytest.mark.parametrize(
    ("live", "shadow", "unlike"),
    [
        (Answers(words=["to be ", "or not"]), Answers(words=["to be or not"]), 0.0),
        (Answers(words=["to be or not"]), Answers(words=["all the world"]), 1.0),
        (Answers(size=100), Answers(size=50), 0.5),
        (Answers(), Answers(), 0.0),
    ],
)
def test_answers_differ_by_words_or_by_size(live: Answers, shadow: Answers, unlike: float) -> None:
    assert difference(live, shadow) == pytest.approx(unlike)
