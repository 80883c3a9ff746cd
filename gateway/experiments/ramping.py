"""Lets experiments grow by themselves: a step more after enough sessions for long enough, if nothing is wrong."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.experiments.buckets import BUCKETS
from gateway.experiments.control import FlagControl
from gateway.experiments.flags import Flag, Ramp
from gateway.experiments.registry import Registry
from gateway.experiments.tallies import tallied
from gateway.experiments.trial import widths
from gateway.experiments.verdicts import Verdict
from services.runtime.errors import DomainError
from services.runtime.etcd import Compare, Etcd

ACTOR = "ramp"
LOOK_S = 1.0
log = logging.getLogger(__name__)


@dataclass
class Step:
    """One step of a ramp, since this leader has seen it: on its own clock, whatever others think the time is."""

    enrolled: str
    since: float
    before: dict[str, Counter[str]]
    """Gateway → variant → sessions that it had before."""
    most: dict[str, Counter[str]] = field(default_factory=dict)
    """The same since then: those of a gateway that is gone meanwhile stay counted."""

    def exposures(self, variants: Mapping[str, int]) -> dict[str, int]:
        return {
            name: sum(
                max(0, counts[name] - self.before.get(gateway, Counter())[name])
                for gateway, counts in self.most.items()
            )
            for name in variants
        }


class Ramping:
    """What the leader does."""

    def __init__(self, etcd: Etcd, registry: Registry, control: FlagControl, gateway: str) -> None:
        self._etcd = etcd
        self._registry = registry
        self._control = control
        self._gateway = gateway
        self._steps: dict[str, Step] = {}

    async def work(self, fence: Compare) -> None:
        """Look after all ramps until cancelled."""
        self._steps.clear()
        while True:
            for name in list(self._registry.names):
                try:
                    await self.look(name, fence, time.monotonic())
                except DomainError as error:
                    log.info("experiment %s does not grow yet: %s", name, error)
            await asyncio.sleep(LOOK_S)

    async def look(self, name: str, fence: Compare, now: float) -> None:
        """Let one experiment grow, if it is time. Raises Outrun, EtcdAway and EtcdRefused."""
        flag = self._registry.flag(name)
        if flag is None or not flag.ramp or flag.state != "on" or not self._registry.gives(name):
            self._steps.pop(name, None)
            return
        if self._registry.stale or self._registry.lacks(name):
            # Nobody comes meanwhile, or nobody knows who does: that is no time of trial.
            self._steps.pop(name, None)
            return
        percent = next_percent(flag, flag.ramp)
        if percent is None:
            return
        step = await self._step(name, flag, now)
        exposures = step.exposures(widths(flag))
        if flag.enrolled and not self._is_due(flag.ramp, step, exposures, now):
            return
        await self._grow(name, flag, percent, exposures, now - step.since, fence)

    async def _step(self, name: str, flag: Flag, now: float) -> Step:
        counts, enrolled = await tallied(self._etcd, name), self._registry.signature(name) + repr(flag.enrolled)
        step = self._steps.get(name)
        if step is None or step.enrolled != enrolled:
            step = self._steps[name] = Step(enrolled, now, counts)
        for gateway, found in counts.items():
            step.most[gateway] = step.most.get(gateway, Counter()) | found
        return step

    def _is_due(self, ramp: Ramp, step: Step, exposures: Mapping[str, int], now: float) -> bool:
        enough = all(count >= ramp.least_exposures for count in exposures.values())
        return enough and now - step.since >= ramp.soak_s

    async def _grow(
        self, name: str, flag: Flag, percent: float, exposures: Mapping[str, int], soaked_s: float, fence: Compare
    ) -> None:
        now = enrolled_percent(flag)
        counts = ", ".join(f"{count} with {arm}" for arm, count in exposures.items())
        verdict = Verdict(
            flag=name,
            action="ramp",
            state="on",
            reason=f"{now:g} % → {percent:g} %: in {soaked_s:.0f} s there were sessions: {counts}; nothing was wrong",
            numbers={"percent_before": now, "percent": percent, "soaked_s": round(soaked_s, 1)},
            arms={arm: {"sessions": count} for arm, count in exposures.items()},
            gateway=self._gateway,
        )
        enrolled = [[0, round(percent * BUCKETS / 100)]]
        revision = self._registry.revision(name)
        if await self._control.decided(
            verdict, actor=ACTOR, changes={"enrolled": enrolled}, revision=revision, fence=[fence]
        ):
            log.info("experiment %s: %s", name, verdict.reason)


def enrolled_percent(flag: Flag) -> float:
    """How many of those meant take part."""
    return sum(end - start for start, end in flag.enrolled) * 100 / BUCKETS


def next_percent(flag: Flag, ramp: Ramp) -> float | None:
    """The next step; None at the end, and for a flag whose ranges a ramp would not extend."""
    if len(flag.enrolled) > 1 or any(start for start, _ in flag.enrolled):
        return None
    now = enrolled_percent(flag)
    return next((percent for percent in ramp.percent if percent > now), None)
