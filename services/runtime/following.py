"""From etcd to the controller: what is wanted, as it changes; what was known last, when etcd is away."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf import json_format

from services.runtime import state
from services.runtime.controller import Controller
from services.runtime.desired import KINDS, PREFIX, STABLE
from services.runtime.etcd import Away, Back, Changes, Etcd, Event, Heard, KeyValue, Snapshot
from services.runtime.interface import Interface, from_proto
from services.runtime.recording import Recorder
from services.runtime.wanted import Desired, Problem
from talkmesh.model.v1 import model_pb2

OBSERVED = f"{PREFIX}observed/"
# What is not among them, such as the history, comes to no host's memory.
FOLLOWED = (*(f"{PREFIX}{kind}/" for kind in KINDS), OBSERVED)
FIRST_ANSWER_S = 2.0
SAVE_INTERVAL_S = 60.0
LOOK_S = 0.5
log = logging.getLogger(__name__)


class Neighbourhood:
    """What the hosts of the other services serve, as they tell it in etcd."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._hosts: dict[str, model_pb2.HostStatus] = {}

    def take(self, kv: KeyValue) -> None:
        try:
            found = json_format.Parse(kv.value, model_pb2.HostStatus(), ignore_unknown_fields=True)
        except json_format.ParseError as error:
            log.warning("%s: not the state of a host: %s", kv.key, error)
            return
        if found.service != self._service:
            self._hosts[kv.key] = found

    def drop(self, key: str) -> None:
        self._hosts.pop(key, None)

    def reconcile(self, kvs: Mapping[str, KeyValue]) -> None:
        self._hosts.clear()
        for kv in kvs.values():
            self.take(kv)

    def interfaces(self) -> Mapping[str, Sequence[Interface]]:
        """By service: the interfaces of the models that serve "stable" now, each once."""
        found: dict[str, list[Interface]] = {}
        for host in self._hosts.values():
            for model in host.models:
                if STABLE in model.slots and (interface := from_proto(model.interface)) not in found.get(
                    host.service, []
                ):
                    found.setdefault(host.service, []).append(interface)
        return found


