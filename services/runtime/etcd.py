"""etcd, as this project uses it: one small asynchronous client on stubs of our own."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from services.runtime.etcd_access import Access
from services.runtime.etcd_lease import Lease, kept
from services.runtime.etcd_members import Members, reached
from services.runtime.etcd_types import (
    Alarm,
    Away,
    Back,
    Changes,
    Compare,
    Delete,
    EtcdAway,
    EtcdForbidden,
    EtcdFull,
    EtcdRefused,
    EtcdSettings,
    Event,
    Get,
    Heard,
    Keys,
    KeyValue,
    Listing,
    Operation,
    Put,
    Snapshot,
    Span,
    Status,
    Transaction,
    absent,
    create_revision_is,
    etcd_settings,
    exists,
    lease_is,
    mod_revision_is,
    value_is,
    version_is,
)
from services.runtime.etcd_watch import Pace, watched
from services.runtime.etcd_wire import comparison, key_values, operation, put_request, range_of
from services.runtime.etcdpb import rpc_pb2

__all__ = [
    "Access",
    "Alarm",
    "Away",
    "Back",
    "Changes",
    "Compare",
    "Delete",
    "Etcd",
    "EtcdAway",
    "EtcdForbidden",
    "EtcdFull",
    "EtcdRefused",
    "EtcdSettings",
    "Event",
    "Get",
    "Heard",
    "KeyValue",
    "Keys",
    "Lease",
    "Listing",
    "Operation",
    "Pace",
    "Put",
    "Snapshot",
    "Span",
    "Status",
    "Transaction",
    "absent",
    "connected",
    "create_revision_is",
    "etcd_settings",
    "exists",
    "lease_is",
    "mod_revision_is",
    "value_is",
    "version_is",
]


class Etcd:
    """What one can ask of etcd. Use `connected`.

    Every call ends within the settings' timeout and raises EtcdAway when nobody answered, EtcdRefused when etcd said no
    (EtcdForbidden: may not, EtcdFull: out of space). Reads are asked again of another member while there is time; writes are
    sent once, see EtcdAway.maybe_applied.
    """

    def __init__(self, members: Members) -> None:
        self._members = members
        self.access = Access(members)

    async def get(self, key: str) -> KeyValue | None:
        found = await self._range(key, prefix=False)
        return found.kvs[0] if found.kvs else None

    async def list(self, keys: Keys, keys_only: bool = False, limit: int = 0) -> Listing:
        """Everything below a prefix or in a span, as the majority of etcd has it.

        `keys_only` leaves the values empty. `limit`: only the first so many; 0 is all of them.
        """
        return await self._range(keys, prefix=True, keys_only=keys_only, limit=limit)

    async def put(self, key: str, value: str, lease: int = 0) -> int:
        """Returns the revision. `lease`: the id of one, with which the key goes."""
        request = put_request(key, value, lease)
        response = await self._members.write(lambda member: member.kv.Put, request, f"put of {key!r}")
        return response.header.revision

    async def delete(self, key: Keys, prefix: bool = False) -> int:
        """Delete a key, everything below it as a prefix, or a span. Returns how many keys there were."""
        start, end = range_of(key, prefix)
        request = rpc_pb2.DeleteRangeRequest(key=start, range_end=end)
        response = await self._members.write(lambda member: member.kv.DeleteRange, request, f"deletion of {key!r}")
        return response.deleted

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[Operation] = ()
    ) -> Transaction:
        """Do `then` if all of `compares` hold, else `otherwise`: all of it at one revision, or nothing.

        A key may be written only once, and etcd takes at most 128 operations a branch.
        """
        request = rpc_pb2.TxnRequest(
            compare=map(comparison, compares), success=map(operation, then), failure=map(operation, otherwise)
        )
        keys = ", ".join(sorted({repr(each.key) for each in (*compares, *then, *otherwise)})[:4])
        response = await self._members.write(lambda member: member.kv.Txn, request, f"transaction on {keys}")
        return Transaction(
            response.succeeded,
            response.header.revision,
            tuple(
                key_values(each.response_range.kvs) for each in response.responses if each.HasField("response_range")
            ),
        )

    def lease(self, ttl_s: int) -> AbstractAsyncContextManager[Lease]:
        """A lease, kept alive until it is left and then revoked, if etcd can be reached: keys put with its id go then."""
        return kept(self._members, ttl_s)

    def watch(self, *keys: Keys, pace: Pace = Pace()) -> AsyncIterator[Heard]:  # noqa: B008  frozen
        """Everything that happens below prefixes and in spans: a Snapshot first, then Changes, each event once and in order.

        All of them are one watch: what was done together is told together, and all has one order. They must not overlap.
        Ends when it is no longer iterated, and not before: it goes on through restarts, compactions, frozen servers and
        changes of the leader. A second Snapshot replaces all that was heard before. Away says once an outage that what was
        heard may be out of date (also when access was taken away), Back that everything missed has been delivered. Away
        comes first when etcd is not there at the start.
        """
        return watched(self._members, keys, pace)

    async def status(self) -> Status:
        """How the member is that answers."""
        request = rpc_pb2.StatusRequest()
        response = await self._members.read(lambda member: member.maintenance.Status, request, "status")
        return Status(
            version=response.version,
            db_size=response.db_size,
            member=response.header.member_id,
            leader=response.leader,
            raft_term=response.raft_term,
            revision=response.header.revision,
            errors=tuple(response.errors),
        )

    async def alarms(self) -> tuple[Alarm, ...]:
        request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET)
        response = await self._members.read(lambda member: member.maintenance.Alarm, request, "alarms")
        return tuple(Alarm(each.member_id, rpc_pb2.AlarmType.Name(each.alarm)) for each in response.alarms)

    async def disarm(self, alarm: Alarm) -> None:
        """Say that the cause of an alarm is gone."""
        request = rpc_pb2.AlarmRequest(
            action=rpc_pb2.AlarmRequest.DEACTIVATE,
            member_id=alarm.member,
            alarm=rpc_pb2.AlarmType.Value(alarm.kind),
        )
        await self._members.write(lambda member: member.maintenance.Alarm, request, "end of an alarm")

    async def compact(self, revision: int) -> None:
        """Forget everything before a revision, and return when that is done."""
        request = rpc_pb2.CompactionRequest(revision=revision, physical=True)
        await self._members.write(lambda member: member.kv.Compact, request, f"compaction at {revision}")

    async def defragment(self) -> None:
        """Give the space of what was compacted back to the disk; the member that answers serves nobody meanwhile."""
        request = rpc_pb2.DefragmentRequest()
        await self._members.write(lambda member: member.maintenance.Defragment, request, "defragmentation")

    async def _range(self, key: Keys, prefix: bool, keys_only: bool = False, limit: int = 0) -> Listing:
        start, end = range_of(key, prefix)
        request = rpc_pb2.RangeRequest(key=start, range_end=end, keys_only=keys_only, limit=limit)
        what = f"{'list' if prefix else 'get'} of {key!r}"
        response = await self._members.read(lambda member: member.kv.Range, request, what)
        return Listing(response.header.revision, key_values(response.kvs), response.count)


@asynccontextmanager
async def connected(settings: EtcdSettings) -> AsyncIterator[Etcd]:
    """A client of etcd, which need not be there yet. Raises InvalidInput when a file of the settings cannot be read."""
    async with reached(settings) as members:
        yield Etcd(members)
