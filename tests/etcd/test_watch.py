"""A watch tells everything once and in order, whatever becomes of its connection and of etcd."""

import asyncio
import time
from signal import Signals

import pytest

from services.runtime.etcd import (
    Away,
    Back,
    Changes,
    Delete,
    Etcd,
    EtcdAway,
    Operation,
    Pace,
    Put,
    Snapshot,
    Span,
    connected,
    etcd_settings,
)
from services.runtime.etcd_members import reached
from services.runtime.etcd_ranges import Ranges
from services.runtime.etcd_watch import BACKLOG, Outbox, Watching
from services.runtime.etcdpb import rpc_pb2
from tests.fakes.etcd import Ear, listening, stubs, wipe, wired
from tools.etcd import LocalEtcd

pytestmark = [pytest.mark.mesh, pytest.mark.asyncio(loop_scope="session")]
QUICK = Pace(life_s=0.3, answer_s=2.0, listing_s=0.6, settle_s=0.5)


def puts(ear: Ear) -> list[str]:
    return [event.kv.value for event in ear.events]


async def write(etcd: LocalEtcd, key: str, count: int, first: int = 0) -> list[str]:
    """Writes of somebody else, each a value of its own."""
    values = [f"{first + n}" for n in range(count)]
    async with connected(etcd_settings(etcd.endpoint)) as writer:
        for value in values:
            await writer.put(key, value)
    return values


async def test_a_snapshot_comes_first_then_whole_transactions_with_what_was_there_before(client: Etcd) -> None:
    await client.put("/a/x", "1")
    await client.put("/b", "elsewhere")
    async with listening(client, "/a/") as ear:
        assert ear.values == {"/a/x": "1"}
        revision = (await client.transact([], [Put("/a/x", "2"), Put("/a/y", "3"), Put("/b", "4")])).revision
        await client.transact([], [Delete("/a/x"), Put("/a/y", "5")])
        await ear.hears(lambda ear: len(ear.events) == 4)
        assert [(event.kv.key, event.kv.value, event.deleted) for event in ear.events] == [
            ("/a/x", "2", False),
            ("/a/y", "3", False),
            ("/a/x", "", True),
            ("/a/y", "5", False),
        ]
        assert [event.previous.value if event.previous else None for event in ear.events] == ["1", None, "2", "3"]
        changes = [heard for heard in ear.heard if isinstance(heard, Changes)]
        assert [len(each.events) for each in changes] in ([2, 2], [4])
        assert changes[-1].revision == revision + 1
        assert ear.events[2].kv.mod_revision == revision + 1
        assert ear.values == {"/a/y": "5"}
        assert ear.count(Away) == ear.count(Back) == 0


async def test_ranges_are_one_watch_that_passes_over_what_lies_between(client: Etcd) -> None:
    for key in ("/a", "/b/x", "/d/x", "/f", "/g"):
        await client.put(key, "0")
    async with listening(client, ("/b/", Span("/d/x", "/f"))) as ear:
        assert set(ear.values) == {"/b/x", "/d/x"}
        for key in ("/a", "/c", "/d/", "/f", "/g"):
            await client.put(key, "no")
        together: list[Operation] = [Put("/e", "1"), Put("/c", "no"), Put("/b/y", "1"), Delete("/d/x")]
        revision = (await client.transact([], together)).revision
        await client.put("/f", "no")
        await client.put("/b/y", "2")
        await ear.hears(lambda ear: len(ear.events) == 4)
        whole = next(heard for heard in ear.heard if isinstance(heard, Changes))
        assert [event.kv.key for event in whole.events[:3]] == ["/e", "/b/y", "/d/x"]
        assert {event.kv.mod_revision for event in whole.events[:3]} == {revision}
        assert puts(ear)[3] == "2"
        assert set(ear.values) == {"/b/x", "/b/y", "/e"}


async def test_ranges_are_caught_up_with_and_compared_as_one(etcd: LocalEtcd, client: Etcd) -> None:
    keys = ("/a/", "/c/")
    async with wired(etcd) as wire, connected(etcd_settings(wire.endpoint)) as far, listening(far, keys, QUICK) as ear:
        for n in range(300):
            await client.put(f"/b/{n}", "passed over")
        await asyncio.sleep(3 * QUICK.listing_s)
        wire.dumb = True
        await ear.hears(lambda ear: ear.stale)
        await client.put("/c/x", "1")
        await client.compact(await client.put("/b/0", "again"))
        wire.dumb = False
        wire.cut()
        await ear.hears(lambda ear: ear.count(Back) == 1)
        await client.put("/a/x", "2")
        await ear.hears(lambda ear: ear.values == {"/a/x": "2", "/c/x": "1"})
        assert ear.count(Snapshot) == 2, "agreement brings no snapshot, a compaction does"


