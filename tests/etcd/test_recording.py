"""Generations that came without a record get one, and only one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.runtime.desired import PREFIX, HistoryEntry, SlotWish, generation_of, history_key, parsed, slot_key
from services.runtime.etcd import Etcd, Event, KeyValue, Put
from services.runtime.recording import Recorder
from services.runtime.records import slot_records
from services.runtime.trimming import HISTORY_KEPT
from tests.fakes.hosts import until

pytestmark = [pytest.mark.mesh, pytest.mark.asyncio(loop_scope="session")]


@asynccontextmanager
async def recorder(client: Etcd) -> AsyncIterator[Recorder]:
    made = Recorder(client, "tts")
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])


async def put(client: Etcd, model: str, slot: str = "stable", *more: Put) -> KeyValue:
    """A bare put, or with its record."""
    key = slot_key("tts", slot)
    await client.transact([], [Put(key, SlotWish(model=model, actor="ann").model_dump_json()), *more])
    found = await client.get(key)
    assert found
    return found


async def written(client: Etcd, slot: str = "stable") -> list[tuple[int, str, str]]:
    """Generation, model and the way it came, oldest first."""
    listing = await client.list(f"{PREFIX}history/tts/{slot}/")
    entries = [parsed(HistoryEntry, kv.value) for kv in listing.kvs]
    return [(entry.generation, entry.wish.model, entry.via) for entry in entries]


async def audits(client: Etcd) -> int:
    return (await client.list(f"{PREFIX}audit/")).count


def generation(kv: KeyValue) -> int:
    return generation_of(kv.create_revision, kv.version)


async def test_each_generation_is_written_once_by_whoever_comes_first(client: Etcd) -> None:
    first = await put(client, "heart")
    wish = SlotWish(model="joe", actor="ann")
    records = slot_records(
        "set slot", "tts", "stable", HistoryEntry(wish=wish, generation=generation(first) + 1, at_ms=1)
    )
    second = await put(client, "joe", "stable", *records)
    third = await put(client, "ann")
    async with recorder(client) as one, recorder(client) as two:
        for each in (one, two):
            each.found([first, KeyValue("/elsewhere")])
            each.seen([Event(second, previous=first), Event(third, previous=second)])
        asr = KeyValue(slot_key("asr"), '{"model": "tiny"}', 1, 1, 1)
        one.seen([Event(asr), Event(await put(client, "heart", "last"))])

        async def is_last() -> bool:
            return bool(await written(client, "last"))

        await until(is_last, 20)
        await until(lambda: has(client, third), 20)
    begun = generation(first)
    assert await written(client) == [(begun, "heart", "etcd"), (begun + 1, "joe", "api"), (begun + 2, "ann", "etcd")]
    assert await audits(client) == 4
    assert (await client.list(f"{PREFIX}history/asr/")).count == 0


async def has(client: Etcd, kv: KeyValue) -> bool:
    return await client.get(history_key("tts", "stable", generation(kv))) is not None


async def test_what_was_trimmed_is_not_written_again_by_a_host_that_is_late(client: Etcd) -> None:
    old = await put(client, "heart")
    newer = [history_key("tts", "stable", generation(old) + 1 + n) for n in range(HISTORY_KEPT)]
    await client.transact([], [Put(key, "{}") for key in newer[1:]])
    async with recorder(client) as late:
        late.seen([Event(old)])
        await until(lambda: has(client, old), 20)
        await client.delete(history_key("tts", "stable", generation(old)))
        await client.put(newer[0], "{}")
        late.seen([Event(old), Event(await put(client, "heart", "last"))])

        async def is_last() -> bool:
            return bool(await written(client, "last"))

        await until(is_last, 20)
    assert not await has(client, old)
    assert await audits(client) == 2
