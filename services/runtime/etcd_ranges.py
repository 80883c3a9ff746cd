"""Ranges of keys that are followed as one."""

from services.runtime.etcd_members import Members
from services.runtime.etcd_types import Keys, KeyValue, Listing
from services.runtime.etcd_wire import EVERYTHING, key_values, range_of
from services.runtime.etcdpb import rpc_pb2


class Ranges:
    """Prefixes and spans of keys, none of which overlap.

    etcd gives several watches no order among each other, so one is held on all from the first of the keys to the last, and
    what lies between two ranges is passed over here, before anybody keeps it.
    """

    def __init__(self, *keys: Keys) -> None:
        if not keys:
            raise ValueError("nothing to follow")
        self.name = ", ".join(f"{each!r}" for each in keys)
        self._ranges = sorted(range_of(each, prefix=True) for each in keys)

    @property
    def hull(self) -> tuple[bytes, bytes]:
        """etcd's key and range_end of the least range that has all of them in it."""
        ends = [end for _, end in self._ranges]
        return self._ranges[0][0], EVERYTHING if EVERYTHING in ends else max(ends)

    def hold(self, key: bytes) -> bool:
        """Whether a key is in one of them."""
        return any(start <= key and (key < end or end == EVERYTHING) for start, end in self._ranges)

    async def listed(self, members: Members) -> Listing:
        """What is there, all of it at one revision. Raises EtcdAway and EtcdRefused."""
        revision, found = 0, list[KeyValue]()
        # Not one transaction for all: an older etcd that is full takes none, not even one that only reads.
        for start, end in self._ranges:
            request = rpc_pb2.RangeRequest(key=start, range_end=end, revision=revision)
            response = await self._asked(members, request)
            revision = revision or response.header.revision
            found += key_values(response.kvs)
        return Listing(revision, tuple(found))

    async def counted(self, members: Members) -> None:
        """Have the majority count the keys. Raises EtcdAway and EtcdRefused."""
        start, end = self.hull
        await self._asked(members, rpc_pb2.RangeRequest(key=start, range_end=end, count_only=True))

    async def _asked(self, members: Members, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        return await members.read(lambda member: member.kv.Range, request, f"watch of {self.name}")