async def test_bytes_that_are_no_utf8_pass_through_a_watch(etcd: LocalEtcd, client: Etcd) -> None:
    async with listening(client, "/a/") as ear, stubs(etcd) as member:
        await member.kv.Put(rpc_pb2.PutRequest(key=b"/a/\xff", value=b"\xff"))
        await client.put("/a/x", "fine")
        await ear.hears(lambda ear: len(ear.events) == 2)
        assert ear.values == {"/a/\\xff": "\ufffd", "/a/x": "fine"}


async def test_nothing_is_lost_or_told_twice_over_five_kills(etcd: LocalEtcd, client: Etcd) -> None:
    written: list[str] = []
    async with listening(client, "/a/") as ear:
        for cycle in range(5):
            await etcd.restart()
            written += await write(etcd, "/a/x", 20, first=100 * cycle)
        await ear.hears(lambda ear: len(ear.events) >= len(written) and not ear.stale)
        await asyncio.sleep(0.3)
        assert puts(ear) == written
        assert ear.count(Snapshot) == 1


async def test_an_outage_is_told_once_and_costs_no_cpu(etcd: LocalEtcd, client: Etcd) -> None:
    async with listening(client, "/a/") as ear:
        await etcd.kill()
        await ear.hears(lambda ear: ear.stale)
        used, began = time.process_time(), time.monotonic()
        with pytest.raises(EtcdAway, match=r"no etcd can be reached .*refused") as away:
            await client.put("/a/x", "never")
        assert not away.value.maybe_applied
        assert time.monotonic() - began > 1.5, "a call waits for etcd to come back"
        assert time.process_time() - used < 0.25 * (time.monotonic() - began)
        await etcd.start()
        await client.put("/a/x", "1")
        await ear.hears(lambda ear: puts(ear) == ["1"] and not ear.stale)
        assert (ear.count(Away), ear.count(Back)) == (1, 1)


async def test_what_was_missed_is_told_before_back(etcd: LocalEtcd, client: Etcd) -> None:
    async with wired(etcd) as wire, connected(etcd_settings(wire.endpoint)) as far, listening(far, "/a/", QUICK) as ear:
        wire.dumb = True
        await ear.hears(lambda ear: ear.stale)
        for n in range(3):
            await client.put("/a/x", f"{n}")
        wire.dumb = False
        wire.cut()
        await ear.hears(lambda ear: ear.count(Back) == 1)
        assert [type(heard) for heard in ear.heard if not isinstance(heard, Changes)] == [Snapshot, Away, Back]
        assert isinstance(ear.heard[-1], Back)
        assert puts(ear) == ["0", "1", "2"]


async def test_dropped_connections_lose_nothing(etcd: LocalEtcd, client: Etcd) -> None:
    written = []
    async with wired(etcd) as wire, connected(etcd_settings(wire.endpoint)) as far, listening(far, "/a/") as ear:
        for n in range(60):
            await client.put("/a/x", f"{n}")
            written.append(f"{n}")
            if n % 12 == 5:
                before = wire.passed
                wire.cut()
                while wire.passed == before:
                    await asyncio.sleep(0.01)
        await ear.hears(lambda ear: len(ear.events) >= len(written))
        assert puts(ear) == written
        assert ear.count(Snapshot) == 1
        assert wire.passed >= 6


async def test_events_lost_to_a_compaction_are_made_up_by_a_snapshot(etcd: LocalEtcd, client: Etcd) -> None:
    await client.put("/a/gone", "1")
    await client.put("/a/stays", "1")
    async with wired(etcd) as wire, connected(etcd_settings(wire.endpoint)) as far, listening(far, "/a/", QUICK) as ear:
        wire.dumb = True
        await ear.hears(lambda ear: ear.stale)
        await client.delete("/a/gone")
        await client.put("/a/new", "2")
        await client.compact(await client.put("/a/new", "3"))
        wire.dumb = False
        wire.cut()
        await ear.hears(lambda ear: ear.count(Back) == 1)
        assert ear.count(Snapshot) == 2
        assert ear.values == {"/a/stays": "1", "/a/new": "3"}
        assert puts(ear) == []
        await client.put("/a/new", "4")
        await ear.hears(lambda ear: puts(ear) == ["4"])


