"""Following ranges of etcd's keys for ever.

The rules, each of which stands against something that was seen to go wrong:
- The first revision is that of a listing; the next one is the last event's plus one, never that of a message's header,
  which runs ahead of the events while the watch catches up.
- A message is handed on as a whole: it never splits a transaction.
- A stream that is silent may be dead (frozen server, lost network) or deaf (a member without a majority): every few seconds
  it is asked for a sign of life, and the majority for the number of keys, which also notices access that was taken away.
- Everything is listed again at the start of each stream, which tells when the watch has caught up, and once a minute; if the
  listing and what was delivered do not come to agree, the listing is delivered. The same after a compaction that took away
  what was missed, and when etcd has lost its past (a backup was restored).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from services.runtime.etcd_members import Members
from services.runtime.etcd_mirror import Mirror
from services.runtime.etcd_ranges import Ranges
from services.runtime.etcd_streams import Broken, Stream
from services.runtime.etcd_types import Away, Back, Changes, EtcdAway, EtcdRefused, Heard, Keys, Snapshot
from services.runtime.etcd_wire import is_about_access
from services.runtime.etcdpb import rpc_pb2

PAUSES_S = (0.1, 2.0)
LOOK_S = 0.05
# Someone who does not listen for this many messages gets a snapshot in their place.
BACKLOG = 1_000
Watch = Stream[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse]


@dataclass(frozen=True)
class Pace:
    """How closely a watch looks after itself, in seconds."""

    away_s: float = 1.0  # without etcd, before Away is told
    life_s: float = 5.0  # between two questions for a sign of life
    answer_s: float = 2.0  # that an answer may take
    listing_s: float = 60.0  # between two listings
    settle_s: float = 2.0  # without an event, while a listing shows more than was told


class Silent(Broken):
    """The stream is there, and nothing comes."""


class Outbox:
    """What has been heard and not yet taken."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[Heard | BaseException] = asyncio.Queue()

    async def take(self) -> Heard:
        """Raises what ended the watch."""
        heard = await self._heard.get()
        if isinstance(heard, BaseException):
            raise heard
        return heard

    def tell(self, heard: Heard | BaseException) -> None:
        self._heard.put_nowait(heard)

    def overflows(self) -> bool:
        return self._heard.qsize() >= BACKLOG

    def shorten(self, snapshot: Snapshot) -> None:
        """Put a snapshot in the place of all changes that wait."""
        waiting = [self._heard.get_nowait() for _ in range(self._heard.qsize())]
        self.tell(snapshot)
        for each in waiting:
            if not isinstance(each, Snapshot | Changes):
                self.tell(each)


