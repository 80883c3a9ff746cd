"""Takes back at once, without statistics, what its hosts cannot serve any more: a crash loop, memory over the limit, a slot
whose model is gone. Every gateway looks for itself."""

import asyncio
import time
from collections.abc import Callable, Iterable

from gateway.experiments.guard import Guard
from gateway.experiments.registry import Registry
from gateway.experiments.verdicts import Verdict
from services.runtime.desired import CRASH_LOOP, STABLE, SlotWish, parsed, slot_key
from services.runtime.errors import DomainError, InvalidInput
from services.runtime.etcd import Etcd

LOOK_S = 0.25
PATIENCE_S = 3.0
"""An engine that is started again is not gone yet."""
Trouble = Callable[[str, str], str]
"""Why the hosts of a service do not serve a slot as they should: in their words; empty if they do."""


class Trips:
    """What is wrong with the slots of each experiment, and since when."""

    def __init__(self, etcd: Etcd | None, registry: Registry, guard: Guard, trouble: Trouble, gateway: str) -> None:
        self._etcd = etcd
        self._registry = registry
        self._guard = guard
        self._trouble = trouble
        self._gateway = gateway
        self._well: dict[str, str] = {}
        """Flag → signature with which it was seen to be served."""
        self._since: dict[tuple[str, str], float] = {}
        """Flag and variant → when it was first seen in trouble, on the monotonic clock."""

    async def work(self) -> None:
        """Look at all experiments whenever something is different, and at those in trouble always, until cancelled."""
        before: tuple[object, ...] = ()
        while True:
            now = self._standing()
            for name in list(self._registry.names) if now != before else {name for name, _ in self._since}:
                await self.look(name, time.monotonic())
            before = now
            await asyncio.sleep(LOOK_S)

    def _standing(self) -> tuple[object, ...]:
        troubles = [(*each, self._trouble(*each)) for each in sorted(self._registry.places())]
        return *self._registry.standing(), *troubles

    async def look(self, name: str, now: float) -> None:
        """Take an experiment back if one of its variants was served and is not any more, though what everybody gets is."""
        flag = self._registry.flag(name)
        if flag is None or not self._registry.gives(name):
            self._forget(name)
            return
        before, signature = self._well.get(name), self._registry.signature(name)
        for variant in flag.variants:
            if reason := await self._wrong(name, variant, now, before, signature):
                self._forget(name)
                self._take_back(name, variant, reason)
                return
        if not self._registry.lacks(name):
            self._well[name] = signature

    def _forget(self, name: str) -> None:
        self._well.pop(name, None)
        self._since = {each: since for each, since in self._since.items() if each[0] != name}

    async def _wrong(self, name: str, variant: str, now: float, before: str | None, signature: str) -> str:
        """Why a variant is to be taken back; empty for no reason."""
        if before is None or variant == getattr(self._registry.flag(name), "control", ""):
            return ""
        slots = self._registry.variant_slots(name, variant)
        troubles = {f"{service}/{slot}": self._only_here(service, slot) for service, slot in slots.items()}
        found = "; ".join(f"{place}: {text}" for place, text in troubles.items() if text)
        if not found:
            self._since.pop((name, variant), None)
            return await self._gone_back(slots.items()) if before != signature else ""
        since = self._since.setdefault((name, variant), now)
        is_over = any(text.startswith(CRASH_LOOP) for text in troubles.values()) or now - since > PATIENCE_S
        return found if is_over else ""

    def _only_here(self, service: str, slot: str) -> str:
        """What is wrong with a slot, unless the service as a whole is in trouble: then no variant is to blame."""
        return "" if slot == STABLE or self._trouble(service, STABLE) else self._trouble(service, slot)

    async def _gone_back(self, slots: Iterable[tuple[str, str]]) -> str:
        """Whether a host has taken a slot's model back by itself, and nobody would compare what was to be compared."""
        for service, slot in slots if self._etcd else ():
            try:
                found = await self._etcd.get(slot_key(service, slot)) if self._etcd else None
                wish = parsed(SlotWish, found.value) if found else SlotWish()
            except (DomainError, InvalidInput):
                continue
            if wish.cause == CRASH_LOOP:
                return f"{service}/{slot}: {wish.reason}; its hosts went back to {wish.model}"
        return ""

    def _take_back(self, name: str, variant: str, reason: str) -> None:
        models = self._registry.models(name, variant)
        self._guard.act(
            Verdict(
                flag=name,
                action="trip",
                state="off",
                variant=variant,
                reason=f"variant {variant} is not served any more: {reason}",
                models=models,
                gateway=self._gateway,
            )
        )