class Following:
    """Keeps a controller at what etcd says, and the disk at what was understood of it."""

    def __init__(self, etcd: Etcd, controller: Controller, neighbourhood: Neighbourhood, kept: Path | None) -> None:
        self._etcd = etcd
        self._controller = controller
        self._neighbourhood = neighbourhood
        self._path = kept
        self._desired = Desired(controller.service.name)
        self._recorder = Recorder(etcd, controller.service.name)
        self._heard = asyncio.Event()
        self.freshness = model_pb2.FRESHNESS_STALE
        self.stale_since: float | None = time.monotonic()
        self.disk_problem: Problem | None = None

    @property
    def revision(self) -> int:
        """The newest revision that was acted on."""
        return self._desired.revision

    @property
    def stale_s(self) -> float:
        """For how many seconds etcd has been out of sight."""
        return time.monotonic() - self.stale_since if self.stale_since is not None else 0.0

    @property
    def problems(self) -> list[Problem]:
        found = list(self._desired.problems.values())
        return [*found, self.disk_problem] if self.disk_problem else found

    async def run(self) -> None:
        """Follow until cancelled."""
        self._restore()
        self._controller.on_revert = self._recorder.revert
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._recorder.run())
            tasks.create_task(self._boot_without())
            if self._path:
                tasks.create_task(self._keep_saved(self._path))
            async for heard in self._etcd.watch(*FOLLOWED):
                self._take(heard)

    def _take(self, heard: Heard) -> None:
        match heard:
            case Snapshot():
                self._reconcile(heard)
            case Changes():
                self._apply(heard)
            case Away(reason):
                log.warning("etcd is away, going on with what is known: %s", reason)
                self._see(model_pb2.FRESHNESS_STALE)
                return
            case Back():
                log.info("etcd is back at revision %d", heard.revision)
        self._heard.set()
        self._see(model_pb2.FRESHNESS_CURRENT)

    def _see(self, freshness: model_pb2.Freshness.ValueType) -> None:
        if freshness == model_pb2.FRESHNESS_CURRENT:
            self.stale_since = None
        elif self.stale_since is None:
            self.stale_since = time.monotonic()
        self.freshness = freshness
        self._controller.bell.ring()

    def _reconcile(self, snapshot: Snapshot) -> None:
        observed = {key: kv for key, kv in snapshot.kvs.items() if key.startswith(OBSERVED)}
        self._neighbourhood.reconcile(observed)
        self._desired.reconcile({key: kv for key, kv in snapshot.kvs.items() if key not in observed}, snapshot.revision)
        self._recorder.found(snapshot.kvs.values())
        self._changed()

    def _apply(self, changes: Changes) -> None:
        """A whole response at once: what was written in one transaction is acted on as one."""
        desires = [event for event in changes.events if not event.kv.key.startswith(OBSERVED)]
        for event in changes.events:
            if event.kv.key.startswith(OBSERVED):
                self._neighbourhood.drop(event.kv.key) if event.deleted else self._neighbourhood.take(event.kv)
        # What hosts tell of themselves does not count: telling that it was seen would be seen in its turn, for ever.
        if not desires:
            return
        concerned = [self._apply_one(event) for event in desires]
        self._desired.revision = max(self._desired.revision, changes.revision)
        self._recorder.seen(desires)
        if any(concerned):
            self._changed()

    def _apply_one(self, event: Event) -> bool:
        """Returns whether it is about what is wanted."""
        before = len(self._desired.problems), len(self._desired.kept)
        if event.deleted:
            self._desired.drop(event.kv.key)
        else:
            self._desired.take(event.kv)
        known = event.kv.key in self._desired.kept or event.kv.key in self._desired.problems
        return known or before != (len(self._desired.problems), len(self._desired.kept))

    def _changed(self) -> None:
        self._controller.want(self._desired)

    # --- the disk ---------------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Take up what this host knew before it was started."""
        if self._path is None:
            return
        self._kept = state.read(self._path)
        self._controller.last_good = dict(self._kept.serving)
        self._controller.sizes = dict(self._kept.sizes)
        self._controller.usage.restore(self._kept.usage)

    async def _boot_without(self) -> None:
        """When etcd does not answer soon after the start, begin with what was known last."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._heard.wait(), FIRST_ANSWER_S)
        if self._heard.is_set() or self._path is None or not self._kept.values:
            return
        log.warning("etcd does not answer: beginning with what was known at revision %d", self._kept.revision)
        found = {value.key: value.restored() for value in self._kept.values}
        self._desired.reconcile(found, self._kept.revision)
        self._controller.want(self._desired)

    async def _keep_saved(self, path: Path) -> None:
        """Keep what matters at a start as soon as it changes, and the rest now and then."""
        saved, saved_at = state.State(), 0.0
        while True:
            known = self._known()
            urgent = known.model_copy(update={"revision": saved.revision, "usage": saved.usage, "sizes": saved.sizes})
            if self._heard.is_set() and (urgent != saved or time.monotonic() - saved_at > SAVE_INTERVAL_S):
                await self._save(path, known)
                saved, saved_at = known, time.monotonic()
            await asyncio.sleep(LOOK_S)

    def _known(self) -> state.State:
        controller = self._controller
        serving = {name: slot.serving.resident.model for name, slot in controller.slots.items() if slot.serving}
        return state.State(
            revision=self._desired.revision,
            values=[state.kept(kv) for kv in self._desired.kept.values()],
            serving=serving or controller.last_good,
            sizes=dict(controller.sizes),
            usage=controller.usage.dump(),
        )

    async def _save(self, path: Path, known: state.State) -> None:
        try:
            await asyncio.to_thread(state.write, path, known)
            self.disk_problem = None
        except OSError as error:
            # Serving goes on; only a start without etcd would miss what could not be kept.
            self.disk_problem = Problem("", "state", f"what is known could not be kept on disk: {error.strerror}")
            log.error("%s", self.disk_problem.reason)
            self._controller.bell.ring()
