"""The state of all hosts, as an operator sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from talkmesh.admin.v1 import admin_pb2
from talkmesh.model.v1 import model_pb2

Hosts = Mapping[tuple[str, str], model_pb2.HostStatus]


@dataclass(frozen=True)
class Mesh:
    """Every host by service and instance, and whether the gateway sees etcd now."""

    hosts: Hosts = field(default_factory=dict)
    freshness: "model_pb2.Freshness.ValueType" = model_pb2.FRESHNESS_UNSPECIFIED

    def after(self, response: admin_pb2.WatchMeshResponse) -> "Mesh":
        """The state after a message of WatchMesh."""
        gone = {(name.service, name.instance) for name in response.gone}
        kept = {name: host for name, host in self.hosts.items() if name not in gone}
        news = {(host.service, host.instance): host for host in response.hosts}
        return replace(self, hosts=dict(sorted({**kept, **news}.items())), freshness=response.freshness)

    def of(self, service: str) -> list[model_pb2.HostStatus]:
        """The hosts of one service, by instance."""
        return [host for (name, _), host in self.hosts.items() if name == service]


def slot_of(host: model_pb2.HostStatus, slot: str) -> model_pb2.SlotStatus | None:
    """What a host tells of one slot."""
    return next((status for status in host.slots if status.slot == slot), None)


def phase_name(phase: "model_pb2.Phase.ValueType") -> str:
    """A phase without its prefix; empty for none."""
    return "" if phase == model_pb2.PHASE_UNSPECIFIED else model_pb2.Phase.Name(phase).removeprefix("PHASE_")


def freshness_name(freshness: "model_pb2.Freshness.ValueType") -> str:
    """A freshness without its prefix; empty for none."""
    unknown = freshness == model_pb2.FRESHNESS_UNSPECIFIED
    return "" if unknown else model_pb2.Freshness.Name(freshness).removeprefix("FRESHNESS_")
