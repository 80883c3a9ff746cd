"""Old records go, and with them nothing that anybody can still go back to."""

import pytest

from services.runtime.desired import PREFIX, HistoryEntry, Note, SlotWish, audit_key, history_key
from services.runtime.etcd import Etcd, Put
from services.runtime.records import audited, now_ms
from services.runtime.trimming import BATCH, DAY_MS, trim_audit, trim_history

pytestmark = [pytest.mark.mesh, pytest.mark.asyncio(loop_scope="session")]


async def write(client: Etcd, models: list[str], slot: str = "stable", service: str = "tts", before: str = "") -> None:
    """A slot's history from generation 0 on; `before`: what it served at first."""
    for start in range(0, len(models), BATCH):
        puts = []
        for generation, model in enumerate(models[start : start + BATCH], start):
            former = models[generation - 1] if generation else before
            entry = HistoryEntry(wish=SlotWish(model=model), generation=generation, model_before=former, at_ms=1)
            puts.append(Put(history_key(service, slot, generation), entry.model_dump_json()))
        await client.transact([], puts)


async def generations(client: Etcd, slot: str = "stable", service: str = "tts") -> list[int]:
    listing = await client.list(f"{PREFIX}history/{service}/{slot}/", keys_only=True)
    return [int(kv.key.rpartition("/")[2]) for kv in listing.kvs]


async def test_the_newest_generations_stay_and_the_newest_that_names_each_model(client: Etcd) -> None:
    models = ["b", "c", "b"] + ["a"] * (3 * BATCH) + ["d"] + ["a"] * 20
    await write(client, models, before="z")
    await trim_history(client, "tts", keep=10)
    last = len(models)
    # z came before 0; c is named by 2, after which b came; b by 3 as what was before; d by what came after it.
    assert await generations(client) == [0, 2, 3, last - 20, *range(last - 10, last)]
    await trim_history(client, "tts", keep=10)
    assert len(await generations(client)) == 14


async def test_a_slot_is_left_alone_until_it_has_a_quarter_more_and_so_are_others(client: Etcd) -> None:
    await write(client, ["a"] * 10)
    await write(client, ["a"] * 11, slot="candidate")
    await write(client, ["a"] * 50, service="asr")
    await client.put(history_key("tts", "candidate", 0), "what nobody can read")
    await trim_history(client, "tts", keep=8)
    assert await generations(client) == list(range(10))
    assert await generations(client, "candidate") == list(range(3, 11))
    assert await generations(client, service="asr") == list(range(50))
    await trim_history(client, "llm")


async def test_the_audit_keeps_the_newest_of_the_last_days(client: Etcd) -> None:
    now, day = now_ms(), DAY_MS
    old = [audit_key(now - 3 * day + n, "x") for n in range(BATCH + 7)]
    new = [audit_key(now - day + n, "x") for n in range(2 * BATCH + 3)]
    for start in range(0, len(old + new), BATCH):
        await client.transact([], [Put(key, "{}") for key in (old + new)[start : start + BATCH]])
    record = audited("veto", "tts", "joe", Note(actor="ann"))
    await client.transact([], [record])

    async def kept() -> list[str]:
        return [kv.key for kv in (await client.list(f"{PREFIX}audit/")).kvs]

    await trim_audit(client, days=4)
    assert await kept() == [*old, *new, record.key]
    await trim_audit(client, days=2)
    assert await kept() == [*new, record.key]
    await trim_audit(client, keep=3, days=2)
    assert await kept() == [*new[-2:], record.key]
    await trim_audit(client, keep=0)
    assert await kept() == []
