"""The one place of a host where it is decided what runs: slots follow what is wanted, models come and go.

Everything here happens on one event loop and in one object, so nothing is ever decided twice. A change of what is wanted
begins a swap; a newer one cancels it. Whatever nobody needs any more is let go of in `_tidy`, and nowhere else.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from services.runtime import memory
from services.runtime.bell import Bell
from services.runtime.desired import CRASH_LOOP, STABLE, SlotWish
from services.runtime.engine import ModelSpec, Service
from services.runtime.errors import DomainError, LoadFailed, NotFound, Refused
from services.runtime.interface import Interface
from services.runtime.metering import Meter
from services.runtime.neighbours import disagreements
from services.runtime.resident import Phase, Resident
from services.runtime.slot import Serving, Slot
from services.runtime.usage import Usage
from services.runtime.wanted import Desired, Wanted

DRAIN_S, STANDBY_S = 30.0, 120.0
CRASHES, CRASH_WINDOW_S = 2, 60.0
TIDY_INTERVAL_S = 0.5
RETRY_S = 2.0
Neighbours = Callable[[], Mapping[str, Sequence[Interface]]]
log = logging.getLogger(__name__)


@dataclass
class Defaults:
    """What a wish leaves open."""

    drain_s: float = DRAIN_S
    standby_s: float = STANDBY_S


@dataclass(eq=False)
class Swap:
    """The way of a slot to what is wanted there."""

    slot: Slot
    wanted: Wanted
    resident: Resident | None = None
    task: asyncio.Task[None] | None = None
    loads: bool = False
    """Whether its model was not there yet."""


@dataclass(frozen=True)
class Reverted:
    """A slot went back by itself; told to whoever can make that the desired state."""

    slot: str
    bad: Wanted
    good: SlotWish
    reason: str


class Controller:
    """The slots and residents of one host."""

    def __init__(self, service: Service, defaults: Defaults, meter: Meter, neighbours: Neighbours = dict) -> None:
        self.service = service
        self.defaults = defaults
        self.bell = Bell()
        self.usage = Usage()
        self.slots: dict[str, Slot] = {STABLE: Slot(STABLE, usage=self.usage)}
        self.residents: list[Resident] = []
        self.sizes: dict[str, int] = {}
        """Model → its measured resident memory, in bytes."""
        self.last_good: dict[str, str] = {}
        """Slot → the model that served it before this host was started."""
        self.desired = Desired(service.name)
        self.on_revert: Callable[[Reverted], None] = lambda _: None
        self._meter = meter
        self._neighbours = neighbours
        self._swaps: dict[str, Swap] = {}
        self._evicted: dict[str, int] = {}
        self._tasks: asyncio.TaskGroup
        self._looking_after: dict[Resident, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow what is wanted for the time of the body; afterwards no engine process is left."""
        async with asyncio.TaskGroup() as self._tasks:
            tidying = self._tasks.create_task(self._keep_tidy())
            try:
                yield
            finally:
                tidying.cancel()
                for swap in self._swaps.values():
                    assert swap.task
                    swap.task.cancel()
                for task in self._looking_after.values():
                    task.cancel()

    # --- what is wanted ---------------------------------------------------------------------------------------------

    def want(self, desired: Desired) -> None:
        """Follow this from now on. Returns at once; `bell` rings at every step."""
        self.desired = desired
        for name in [name for name in self.slots if name != STABLE and name not in desired.slots]:
            self._close(name)
        for name, wanted in desired.slots.items():
            slot = self.slots.setdefault(name, Slot(name, usage=self.usage))
            if wanted.generation != slot.wanted_generation:
                self._begin(slot, wanted)
        self._evict_asked()
        self._tidy()
        self.bell.ring()

    def _begin(self, slot: Slot, wanted: Wanted) -> None:
        """Begin a swap to a newer generation; one that is under way is over."""
        if former := self._swaps.pop(slot.name, None):
            assert former.task
            former.task.cancel()
            self._meter.swapped("overtaken")
        slot.wanted, slot.wanted_generation = wanted.wish, wanted.generation
        slot.phase, slot.error, slot.timings = Phase.FETCHING, "", {}
        slot.rss_before, slot.rss_after = self.rss_bytes, 0
        if not wanted.wish.model:
            slot.phase = Phase.ACTIVE if slot.serving else Phase.UNLOADED
            return
        swap = self._swaps[slot.name] = Swap(slot, wanted)
        if spec := self.desired.models.get(wanted.wish.model):
            # What the swap before has begun to load may be just what is wanted now.
            swap.resident = self._known(wanted.wish.model, spec)
        log.info("slot %s: generation %d wants %s", slot.name, wanted.generation, wanted.wish.model)
        swap.task = self._tasks.create_task(self._swap(swap))

    def _close(self, name: str) -> None:
        """A slot is gone."""
        slot = self.slots.pop(name)
        if swap := self._swaps.pop(name, None):
            assert swap.task
            swap.task.cancel()
        if slot.serving:
            self._release(slot, slot.serving)

    # --- a swap -----------------------------------------------------------------------------------------------------

    async def _swap(self, swap: Swap) -> None:
        """From a wish to its model serving, or to the reason why it does not. Changes nothing for who is talking."""
        slot = swap.slot
        try:
            while not await self._attempt(swap):
                await asyncio.sleep(RETRY_S)
        except DomainError as error:
            slot.phase, slot.error = Phase.FAILED, str(error)
            log.warning("slot %s: generation %d: %s", slot.name, swap.wanted.generation, error)
            self._meter.swapped("failed")
        else:
            self._meter.swapped("done")
            self._meter.took(slot.timings)
        finally:
            if self._swaps.get(slot.name) is swap:
                del self._swaps[slot.name]
            self._tidy()
            self.bell.ring()

    async def _attempt(self, swap: Swap) -> bool:
        """Try once. Returns whether it is settled: a slot with nothing at all to serve is worth another try.

        Raises the DomainError that the swap failed on.
        """
        slot, wish = swap.slot, swap.wanted.wish
        try:
            resident = await self._ready(swap, wish.model)
        except DomainError as error:
            if slot.serving is not None:
                raise
            slot.phase, slot.error = Phase.FAILED, str(error)
            self.bell.ring()
            await self._serve_last_good(swap)
            return False
        slot.timings = dict(resident.timings) if swap.loads else {}
        self._switch(slot, resident, swap.wanted)
        return True

    async def _ready(self, swap: Swap, model: str) -> Resident:
        """The resident of a model, ready to serve. Raises what stands against it."""
        spec = self._permitted(model)
        if (resident := self._known(model, spec)) is None:
            resident = await self._brought_in(swap, model, spec)
        swap.resident = resident
        with self._mirrored(swap, resident):
            # A slot that has nothing yet gets its first model however long it takes.
            resident.wanted = resident.wanted or (swap.slot.serving is None and not self._fallback(swap.slot))
            await self.bell.until(lambda: resident.channel is not None or self._is_over(resident))
        if resident.channel is None:
            raise LoadFailed(resident.last_error)
        await self._fit(resident)
        self._agree(resident)
        return resident

    async def _brought_in(self, swap: Swap, model: str, spec: ModelSpec) -> Resident:
        """A new resident on its way up. Raises Refused when there is no room for it."""
        newcomer = Resident(self.service, model, spec, self.bell, wanted=False)
        await self._make_room(newcomer, swap)
        if (known := self._known(model, spec)) is not None:
            return known
        swap.loads = True
        self._take_in(newcomer)
        return newcomer

    def _permitted(self, model: str) -> ModelSpec:
        """The catalog's entry of a model. Raises NotFound, and Refused for one that is vetoed."""
        if (spec := self.desired.models.get(model)) is None:
            raise NotFound("model", model, self.desired.models)
        if veto := self.desired.vetoes.get(model):
            raise Refused(
                f"model {model!r} is vetoed by {veto.actor or 'somebody'}: {veto.reason or 'no reason given'}"
            )
        self.service.engine_path(spec)
        return spec

    def _known(self, model: str, spec: ModelSpec) -> Resident | None:
        """The resident that holds just this, on its way up or ready."""
        content = spec.model_dump(exclude={"preload"})
        for resident in self.residents:
            same = resident.model == model and resident.spec.model_dump(exclude={"preload"}) == content
            if same and not self._is_leaving(resident):
                return resident
        return None

    def _is_over(self, resident: Resident) -> bool:
        task = self._looking_after.get(resident)
        return task is None or task.done()

    def _take_in(self, resident: Resident) -> None:
        """Start a resident, and look after it."""
        resident.on_death = self._died
        self.residents.append(resident)
        task = self._looking_after[resident] = self._tasks.create_task(resident.run())
        task.add_done_callback(lambda _: self._gone(resident))

    def _gone(self, resident: Resident) -> None:
        self._looking_after.pop(resident, None)
        if resident in self.residents:
            self.residents.remove(resident)
        self.bell.ring()

    @contextlib.contextmanager
    def _mirrored(self, swap: Swap, resident: Resident) -> Iterator[None]:
        """While a swap waits for a resident, its slot tells how that gets on."""
        slot = swap.slot

        async def follow() -> None:
            while True:
                slot.phase, slot.error = resident.phase, resident.last_error
                slot.timings = dict(resident.timings) if swap.loads else {}
                await self.bell.heard()

        following = self._tasks.create_task(follow())
        try:
            yield
        finally:
            following.cancel()

    def _agree(self, resident: Resident) -> None:
        """Raises Refused when a neighbour would not understand this model."""
        wrong = disagreements(self.service.name, resident.interface, self._neighbours())
        if wrong:
            raise Refused(f"model {resident.model!r}: {'; '.join(wrong)}")

    def _switch(self, slot: Slot, resident: Resident, wanted: Wanted) -> None:
        """Have new streams served by this resident: one assignment. Those that run finish where they are."""
        former = slot.serving
        slot.serving = Serving(resident, wanted.generation, wanted.wish)
        resident.slots.add(slot.name)
        resident.wanted, resident.used_at, resident.drain_until = True, time.monotonic(), math.inf
        if former and former.resident is not resident:
            if former.generation not in slot.bad:
                slot.before.append(former)
            self._release(slot, former)
        slot.rss_after = self.rss_bytes
        self.sizes[resident.model] = resident.rss_bytes
        if wanted.generation == slot.wanted_generation:
            slot.phase, slot.error = Phase.ACTIVE, ""
        log.info("slot %s: generation %d serves %s", slot.name, wanted.generation, resident.model)
        self.bell.ring()

    def _release(self, slot: Slot, former: Serving) -> None:
        """A slot needs this resident no more: its streams may end in their time, and it stays warm for a while."""
        resident, now = former.resident, time.monotonic()
        resident.slots.discard(slot.name)
        if resident.slots:
            return
        drain_s, standby_s = slot.wanted.drain_s, slot.wanted.standby_s
        resident.wanted = False
        resident.drain_until = now + (self.defaults.drain_s if drain_s is None else drain_s)
        resident.keep_until = now + (self.defaults.standby_s if standby_s is None else standby_s)

    # --- room -------------------------------------------------------------------------------------------------------

    @property
    def rss_bytes(self) -> int:
        """Resident memory of all engine processes."""
        return sum(resident.rss_bytes for resident in self.residents)

    def serving_pids(self) -> list[int]:
        """Engine processes that serve, or could at once: what is being loaded is not among them."""
        up = (Phase.STANDBY, Phase.ACTIVE, Phase.DRAINING)
        return [resident.pid for resident in self.residents if resident.pid and resident.phase in up]

    async def _make_room(self, newcomer: Resident, swap: Swap | None) -> None:
        """Let go of idle models until one more fits; wait for those whose streams are about to end. Raises Refused."""
        while self._too_full(newcomer):
            if victim := self._least_recent():
                await self._retire(victim)
            elif draining := [r for r in self.residents if not r.slots and r.leases]:
                if swap:
                    swap.slot.error = f"waits for the streams of {', '.join(r.model for r in draining)} to end"
                    self.bell.ring()
                await self.bell.heard()
            elif leaving := [task for task in self._looking_after.values() if task.cancelling()]:
                await asyncio.wait(leaving)
            else:
                raise Refused(self._too_full(newcomer))

    def _too_full(self, newcomer: Resident) -> str:
        """Why one more does not fit; empty if it does."""
        budget, others = self.desired.budget, [r for r in self.residents if r is not newcomer]
        held = ", ".join(f"{r.model} ({r.phase.name.lower()})" for r in others)
        if len(others) + 1 > budget.models:
            return f"model {newcomer.model!r} does not fit the budget of {budget.models} models beside {held}"
        if budget.memory_mb is not None:
            size = newcomer.rss_bytes or self.sizes.get(newcomer.model, 0)
            needed = (size + sum(r.rss_bytes for r in others)) // memory.MIB
            if needed > budget.memory_mb:
                beside = f" beside {held}" if held else ""
                about = f"model {newcomer.model!r} needs {size // memory.MIB} MiB{beside}: {needed} MiB in all"
                return f"{about}, more than the budget's memory_mb of {budget.memory_mb}"
        return ""

    async def _fit(self, resident: Resident) -> None:
        """Hold a model that has just come up to the memory budget, by what was measured. Raises Refused."""
        self.sizes[resident.model] = resident.rss_bytes or self.sizes.get(resident.model, 0)
        while self._too_full(resident) and (victim := self._least_recent(resident)):
            await self._retire(victim)
        if not resident.slots and (why := self._too_full(resident)):
            raise Refused(why)

    def _least_recent(self, newcomer: Resident | None = None) -> Resident | None:
        """The idle model that was used longest ago; what is kept warm for later goes last."""
        targets = {swap.resident for swap in self._swaps.values()}
        idle = [
            r
            for r in self.residents
            if r is not newcomer and r not in targets and not r.slots and not r.leases and not self._is_leaving(r)
        ]
        return min(idle, key=lambda r: (r.preloaded, r.used_at), default=None)

    def _is_leaving(self, resident: Resident) -> bool:
        task = self._looking_after.get(resident)
        return task is None or task.done() or bool(task.cancelling())

    async def _retire(self, resident: Resident) -> None:
        """Let go of a model; its memory is back when this returns."""
        if task := self._looking_after.get(resident):
            task.cancel()
            await asyncio.wait([task])

    # --- letting go -------------------------------------------------------------------------------------------------

    async def _keep_tidy(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TIDY_INTERVAL_S):
                    await self.bell.heard()
            self._tidy()

    def _tidy(self) -> None:
        """End streams whose time is over, let go of what nobody needs, and warm up what is to be warm."""
        now = time.monotonic()
        for resident in list(self.residents):
            if not resident.slots and now >= resident.drain_until:
                for lease in list(resident.leases):
                    lease.end()
            if not self._is_needed(resident, now) and not self._is_leaving(resident):
                self._looking_after[resident].cancel()
        self._preload()

    def _is_needed(self, resident: Resident, now: float) -> bool:
        targeted = any(swap.resident is resident for swap in self._swaps.values())
        if resident.slots or resident.leases or targeted:
            return True
        return self._is_preload(resident) or (resident.channel is not None and now < resident.keep_until)

    def _is_preload(self, resident: Resident) -> bool:
        resident.preloaded = resident.model in self._warm_models()
        return resident.preloaded

    def _warm_models(self) -> set[str]:
        """Models to keep warm: those marked so, and, where a memory budget says what room there is, those used lately."""
        desired = self.desired
        marked = {name for name, spec in desired.models.items() if spec.preload}
        used = set(self.usage.lately()) if desired.budget.memory_mb is not None else set()
        return ((marked | used) & set(desired.models)) - set(desired.vetoes)

    def _preload(self) -> None:
        """Start the first model that is to be warm, is not, and fits without letting go of another."""
        if self._swaps or any(r.channel is None for r in self.residents):
            return
        for name, spec in self.desired.models.items():
            resident = Resident(self.service, name, spec, self.bell, wanted=False, preloaded=True)
            cold = name in self._warm_models() and self._known(name, spec) is None
            if cold and not self._too_full(resident):
                log.info("%s: warming up before it is asked for", name)
                self._take_in(resident)
                return

    def _evict_asked(self) -> None:
        """Let go of idle models that somebody asked to go."""
        for name, revision in self.desired.evictions.items():
            if self._evicted.get(name, 0) < revision:
                self._evicted[name] = revision
                for resident in self.residents:
                    if resident.model == name and not resident.slots:
                        resident.keep_until = resident.drain_until = 0.0

    # --- models that misbehave --------------------------------------------------------------------------------------

    def _died(self, resident: Resident) -> None:
        """An engine process died. Once may be chance; twice in a minute, and its slots go back to what was good."""
        since = time.monotonic() - CRASH_WINDOW_S
        if sum(at > since for at in resident.deaths) < CRASHES:
            return
        for name in list(resident.slots):
            slot = self.slots[name]
            if slot.serving and slot.serving.resident is resident and slot.before:
                self._revert(slot, slot.serving, f"{CRASH_LOOP}: {resident.last_error}")

    def _revert(self, slot: Slot, bad: Serving, reason: str) -> None:
        """Go back to what served before, now; and tell whoever can make that the desired state."""
        good = slot.before.pop()
        slot.bad.add(bad.generation)
        log.error("slot %s: generation %d: %s; back to %s", slot.name, bad.generation, reason, good.wish.model)
        self._meter.swapped("reverted")
        slot.phase, slot.error = Phase.FAILED, reason
        back = Wanted(good.generation, good.wish)
        if good.resident.channel:
            self._switch(slot, good.resident, back)
            bad.resident.keep_until = 0.0
        else:
            swap = self._swaps[slot.name] = Swap(slot, back)
            swap.task = self._tasks.create_task(self._swap(swap))
        self.on_revert(Reverted(slot.name, Wanted(bad.generation, bad.wish), good.wish, reason))

    def _fallback(self, slot: Slot) -> str:
        """The model that served a slot before this host was started, if it is another than is wanted."""
        model = self.last_good.get(slot.name, "")
        return model if model != slot.wanted.model and model in self.desired.models else ""

    async def _serve_last_good(self, swap: Swap) -> None:
        """What is wanted does not come up, and there is nothing else: serve what was good when this host last ran."""
        slot, why = swap.slot, swap.slot.error
        model = self._fallback(slot)
        if not model:
            return
        log.warning("slot %s: %s; serving %s, as before", slot.name, why, model)
        with contextlib.suppress(DomainError):
            resident = await self._ready(swap, model)
            self._switch(slot, resident, Wanted(0, SlotWish(model=model)))
        slot.phase, slot.error = Phase.FAILED, why
        self.bell.ring()
