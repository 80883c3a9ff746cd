"""A change of a slot on its way to every host."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from talkmesh.admin.v1 import admin_pb2
from talkmesh.errors import TalkmeshError
from talkmesh.mesh import Mesh, freshness_name, phase_name, slot_of
from talkmesh.model.v1 import model_pb2

UNSEEING = "it does not see etcd"


@dataclass(frozen=True)
class HostProgress:
    """Where a host stands on its way to a change."""

    instance: str
    phase: str = ""
    """Of the model wanted, "LOADING" for example; empty while the host has not begun."""
    served: bool = False
    """New streams are served by it."""
    error: str = ""
    """Why it failed, or what it waits for."""
    overtaken_by: int = 0
    """The newer generation that the host goes to instead."""
    overtaken_by_model: str = ""
    timings: tuple[tuple[str, float], ...] = ()
    """Seconds by phase, in order."""
    rss_before_bytes: int = 0
    rss_after_bytes: int = 0
    """Resident memory of the host's engine processes before and after; 0 while it is not known."""

    @property
    def seconds(self) -> float:
        """Time spent on the way so far."""
        return sum(seconds for phase, seconds in self.timings if phase not in ("STANDBY", "ACTIVE"))

    @property
    def failed(self) -> bool:
        return self.phase == "FAILED"

    @property
    def step(self) -> tuple[str, bool, str, int]:
        """What makes it another step rather than more of the same."""
        return self.phase, self.served, self.error, self.overtaken_by


@dataclass
class Swap:
    """A change of a slot and the way of each host to it."""

    change: admin_pb2.SlotChange
    hosts: dict[str, HostProgress] = field(default_factory=dict)
    freshness: str = ""

    @property
    def done(self) -> bool:
        """Every host serves it, and there is one at least."""
        return bool(self.hosts) and all(host.served for host in self.hosts.values())

    @property
    def where(self) -> str:
        return f"{self.change.service}/{self.change.slot}"

    def take(self, mesh: Mesh) -> Iterator[HostProgress]:
        """Take the newest state of the mesh; yields the hosts that are a step further."""
        before = self.hosts
        self.freshness = freshness_name(mesh.freshness)
        self.hosts = {host.instance: progress(self.change, host) for host in mesh.of(self.change.service)}
        for instance, host in self.hosts.items():
            if instance not in before or before[instance].step != host.step:
                yield host

    def raise_if_lost(self) -> None:
        """Raises TalkmeshError if a host has failed, or goes to a newer change."""
        for host in self.hosts.values():
            if host.failed:
                why = host.error or "no reason given"
                raise TalkmeshError(
                    f"{self.where}: {self.change.model} failed on {host.instance}: {why}", "FAILED_PRECONDITION"
                )
            if host.overtaken_by:
                raise TalkmeshError(
                    f"{self.where}: generation {self.change.generation} ({self.change.model}) was overtaken by "
                    f"{host.overtaken_by} ({host.overtaken_by_model})",
                    "ABORTED",
                )

    def missing(self) -> str:
        """What a swap that is not done waits for, in words."""
        if not self.hosts:
            return f"no host of {self.change.service} is there"
        late = (host for host in self.hosts.values() if not host.served)
        return ", ".join(f"{h.instance}: {h.phase or 'not begun'}{f' ({h.error})' if h.error else ''}" for h in late)


class NotInTime(TalkmeshError):
    """A swap was not done in the time that its caller had for it. It goes on all the same."""

    def __init__(self, swap: Swap, timeout_s: float) -> None:
        stale = "; etcd is away" if swap.freshness == "STALE" else ""
        super().__init__(
            f"{swap.where}: {swap.change.model} (generation {swap.change.generation}) is not served everywhere after "
            f"{timeout_s:g} s: {swap.missing()}{stale}; the swap goes on",
            "DEADLINE_EXCEEDED",
        )
        self.swap = swap


def progress(change: admin_pb2.SlotChange, host: model_pb2.HostStatus) -> HostProgress:
    """Where a host stands on its way to a change."""
    slot = slot_of(host, change.slot)
    if slot is None or max(slot.generation, slot.wanted_generation) < change.generation:
        return HostProgress(host.instance, error=UNSEEING if host.freshness == model_pb2.FRESHNESS_STALE else "")
    served = slot.generation == change.generation
    if not served and slot.wanted_generation != change.generation:
        newer, model = max((slot.wanted_generation, slot.wanted_model), (slot.generation, slot.model))
        return HostProgress(host.instance, overtaken_by=newer, overtaken_by_model=model)
    if slot.wanted_generation != change.generation:
        # A newer wish does not take back that this one is served; what else the slot tells is about the newer.
        return HostProgress(host.instance, "ACTIVE", served=True)
    return HostProgress(
        host.instance,
        "ACTIVE" if served else phase_name(slot.phase),
        served=served,
        error="" if served else slot.error,
        timings=tuple((phase_name(each.phase), each.seconds) for each in slot.timings),
        rss_before_bytes=slot.rss_before_bytes,
        rss_after_bytes=slot.rss_after_bytes,
    )