async def test_a_frozen_etcd_is_noticed_and_survived(etcd: LocalEtcd, client: Etcd) -> None:
    async with listening(client, "/a/") as ear:
        etcd.signal(Signals.SIGSTOP)
        await asyncio.sleep(12)
        assert ear.stale
        etcd.signal(Signals.SIGCONT)
        written = await write(etcd, "/a/x", 5)
        await ear.hears(lambda ear: len(ear.events) >= 5 and not ear.stale)
        assert puts(ear) == written
        assert (ear.count(Snapshot), ear.count(Away), ear.count(Back)) == (1, 1, 1)


async def test_a_difference_that_no_event_explains_is_found_by_listing(etcd: LocalEtcd, client: Etcd) -> None:
    await client.put("/a/x", "1")
    await client.put("/a/y", "1")
    outbox, ear = Outbox(), Ear()
    async with reached(etcd_settings(etcd.endpoint)) as members:
        watching = Watching(members, Ranges("/a/"), QUICK, outbox)
        running = asyncio.create_task(watching.run())
        ear.take(await outbox.take())
        # As if the deletion of one key, and the making of another, had never been told.
        mirror = watching._mirror
        assert mirror
        mirror._kvs["/a/ghost"] = mirror._kvs.pop("/a/y")
        ear.take(await asyncio.wait_for(outbox.take(), 10))
        assert ear.count(Snapshot) == 2
        assert ear.values == {"/a/x": "1", "/a/y": "1"}
        await client.put("/a/x", "2")
        ear.take(await asyncio.wait_for(outbox.take(), 10))
        assert puts(ear) == ["2"]
        await asyncio.sleep(3 * QUICK.listing_s)
        assert len(ear.heard) == 3, "agreement brings no snapshot"
        running.cancel()
        await asyncio.wait([running])


async def test_an_etcd_that_has_lost_its_past_is_believed(etcd: LocalEtcd, client: Etcd) -> None:
    for n in range(20):
        await client.put("/a/x", f"{n}")
    async with listening(client, "/a/", QUICK) as ear:
        await etcd.kill()
        wipe(etcd)
        await etcd.start()
        # At a revision that is long past for whoever knew the other history.
        await client.put("/a/x", "new")
        await ear.hears(lambda ear: ear.values == {"/a/x": "new"} and not ear.stale)
        await client.put("/a/x", "newer")
        await ear.hears(lambda ear: ear.values == {"/a/x": "newer"})


async def test_a_long_catching_up_that_is_interrupted_goes_on_where_it_was(etcd: LocalEtcd, client: Etcd) -> None:
    async with wired(etcd) as wire, connected(etcd_settings(wire.endpoint)) as far, listening(far, "/a/", QUICK) as ear:
        wire.dumb = True
        await ear.hears(lambda ear: ear.stale)
        # More than etcd sends at a time; the header of the first message tells the revision of the last event.
        for _ in range(30):
            await asyncio.gather(*(client.put("/a/x", "x" * 100) for _ in range(100)))
        wire.dumb = False
        wire.cut()
        await ear.hears(lambda ear: bool(ear.events))
        wire.cut()
        await ear.hears(lambda ear: len(ear.events) >= 3000 and not ear.stale)
        revisions = [event.kv.mod_revision for event in ear.events]
        assert revisions == list(range(revisions[0], revisions[0] + 3000))
        assert ear.count(Snapshot) == 1
        assert len([heard for heard in ear.heard if isinstance(heard, Changes)]) > 1


async def test_whoever_does_not_listen_gets_a_snapshot_in_place_of_old_changes(etcd: LocalEtcd, client: Etcd) -> None:
    watch = client.watch("/a/")
    first = await anext(watch)
    assert isinstance(first, Snapshot)
    ear = Ear()
    last = ""
    for n in range(0, BACKLOG + 200, 100):
        await asyncio.gather(*(client.put(f"/a/{n + m}", "1") for m in range(100)))
        last = f"/a/{n + 99}"
    await asyncio.sleep(1)
    async with asyncio.timeout(10):
        async for heard in watch:
            ear.take(heard)
            if len(ear.state) == BACKLOG + 200:
                break
    assert last in ear.state
    assert len(ear.heard) <= BACKLOG


async def test_a_watch_may_begin_before_etcd_does_and_ends_with_its_client(etcd: LocalEtcd) -> None:
    await etcd.kill()
    async with connected(etcd_settings(etcd.endpoint)) as client:
        async with listening(client, "/a/", first=False) as ear:
            await ear.hears(lambda ear: ear.stale)
            await etcd.start()
            await ear.hears(lambda ear: ear.count(Back) == 1)
            assert [type(heard) for heard in ear.heard] == [Away, Snapshot, Back]
        left = client.watch("/a/")
        assert isinstance(await anext(left), Snapshot)
    with pytest.raises(RuntimeError, match="closed"):
        async with asyncio.timeout(10):
            while True:
                await anext(left)
