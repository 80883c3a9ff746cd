"""The control plane on a real etcd: who may change what, who wins, and what is kept of it."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.control import Control, SlotChange
from gateway.evictions import Evictions
from services.runtime import desired
from services.runtime.desired import AuditEntry, HistoryEntry, SlotWish
from services.runtime.errors import DomainError, InvalidInput, NotFound, Outrun, Refused, Unavailable
from services.runtime.etcd import Etcd, KeyValue, connected, etcd_settings
from services.runtime.trimming import trim_history
from talkmesh import TalkmeshError
from talkmesh.control import Admin
from talkmesh.mesh import Mesh
from talkmesh.model.v1 import model_pb2
from tests.fakes.operators import CATALOG, Lossy, Meanwhile, Told, control_plane, write_catalog
from tools.etcd import LocalEtcd, running_etcd

WITHIN_S = 20.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of an etcd that all tests share which leave it running."""
    async with running_etcd(tmp_path_factory.mktemp("admin") / "etcd", sync=False) as server:
        yield server.endpoint


@pytest.fixture
async def etcd(server: str) -> AsyncIterator[Etcd]:
    """An etcd with a catalog and nothing else."""
    async with connected(etcd_settings(server)) as etcd:
        await etcd.delete(desired.PREFIX, prefix=True)
        await write_catalog(etcd)
        yield etcd


@pytest.fixture
async def mortal(tmp_path: Path) -> AsyncIterator[LocalEtcd]:
    """An etcd of one's own, to be killed."""
    async with running_etcd(tmp_path / "etcd", sync=False) as server:
        yield server


@asynccontextmanager
async def client_of(server: LocalEtcd) -> AsyncIterator[Etcd]:
    async with connected(etcd_settings(server.endpoint)) as etcd:
        await write_catalog(etcd)
        yield etcd


@pytest.fixture
async def admin(etcd: Etcd) -> AsyncIterator[Admin]:
    async with control_plane(etcd) as (address, _), Admin(address, "ann@desk") as admin:
        yield admin


async def wanted(etcd: Etcd, service: str = "tts", slot: str = "stable") -> tuple[str, int]:
    found = await etcd.get(desired.slot_key(service, slot))
    assert found is not None
    return desired.parsed(SlotWish, found.value).model, generation(found)


def generation(found: KeyValue) -> int:
    return desired.generation_of(found.create_revision, found.version)


async def audit(etcd: Etcd) -> list[AuditEntry]:
    """In the order in which they were written: their keys know milliseconds only."""
    listing = await etcd.list(f"{desired.PREFIX}audit/")
    return [desired.parsed(AuditEntry, each.value) for each in sorted(listing.kvs, key=lambda kv: kv.mod_revision)]


async def history(etcd: Etcd) -> list[HistoryEntry]:
    listing = await etcd.list(f"{desired.PREFIX}history/tts/stable/")
    return [desired.parsed(HistoryEntry, each.value) for each in listing.kvs]


async def test_slot_history_and_audit_are_written_at_once(etcd: Etcd) -> None:
    change = await Control(etcd).set_slot("tts", "joe", drain_s=5, actor="ann", reason="warmer")
    slot = await etcd.get(desired.slot_key("tts"))
    entry = await etcd.get(desired.history_key("tts", "stable", change.entry.generation))
    listing = await etcd.list(f"{desired.PREFIX}audit/")
    assert slot and entry and len(listing.kvs) == 1
    assert slot.mod_revision == entry.mod_revision == listing.kvs[0].mod_revision
    assert json.loads(slot.value) == {
        "model": "joe",
        "drain_s": 5.0,
        "actor": "ann",
        "reason": "warmer",
        "cause": "human",
    }
    assert generation(slot) == change.entry.generation
    assert desired.parsed(HistoryEntry, entry.value) == change.entry
    assert (await audit(etcd))[0].model_dump(exclude={"at_ms"}) == {
        "action": "set slot",
        "service": "tts",
        "subject": "stable: joe",
        "actor": "ann",
        "reason": "warmer",
        "generation": change.entry.generation,
        "before": "",
        "after": "joe",
    }


