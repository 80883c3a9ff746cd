"""What a watch has delivered so far, and whether that is what etcd has."""

from collections.abc import Callable, Iterable
from types import MappingProxyType

from services.runtime.etcd_types import Changes, Event, Listing, Snapshot
from services.runtime.etcd_wire import event
from services.runtime.etcdpb import kv_pb2


class Mirror:
    """The keys that are followed, as whoever follows the watch knows them."""

    def __init__(self, listing: Listing, concerns: Callable[[bytes], bool] = lambda _: True) -> None:
        """`concerns`: whether a key is one of them; all that is told of others is passed over."""
        self.revision = listing.revision
        self._concerns = concerns
        self._kvs = {kv.key: kv for kv in listing.kvs}
        self._deleted: dict[str, int] = {}

    def snapshot(self) -> Snapshot:
        return Snapshot(self.revision, MappingProxyType(dict(self._kvs)))

    def apply(self, sent: Iterable[kv_pb2.Event]) -> Changes | None:
        """Take in the events of one message; None if all of them were known, or concern nobody.

        The revision goes no further than the last event: the one in the message's header may be that of events which are
        still to come.
        """
        before = self.revision
        new = [each for each in sent if each.kv.mod_revision > before]
        if new:
            self.revision = new[-1].kv.mod_revision
        events = tuple(self._applied(each) for each in new if self._concerns(each.kv.key))
        return Changes(events[-1].kv.mod_revision, events) if events else None

    def _applied(self, sent: kv_pb2.Event) -> Event:
        # The value before is known here, so etcd need not send it.
        made = event(sent, None)
        made = Event(made.kv, made.deleted, self._kvs.pop(made.kv.key, None))
        if made.deleted:
            self._deleted[made.kv.key] = made.kv.mod_revision
        else:
            self._kvs[made.kv.key] = made.kv
            self._deleted.pop(made.kv.key, None)
        return made

    def agrees(self, listing: Listing) -> bool:
        """Whether nothing that the listing shows is missing or different here; what has happened since does not count."""
        listed = {kv.key: kv for kv in listing.kvs}
        return all(
            self._kvs.get(key) == listed.get(key) or self._changed_at(key) > listing.revision
            for key in listed.keys() | self._kvs.keys()
        )

    def _changed_at(self, key: str) -> int:
        kv = self._kvs.get(key)
        return kv.mod_revision if kv else self._deleted.get(key, 0)

    def settled(self, revision: int) -> None:
        """Forget deletions up to a revision: no listing to come is older."""
        self._deleted = {key: at for key, at in self._deleted.items() if at > revision}
