"""Whatever is written to etcd, a host goes on serving what it had and says what is wrong, naming key and field."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.runtime.desired import PREFIX, budget_key, model_key, observed_key, slot_key
from talkmesh.model.v1 import model_pb2
from tests.fakes.hosts import until
from tests.fakes.swapping import SERVICE, Stage, stage

pytestmark = pytest.mark.mesh


async def problem(made: Stage, key: str) -> model_pb2.Problem:
    """Wait until the host tells of a problem with a key."""
    found: list[model_pb2.Problem] = []

    async def is_told() -> bool:
        found[:] = [each for each in (await made.observed()).problems if each.key == key]
        return bool(found)

    await until(is_told, 5)
    return found[0]


@pytest.mark.parametrize(
    ("value", "field", "named"),
    [
        ("joe", "", "not JSON"),
        ('{"model": "b"', "", "not JSON"),
        ('["b"]', "", "expected an object"),
        ('{"model": "b", "draining_s": 3}', "draining_s", "expected one of model, drain_s"),
        ('{"model": 7}', "model", "string"),
        ('{"model": "b", "drain_s": -1}', "drain_s", "greater than or equal to 0"),
        ('{"model": "b", "standby_s": "long"}', "standby_s", "number"),
        ('{"model": "b", "cause": "whim"}', "cause", "human"),
        ("\x00\x01", "", "not JSON"),
    ],
)
async def test_a_bad_slot_is_told_and_changes_nothing(value: str, field: str, named: str) -> None:
    async with stage() as made:
        key = slot_key(SERVICE)
        await made.etcd.put(key, value)
        told = await problem(made, key)
        assert told.field == field
        assert named in told.reason
        assert await made.served_by() == "a"
        await made.serves("b", await made.want("b"))
        assert (await made.observed()).problems == []


async def test_bad_entries_budgets_and_unknown_services_are_told() -> None:
    async with stage() as made:
        await made.etcd.put(model_key(SERVICE, "a"), '{"engine": "echo", "sha256": "abc"}')
        assert (await problem(made, model_key(SERVICE, "a"))).field == "sha256"
        await made.etcd.put(budget_key(SERVICE), '{"models": 0}')
        assert (await problem(made, budget_key(SERVICE))).field == "models"
        assert await made.served_by() == "a"
        await made.serves("a", await made.want("a"))
        await made.etcd.delete(model_key(SERVICE, "a"))
        error = await made.fails(await made.want("a"))
        assert "model 'a' is not known; known: b, c" in error
        assert await made.served_by() == "a"


async def test_a_slot_key_that_is_deleted_leaves_what_serves() -> None:
    async with stage() as made:
        await made.etcd.delete(slot_key(SERVICE))
        assert "goes on with what it has" in (await problem(made, slot_key(SERVICE))).reason
        assert await made.served_by() == "a"
        before = (await made.slot()).generation
        generation = await made.want("b")
        assert generation > before, "a key that is made again begins no second count"
        await made.serves("b", generation)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"source": "/models/nothing"}, "source '/models/nothing': no file or folder is there"),
        ({"source": "/etc/hostname"}, "outside the allowed roots"),
        ({"source": "/models/../etc/hostname"}, "outside the allowed roots"),
        ({"source": "package:json/decoder.py", "sha256": "0" * 64}, "decoder.py: sha256 is "),
        ({"engine": "parrots"}, "echo engine 'parrots' is not known; known: echo"),
        ({"options": {"colour": "red"}}, "options.colour: unknown"),
        ({"options": {"fail": "not these weights"}}, "not these weights"),
        ({"interface": {"sample_rates_hz": [24000]}, "options": {"interface": {"sample_rates_hz": [22050]}}}, "22050"),
        ({"golden": {"loudness": [2, 3]}}, "golden.loudness: measured 1"),
        ({"golden": {"said": "goodbye"}}, "golden.said"),
        ({"options": {"hang": True}, "load_timeout_s": 5}, "was still loading after 5 s"),
        ({"options": {"block": True}, "load_timeout_s": 5}, "was still loading after 5 s"),
        ({"options": {"eat": 4000}, "memory_limit_mb": 150}, "more than its memory_limit_mb of 150"),
        ({"options": {"crash": "SIGKILL"}}, "was killed by SIGKILL while loading"),
        ({"options": {"crash_when": "validating"}}, "was killed by SIGKILL while validating"),
        ({"options": {"crash_when": "warming"}}, "was killed by SIGKILL while warming"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
async def test_a_model_that_does_not_come_up_changes_nothing(entry: dict[str, Any], named: str) -> None:
    async with stage(clean=False, environment={"TALKMESH_MODEL_ROOTS": "/models"}) as made:
        talk, _ = await made.talk()
        await talk.say("repeat 40 50")
        await made.add("bad", **entry)
        error = await made.fails(await made.want("bad"))
        assert named in error
        assert [await talk.hear() for _ in range(40)] == [str(index) for index in range(40)]
        await talk.finish()
        assert await made.served_by() == "a"
        await made.gone("bad")
        assert (await made.history())[-1].wish.model == "bad", "what was wanted is on record"
        await made.serves("b", await made.want("b"))


async def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.")
    async with stage(clean=False, environment={"TALKMESH_MODEL_ROOTS": str(tmp_path)}) as made:
        await made.add("bad", source=str(tmp_path / "weights.pt"))
        error = await made.fails(await made.want("bad"))
        assert "weights.pt" in error
        assert "safetensors" in error


async def test_a_neighbours_nonsense_is_left_aside() -> None:
    async with stage() as made:
        await made.etcd.put(observed_key("tts", "odd"), "no JSON")
        await made.etcd.put(observed_key("tts", "odder"), '{"slots": 7}')
        await made.etcd.put(f"{PREFIX}unheard/of", "x")
        await made.serves("b", await made.want("b"))