async def test_generations_grow_by_one_and_know_the_one_before(etcd: Etcd) -> None:
    control = Control(etcd)
    first = (await control.set_slot("tts", "heart")).entry
    second = (await control.set_slot("tts", "joe", expected="heart")).entry
    assert (second.generation, second.generation_before, second.model_before) == (
        first.generation + 1,
        first.generation,
        "heart",
    )
    assert await wanted(etcd) == ("joe", second.generation)


async def test_expected_model_that_is_not_wanted_any_more_names_the_winner(etcd: Etcd) -> None:
    control = Control(etcd)
    await control.set_slot("tts", "heart")
    won = await control.set_slot("tts", "ann", actor="bob", reason="try her")
    with pytest.raises(Outrun, match=rf"wants 'ann' since generation {won.entry.generation} by bob: try her"):
        await control.set_slot("tts", "joe", expected="heart")
    assert (await wanted(etcd))[0] == "ann"
    assert len(await history(etcd)) == len(await audit(etcd)) == 2


@pytest.mark.parametrize("writers", [2, 20])
async def test_of_writers_with_the_same_expectation_one_wins(etcd: Etcd, writers: int) -> None:
    start = await Control(etcd).set_slot("tts", "heart")

    async def write(number: int) -> SlotChange | Outrun:
        try:
            # Each of its own gateway, so that nothing but etcd can put them in order.
            return await Control(etcd).set_slot("tts", "joe", expected="heart", actor=f"writer {number}")
        except Outrun as error:
            return error

    outcomes = await asyncio.gather(*map(write, range(writers)))
    won = [each for each in outcomes if isinstance(each, SlotChange)]
    lost = [each for each in outcomes if isinstance(each, Outrun)]
    assert len(won) == 1
    assert len(lost) == writers - 1
    assert all(won[0].entry.wish.actor in str(each) and "'joe'" in str(each) for each in lost)
    assert [entry.generation for entry in await history(etcd)] == [start.entry.generation, start.entry.generation + 1]


@pytest.mark.parametrize("exists", [False, True])
async def test_racing_writers_leave_one_line_of_history(etcd: Etcd, exists: bool) -> None:
    if exists:
        await Control(etcd).set_slot("tts", "ann", actor="first")
    models = ["heart", "joe"] * 10
    changes = await asyncio.gather(
        *(Control(etcd).set_slot("tts", model, actor=f"writer {i}") for i, model in enumerate(models))
    )
    line = await history(etcd)
    generations = [entry.generation for entry in line]
    assert generations == list(range(generations[0], generations[0] + len(models) + exists))
    for before, after in itertools.pairwise(line):
        assert (after.model_before, after.generation_before) == (before.wish.model, before.generation)
    assert sorted(change.entry.generation for change in changes) == generations[exists:]
    assert {change.entry.wish.actor for change in changes} == {entry.wish.actor for entry in line[exists:]}
    assert await wanted(etcd) == (line[-1].wish.model, line[-1].generation)
    assert len(await audit(etcd)) == len(line)


async def test_a_write_whose_answer_was_lost_is_told_from_its_record(mortal: LocalEtcd) -> None:
    """Killed with a transaction on its way, etcd has taken it or not; nobody hears of a success that was none."""
    outcomes: list[SlotChange | DomainError] = []

    async def write(control: Control) -> None:
        for number in range(1000):
            try:
                outcomes.append(await control.set_slot("tts", "joe", actor=f"write {number}"))
            except DomainError as error:
                outcomes.append(error)
                return

    async with client_of(mortal) as etcd:
        writing = asyncio.create_task(write(Control(etcd)))
        while len(outcomes) < 5:
            await asyncio.sleep(0.01)
        await mortal.kill()
        await asyncio.wait_for(writing, WITHIN_S)
        assert isinstance(outcomes[-1], Unavailable)
        await mortal.start()
        kept = [entry.generation for entry in await history(etcd)]
        told = [each.entry.generation for each in outcomes if isinstance(each, SlotChange)]
        assert told == kept[: len(told)]
        assert len(kept) - len(told) in (0, 1)
        assert kept == list(range(kept[0], kept[0] + len(kept)))
        assert (await wanted(etcd))[1] == kept[-1]