class Watching:
    """One watch, through all its streams."""

    def __init__(self, members: Members, ranges: Ranges, pace: Pace, outbox: Outbox) -> None:
        self._members = members
        self._ranges = ranges
        self._pace = pace
        self._outbox = outbox
        self._loop = asyncio.get_running_loop()
        self._mirror: Mirror | None = None
        self._pause = PAUSES_S[0]
        self._heard_at = self._loop.time()
        self._away = False
        self._alarm: asyncio.TimerHandle | None = None
        self._reason = ""

    async def run(self) -> None:
        """Follow until cancelled."""
        self._lost(Broken("etcd has not answered yet"))
        try:
            while True:
                began = self._loop.time()
                try:
                    await self._follow()
                except* (Broken, EtcdAway, EtcdRefused) as group:
                    self._lost(first(group))
                # Time that was spent waiting for etcd counts, so that it is seen soon when it comes back.
                await asyncio.sleep(max(PAUSES_S[0], began + self._pause - self._loop.time()))
                self._pause = min(self._pause * 2, PAUSES_S[1])
        finally:
            if self._alarm:
                self._alarm.cancel()

    async def _follow(self) -> None:
        """One stream, from its beginning to its end. Raises Broken, EtcdAway or EtcdRefused, alone or in a group."""
        if self._mirror is None:
            self._mirror = Mirror(await self._ranges.listed(self._members), self._ranges.hold)
            self._outbox.tell(self._mirror.snapshot())
        member = await self._members.ready()
        metadata = (*await self._members.metadata(member), ("hasleader", "true"))
        stream = Watch(member.watch.Watch(metadata=metadata))
        try:
            await self._open(stream, self._mirror)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(stream, self._mirror))
                tasks.create_task(self._look_after(stream, self._mirror))
        except BaseException:
            self._members.distrust(member)
            raise
        finally:
            stream.cancel()

    async def _open(self, stream: Watch, mirror: Mirror) -> None:
        key, end = self._ranges.hull
        create = rpc_pb2.WatchCreateRequest(
            key=key, range_end=end, start_revision=mirror.revision + 1, progress_notify=True
        )
        try:
            async with asyncio.timeout(self._pace.answer_s):
                await stream.send(rpc_pb2.WatchRequest(create_request=create))
                self._take(await self._next(stream), mirror)
        except TimeoutError:
            raise Broken("etcd does not answer a new watch") from None

    async def _read(self, stream: Watch, mirror: Mirror) -> None:
        while True:
            self._take(await self._next(stream), mirror)

    async def _next(self, stream: Watch) -> rpc_pb2.WatchResponse:
        response = await stream.receive()
        self._heard_at = self._loop.time()
        return response

    def _take(self, response: rpc_pb2.WatchResponse, mirror: Mirror) -> None:
        """Hand on what a message says. Raises Broken if it says that the watch is over."""
        if response.compact_revision:
            self._mirror = None
            raise Broken(f"etcd was compacted at revision {response.compact_revision}")
        if response.canceled:
            if is_about_access(response.cancel_reason):
                # Older servers say "permission denied" of a token that has expired, too.
                self._members.forget_token()
            raise Broken(f"etcd has cancelled the watch: {response.cancel_reason or 'no reason given'}")
        changes = mirror.apply(response.events)
        if changes and self._outbox.overflows():
            self._outbox.shorten(mirror.snapshot())
        elif changes:
            self._outbox.tell(changes)

    async def _look_after(self, stream: Watch, mirror: Mirror) -> None:
        """Notice that a stream is dead, deaf or wrong. Raises Broken, EtcdAway or EtcdRefused."""
        listed_at = self._loop.time()
        await self._compare(mirror)
        while True:
            await asyncio.sleep(self._pace.life_s)
            await self._ask_for_life(stream)
            if self._loop.time() - listed_at >= self._pace.listing_s:
                listed_at = self._loop.time()
                await self._compare(mirror)
            else:
                await self._ranges.counted(self._members)

    async def _ask_for_life(self, stream: Watch) -> None:
        asked_at = self._loop.time()
        try:
            async with asyncio.timeout(self._pace.answer_s):
                await stream.send(rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()))
                while self._heard_at < asked_at:
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise Silent("etcd is connected but silent") from None

    async def _compare(self, mirror: Mirror) -> None:
        """Return when everything that etcd has now has been delivered. Raises Broken when that does not come to be."""
        known = mirror.revision
        listing = await self._ranges.listed(self._members)
        # The majority never goes back: if it has, it is not the etcd that it was.
        wrong = listing.revision < known
        while not wrong and not mirror.agrees(listing):
            wrong = not await self._moves(mirror)
        if wrong:
            self._mirror = None
            raise Broken("etcd has something else than it has told")
        mirror.settled(listing.revision)
        self._found(listing.revision)

    async def _moves(self, mirror: Mirror) -> bool:
        """Whether events come in, told as soon as one has."""
        revision, deadline = mirror.revision, self._loop.time() + self._pace.settle_s
        while mirror.revision == revision and self._loop.time() < deadline:
            await asyncio.sleep(LOOK_S)
        return mirror.revision != revision

    def _lost(self, error: BaseException) -> None:
        """Tell Away, unless etcd is back before its time."""
        self._reason = str(error)
        if self._alarm is None and not self._away:
            since = self._heard_at if isinstance(error, Silent) else self._loop.time()
            self._alarm = self._loop.call_at(since + self._pace.away_s, self._tell_away)

    def _tell_away(self) -> None:
        self._alarm, self._away = None, True
        self._outbox.tell(Away(self._reason))

    def _found(self, revision: int) -> None:
        self._pause = PAUSES_S[0]
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
        if self._away:
            self._away = False
            self._outbox.tell(Back(revision))


def first(error: BaseException) -> BaseException:
    """The error itself, or the first in a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def watched(members: Members, keys: Sequence[Keys], pace: Pace) -> AsyncIterator[Heard]:
    """What `Etcd.watch` yields."""
    outbox, ranges = Outbox(), Ranges(*keys)
    watching = asyncio.create_task(Watching(members, ranges, pace, outbox).run())
    watching.add_done_callback(lambda task: outbox.tell(ended(task)))
    try:
        while True:
            yield await outbox.take()
    finally:
        watching.cancel()
        await asyncio.wait([watching])


def ended(task: asyncio.Task[None]) -> BaseException:
    """Why a watch is over, which should not be as long as its client is open."""
    error = None if task.cancelled() else task.exception()
    return first(error) if error else RuntimeError("the watch was ended")