async def test_a_slot_that_nobody_ever_set_has_what_its_hosts_serve(etcd: Etcd) -> None:
    control = Control(etcd)
    await Told(etcd, model="heart").tell()
    change = await control.set_slot("tts", "joe", expected="heart")
    assert change.entry.model_before == "heart"
    assert (await control.roll_back("tts")).entry.wish.model == "heart"


async def test_a_slot_that_was_deleted_goes_on_counting(etcd: Etcd) -> None:
    control = Control(etcd)
    before = (await control.set_slot("tts", "heart")).entry.generation
    await etcd.delete(desired.slot_key("tts"))
    assert (await control.set_slot("tts", "joe")).entry.generation > before


async def test_a_slot_value_that_nobody_can_read_is_mended_by_the_next_wish(etcd: Etcd) -> None:
    await etcd.put(desired.slot_key("tts"), "{broken")
    change = await Control(etcd).set_slot("tts", "joe")
    assert change.entry.model_before == ""
    assert await wanted(etcd) == ("joe", change.entry.generation)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"service": ""}, "service"),
        ({"service": "tts/../llm"}, "service"),
        ({"model": ""}, "model"),
        ({"model": "a/b"}, "model"),
        ({"model": "joe\n"}, "model"),
        ({"model": "x" * 64}, "model"),
        ({"slot": "-stable"}, "slot"),
        ({"slot": "stäble"}, "slot"),
        ({"drain_s": -1.0}, "drain_s"),
        ({"drain_s": float("nan")}, "drain_s"),
        ({"standby_s": 1e9}, "standby_s"),
        ({"actor": "a" * 201}, "actor"),
        ({"reason": "r" * 1001}, "reason"),
    ],
)
async def test_bad_input_is_named_and_leaves_nothing(etcd: Etcd, arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await Control(etcd).set_slot(**{"service": "tts", "model": "joe", **arguments})
    assert caught.value.field == field
    assert await etcd.get(desired.slot_key("tts")) is None


async def test_unknown_names_list_what_there_is(etcd: Etcd) -> None:
    control = Control(etcd)
    with pytest.raises(NotFound, match="asr, llm, tts, animation, render"):
        await control.set_slot("ttts", "joe")
    with pytest.raises(NotFound, match="tts model 'jo' is not known; known: ann, heart, joe"):
        await control.set_slot("tts", "jo")
    assert await etcd.get(desired.slot_key("tts")) is None


async def test_a_broken_entry_can_be_in_no_slot_and_is_a_problem_of_the_catalog(etcd: Etcd) -> None:
    control = Control(etcd)
    await etcd.put(desired.model_key("tts", "odd"), '{"engine": "vits", "sha265": "ab"}')
    await etcd.put(desired.model_key("tts", "half"), '{"engine": ')
    await etcd.put(desired.model_key("tts", "no name"), '{"engine": "vits"}')
    await etcd.put(desired.model_key("video", "x"), '{"engine": "vits"}')
    await etcd.put(desired.slot_key("llm"), '{"modle": "small"}')
    with pytest.raises(Refused, match="'odd' is broken: sha265"):
        await control.set_slot("tts", "odd")
    found = await control.catalog()
    assert [(entry.service, entry.model) for entry in found.entries] == [
        ("llm", "small"),
        ("tts", "ann"),
        ("tts", "heart"),
        ("tts", "joe"),
    ]
    problems = {problem.key.removeprefix(desired.PREFIX): problem for problem in found.problems}
    assert set(problems) == {
        "models/tts/odd",
        "models/tts/half",
        "models/tts/no name",
        "models/video/x",
        "slots/llm/stable",
    }
    assert problems["models/tts/odd"].field == "sha265"
    assert "sha256" in problems["models/tts/odd"].reason
    assert "not JSON" in problems["models/tts/half"].reason
    assert problems["slots/llm/stable"].field == "modle"
    assert {entry.service for entry in (await control.catalog("tts")).entries} == {"tts"}
    assert all("/tts/" in problem.key for problem in (await control.catalog("tts")).problems)


async def test_rollbacks_go_back_and_forth_and_say_of_what(etcd: Etcd) -> None:
    control = Control(etcd)
    await control.set_slot("tts", "heart")
    second = await control.set_slot("tts", "joe")
    third = await control.roll_back("tts", actor="ann", reason="hiss")
    assert third.entry.wish.model == "heart"
    assert third.entry.wish.reason == f"rollback of generation {second.entry.generation}: hiss"
    fourth = await control.roll_back("tts")
    assert fourth.entry.wish.model == "joe"
    assert fourth.entry.wish.reason == f"rollback of generation {third.entry.generation}"
    changes = await control.history("tts", limit=3)
    assert [change.entry.wish.model for change in changes] == ["joe", "heart", "joe"]


async def test_rollback_passes_over_what_may_not_be_had(etcd: Etcd) -> None:
    control = Control(etcd)
    for model in ("ann", "heart", "joe"):
        await control.set_slot("tts", model)
    await control.set_veto("tts", "heart", True)
    assert (await control.roll_back("tts")).entry.wish.model == "ann"
    await etcd.delete(desired.model_key("tts", "joe"))
    with pytest.raises(NotFound, match=r"earlier usable model.*joe \(vetoed or gone\).*heart \(vetoed or gone\)"):
        await control.roll_back("tts")


async def test_rollback_finds_the_same_after_old_records_are_gone(etcd: Etcd) -> None:
    control = Control(etcd)
    for model in ("ann", "heart", *["joe"] * 12):
        await control.set_slot("tts", model)
    await trim_history(etcd, "tts", keep=4)
    assert len(await history(etcd)) == 6
    assert (await control.roll_back("tts")).entry.wish.model == "heart"
    await control.set_slot("tts", "joe")
    await control.set_veto("tts", "heart", True)
    assert (await control.roll_back("tts")).entry.wish.model == "ann"


async def test_rollback_without_a_past_is_refused(etcd: Etcd) -> None:
    control = Control(etcd)
    with pytest.raises(NotFound):
        await control.roll_back("tts")
    await control.set_slot("tts", "joe")
    with pytest.raises(NotFound):
        await control.roll_back("tts")
    assert (await wanted(etcd))[0] == "joe"


async def test_a_vetoed_model_is_in_no_slot_until_it_is_let_in_again(etcd: Etcd) -> None:
    control = Control(etcd)
    await control.set_slot("tts", "joe")
    await control.set_veto("tts", "joe", True, actor="guard", reason="clicks")
    assert (await wanted(etcd))[0] == "joe"
    await control.set_slot("tts", "heart")
    with pytest.raises(Refused, match=r"'joe' is vetoed: clicks \(guard\)"):
        await control.set_slot("tts", "joe")
    with pytest.raises(Refused, match="clicks"):
        await control.preload("tts", "joe", True)
    assert {entry.model: entry.veto for entry in (await control.catalog("tts")).entries} == {
        "ann": "",
        "heart": "",
        "joe": "clicks (guard)",
    }
    await control.set_veto("tts", "joe", False, actor="ann")
    await control.set_slot("tts", "joe")
    assert [entry.action for entry in await audit(etcd)] == ["set slot", "veto", "set slot", "unveto", "set slot"]


async def test_a_veto_in_the_midst_of_a_wish_wins(etcd: Etcd) -> None:
    control = Control(etcd)
    await control.set_slot("tts", "heart")
    late = Control(Meanwhile(etcd, lambda: control.set_veto("tts", "joe", True, actor="guard")))
    with pytest.raises(Refused, match="guard"):
        await late.set_slot("tts", "joe")
    assert (await wanted(etcd))[0] == "heart"
    assert len(await history(etcd)) == 1


async def test_a_model_that_goes_in_the_midst_of_a_wish_is_not_wanted(etcd: Etcd) -> None:
    await Control(etcd).set_slot("tts", "heart")
    late = Control(Meanwhile(etcd, lambda: etcd.delete(desired.model_key("tts", "joe"))))
    with pytest.raises(NotFound, match="known: ann, heart"):
        await late.set_slot("tts", "joe")
    with pytest.raises(Outrun):
        gone = Meanwhile(etcd, lambda: etcd.delete(desired.model_key("tts", "ann")))
        await Control(gone).set_veto("tts", "ann", True)
    assert (await wanted(etcd))[0] == "heart"


async def test_who_comes_second_goes_on_from_the_first_or_is_told(etcd: Etcd) -> None:
    control = Control(etcd)
    await control.set_slot("tts", "heart")
    late = Control(Meanwhile(etcd, lambda: control.set_slot("tts", "ann", actor="first")))
    with pytest.raises(Outrun, match=r"wants 'ann' .* by first"):
        await late.set_slot("tts", "joe", expected="heart")
    later = Control(Meanwhile(etcd, lambda: control.set_slot("tts", "heart", actor="second")))
    change = await later.set_slot("tts", "joe")
    assert (change.entry.model_before, change.entry.generation_before) == ("heart", change.entry.generation - 1)
    assert [entry.wish.model for entry in await history(etcd)] == ["heart", "ann", "heart", "joe"]


async def test_who_opens_a_slot_second_knows_what_came_first(etcd: Etcd) -> None:
    late = Control(Meanwhile(etcd, lambda: Control(etcd).set_slot("tts", "ann")))
    with pytest.raises(Outrun, match="'ann'"):
        await late.set_slot("tts", "joe", expected="")
    assert [entry.wish.model for entry in await history(etcd)] == ["ann"]


async def test_two_rollbacks_at_once_do_not_bring_the_bad_model_back(etcd: Etcd) -> None:
    control = Control(etcd)
    for model in ("heart", "joe"):
        await control.set_slot("tts", model)
    late = Control(Meanwhile(etcd, lambda: control.roll_back("tts", actor="first")))
    with pytest.raises(Outrun, match=r"wants 'heart' .* by first"):
        await late.roll_back("tts", actor="second")
    assert (await wanted(etcd))[0] == "heart"


async def test_a_model_that_is_wanted_in_the_midst_of_its_eviction_stays(etcd: Etcd) -> None:
    control = Control(etcd)
    await control.set_slot("tts", "heart")
    async with Evictions() as evictions:
        late = Control(Meanwhile(etcd, lambda: control.set_slot("tts", "joe")), evictions)
        with pytest.raises(Outrun):
            await late.evict("tts", "joe")
    assert await etcd.get(desired.eviction_key("tts", "joe")) is None


async def test_preload_undoes_nothing_that_was_written_meanwhile(etcd: Etcd) -> None:
    written = {"engine": "vits", "load_timeout_s": 9}
    late = Meanwhile(etcd, lambda: etcd.put(desired.model_key("tts", "joe"), json.dumps(written)))
    await Control(late).preload("tts", "joe", True)
    found = await etcd.get(desired.model_key("tts", "joe"))
    assert found is not None
    assert json.loads(found.value) == {**written, "preload": True}
    vetoed = Meanwhile(etcd, lambda: Control(etcd).set_veto("tts", "ann", True))
    with pytest.raises(Refused, match="vetoed"):
        await Control(vetoed).preload("tts", "ann", True)


@pytest.mark.parametrize("applied", [True, False])
async def test_a_lost_answer_is_no_second_generation(etcd: Etcd, applied: bool) -> None:
    before = (await Control(etcd).set_slot("tts", "heart")).entry.generation
    change = await Control(Lossy(etcd, applied)).set_slot("tts", "joe", expected="heart")
    assert change.entry.generation == before + 1
    assert [entry.generation for entry in await history(etcd)] == [before, before + 1]
    assert await wanted(etcd) == ("joe", before + 1)


async def test_history_leaves_out_what_wanted_no_model(etcd: Etcd) -> None:
    control = Control(etcd)
    change = await control.set_slot("tts", "joe")
    empty = HistoryEntry(wish=SlotWish(), generation=change.entry.generation - 1, at_ms=1, via="etcd")
    key = desired.history_key("tts", "stable", empty.generation)
    await etcd.put(key, empty.model_dump_json())
    await etcd.put(desired.history_key("tts", "stable", 3), "broken")
    assert [each.entry for each in await control.history("tts")] == [change.entry]


async def test_vetoes_of_nothing_are_noticed(etcd: Etcd) -> None:
    control = Control(etcd)
    with pytest.raises(NotFound, match="known: ann, heart, joe"):
        await control.set_veto("tts", "jo", True)
    with pytest.raises(NotFound, match="veto"):
        await control.set_veto("tts", "joe", False)
    assert await audit(etcd) == []


async def test_a_veto_that_nobody_can_read_is_one(etcd: Etcd) -> None:
    await etcd.put(desired.veto_key("tts", "joe"), "no")
    with pytest.raises(Refused, match="vetoed"):
        await Control(etcd).set_slot("tts", "joe")


async def test_an_eviction_is_told_for_a_while(etcd: Etcd) -> None:
    async with Evictions(told_s=2) as evictions:
        await Control(etcd, evictions).evict("tts", "joe", actor="ann", reason="room")
        found = await etcd.get(desired.eviction_key("tts", "joe"))
        assert found is not None
        assert found.lease
        assert json.loads(found.value) == {"actor": "ann", "reason": "room"}
        assert [entry.action for entry in await audit(etcd)] == ["evict"]
        await gone(etcd, found.key)


async def test_an_eviction_does_not_outlive_its_gateway_for_long(etcd: Etcd) -> None:
    async with Evictions() as evictions:
        await Control(etcd, evictions).evict("tts", "joe")
        assert await etcd.get(desired.eviction_key("tts", "joe"))
    await gone(etcd, desired.eviction_key("tts", "joe"))


async def gone(etcd: Etcd, key: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while await etcd.get(key):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_what_is_wanted_served_or_kept_warm_is_not_evicted(etcd: Etcd) -> None:
    control = Control(etcd)
    await control.set_slot("tts", "heart", "candidate")
    with pytest.raises(Refused, match="wanted in slot 'candidate'"):
        await control.evict("tts", "heart")
    await control.preload("tts", "joe", True)
    with pytest.raises(Refused, match="kept warm"):
        await control.evict("tts", "joe")
    await Told(etcd, model="ann").tell()
    with pytest.raises(Refused, match="served in slot 'stable' of tts-1"):
        await control.evict("tts", "ann")
    with pytest.raises(NotFound):
        await control.evict("tts", "nobody")
    assert (await etcd.list(f"{desired.PREFIX}evictions/")).kvs == ()


async def test_preload_changes_nothing_else(etcd: Etcd) -> None:
    control = Control(etcd)
    written = {"options": {"voice": "ann", "nested": {"ü": [1, 2.5, None]}}, "engine": "vits", "load_timeout_s": 7}
    await etcd.put(desired.model_key("tts", "ann"), json.dumps(written))
    await control.preload("tts", "ann", True, actor="ann")
    found = await etcd.get(desired.model_key("tts", "ann"))
    assert found is not None
    assert json.loads(found.value) == {**written, "preload": True}
    await control.preload("tts", "ann", True)
    same = await etcd.get(desired.model_key("tts", "ann"))
    assert same is not None
    assert same.version == found.version
    await control.preload("tts", "ann", False)
    found = await etcd.get(desired.model_key("tts", "ann"))
    assert found is not None
    assert json.loads(found.value) == {**written, "preload": False}
    assert [entry.action for entry in await audit(etcd)] == ["preload", "no preload"]


async def test_without_etcd_everything_is_refused() -> None:
    async with control_plane(None) as (address, _), Admin(address) as admin:
        for call in (admin.set_slot("tts", "joe"), admin.catalog(), admin.history("tts"), anext(admin.watch())):
            with pytest.raises(TalkmeshError, match="started without etcd") as caught:
                await call
            assert caught.value.code == "FAILED_PRECONDITION"


async def test_while_etcd_is_away_callers_are_told_soon(mortal: LocalEtcd) -> None:
    async with client_of(mortal) as etcd, control_plane(etcd) as (address, _), Admin(address) as admin:
        await admin.set_slot("tts", "joe")
        await mortal.kill()
        calls: list[Callable[[], Any]] = [
            lambda: admin.set_slot("tts", "heart"),
            lambda: admin.evict("tts", "heart"),
            lambda: admin.history("tts"),
            admin.catalog,
        ]
        took: list[float] = []
        for call in calls:
            began = time.monotonic()
            with pytest.raises(TalkmeshError) as caught:
                await call()
            assert (caught.value.code, caught.value.retryable) == ("UNAVAILABLE", True)
            took.append(time.monotonic() - began)
        assert min(took) < 3, "what a quiet machine would take every time"
        assert max(took) < 9, "the gateway answered before its caller gave up"
        await mortal.start()
        change = await eventually(lambda: admin.set_slot("tts", "heart"))
        assert change.model_before == "joe"


async def test_a_gateway_that_never_saw_etcd_says_so(mortal: LocalEtcd) -> None:
    await mortal.kill()
    settings = etcd_settings(mortal.endpoint)
    async with connected(settings) as etcd, control_plane(etcd) as (address, _), Admin(address) as admin:
        with pytest.raises(TalkmeshError, match="etcd is away") as caught:
            await anext(admin.watch())
        assert caught.value.code == "UNAVAILABLE"
        await mortal.start()
        assert (await eventually(lambda: anext(admin.watch()))).freshness == model_pb2.FRESHNESS_CURRENT


async def eventually(call: Any) -> Any:
    """What a call gives once it does not fail as UNAVAILABLE any more."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            return await call()
        except TalkmeshError as error:
            if error.code != "UNAVAILABLE" or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def test_errors_come_with_code_and_field(admin: Admin) -> None:
    with pytest.raises(TalkmeshError) as caught:
        await admin.set_slot("tts", "joe", drain_s=-1)
    assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", "drain_s")
    with pytest.raises(TalkmeshError, match="known: ann, heart, joe") as caught:
        await admin.set_slot("tts", "jo")
    assert caught.value.code == "NOT_FOUND"
    await admin.set_slot("tts", "joe")
    with pytest.raises(TalkmeshError, match="by ann@desk") as caught:
        await admin.set_slot("tts", "heart", expected="heart")
    assert caught.value.code == "ABORTED"
    with pytest.raises(TalkmeshError) as caught:
        await admin.history("tts", limit=-1)
    assert caught.value.field == "limit"


async def test_the_catalog_knows_slots_and_hosts(etcd: Etcd, admin: Admin) -> None:
    await admin.set_slot("tts", "heart", "stable")
    await admin.set_slot("tts", "heart", "candidate")
    await Told(etcd, model="heart").tell(streams=3)
    await etcd.put(desired.observed_key("tts", "tts-2"), "not a host")
    found = {model.model: model for model in (await admin.catalog("tts")).models}
    assert set(found) == set(CATALOG["tts"])
    assert list(found["heart"].slots) == ["candidate", "stable"]
    assert [(host.instance, host.status.streams) for host in found["heart"].hosts] == [("tts-1", 3)]
    assert found["joe"].sha256 == "ab" * 32
    assert not found["joe"].hosts


async def until(states: Any, condition: Any) -> Mesh:
    """The first state of the mesh that fulfils a condition."""
    async with asyncio.timeout(WITHIN_S):
        async for mesh in states:
            if condition(mesh):
                return mesh  # type: ignore[no-any-return]  # a WatchModelsResponse
    raise AssertionError


async def test_a_watch_tells_all_hosts_then_changes_then_who_is_gone(etcd: Etcd, admin: Admin) -> None:
    one, two = Told(etcd), Told(etcd, instance="tts-2")
    await one.tell()
    await etcd.put(desired.observed_key("llm", "broken"), "[")
    await etcd.put(desired.observed_key("llm", "newer"), '{"service": "llm", "instance": "newer", "mood": "good"}')
    earlier = admin.watch()
    await until(earlier, lambda mesh: len(mesh.hosts) == 2)
    await earlier.aclose()
    states = admin.watch()
    first = await anext(states)
    assert set(first.hosts) == {("tts", "tts-1"), ("llm", "newer")}
    assert first.freshness == model_pb2.FRESHNESS_CURRENT
    await two.tell()
    await until(states, lambda mesh: ("tts", "tts-2") in mesh.hosts)
    await one.leave()
    last = await until(states, lambda mesh: ("tts", "tts-1") not in mesh.hosts)
    assert set(last.hosts) == {("tts", "tts-2"), ("llm", "newer")}
    await states.aclose()


async def test_watches_see_etcd_go_and_come_back_with_the_news(mortal: LocalEtcd) -> None:
    async with client_of(mortal) as etcd, control_plane(etcd) as (address, _), Admin(address) as admin:
        host = Told(etcd)
        await host.tell()
        states = admin.watch()
        await until(states, lambda mesh: mesh.hosts)
        await mortal.kill()
        stale = await until(states, lambda mesh: mesh.freshness == model_pb2.FRESHNESS_STALE)
        assert stale.hosts
        await mortal.start()
        await until(states, lambda mesh: mesh.freshness == model_pb2.FRESHNESS_CURRENT)
        await eventually_written(host)
        await until(states, lambda mesh: mesh.hosts["tts", "tts-1"].slots[0].generation == 7)
        await states.aclose()


async def eventually_written(host: Told) -> None:
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            return await host.serve("joe", 7)
        except Unavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


async def test_a_reader_that_does_not_read_gets_the_newest_state_only(etcd: Etcd, admin: Admin) -> None:
    host = Told(etcd)
    await host.tell()
    slow, quick = admin.watch(), admin.watch()
    await until(slow, lambda mesh: mesh.hosts)
    padding = "x" * 4000
    for number in range(1, 401):
        host.generation = number
        await host.tell(error=padding)
    await until(quick, lambda mesh: mesh.hosts["tts", "tts-1"].slots[0].generation == 400)
    taken = 0
    async with asyncio.timeout(WITHIN_S):
        async for mesh in slow:
            taken += 1
            if mesh.hosts["tts", "tts-1"].slots[0].generation == 400:
                break
    assert taken < 200
    await slow.aclose()
    await quick.aclose()


async def test_swap_waits_until_every_host_serves(etcd: Etcd, admin: Admin) -> None:
    hosts = [Told(etcd), Told(etcd, instance="tts-2")]
    for host in hosts:
        await host.tell()
    swapping = asyncio.create_task(admin.swap("tts", "joe", timeout_s=WITHIN_S))
    generation = await generation_wanted(etcd, "joe")
    await hosts[0].serve("joe", generation)
    await asyncio.sleep(0.3)
    assert not swapping.done()
    await hosts[1].serve("joe", generation)
    swap = await swapping
    assert swap.done
    assert set(swap.hosts) == {"tts-1", "tts-2"}
    assert swap.change.model_before == "heart"


async def generation_wanted(etcd: Etcd, model: str) -> int:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        found = await etcd.get(desired.slot_key("tts"))
        if found and desired.parsed(SlotWish, found.value).model == model:
            return generation(found)
        await asyncio.sleep(0.02)
    raise AssertionError(f"{model} was never wanted")


async def test_swap_outlives_a_gateway_that_is_restarted(etcd: Etcd) -> None:
    host = Told(etcd)
    await host.tell()
    async with control_plane(etcd) as (address, _), Admin(address) as admin:
        change = await admin.set_slot("tts", "joe")
    port = int(address.rpartition(":")[2])
    async with Admin(address) as admin:
        waiting = asyncio.create_task(admin.served(change, WITHIN_S))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        async with control_plane(etcd, port):
            await host.serve("joe", change.generation)
            assert (await waiting).done


async def test_watches_do_not_keep_a_gateway_from_stopping(etcd: Etcd) -> None:
    async with AsyncExitStack() as stack:
        async with control_plane(etcd) as (address, _):
            admin = await stack.enter_async_context(Admin(address))
            states = admin.watch()
            await anext(states)
        with pytest.raises(TalkmeshError, match="this gateway is stopping") as caught:
            await anext(states)
    assert caught.value.retryable
