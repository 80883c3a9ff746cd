"""Takes back by itself what fails: looks at every turn as it ends, by variant.

Each gateway judges by the turns that it has served. What one decides is written by whoever is first, and the others find
it done; nobody has to lead. With g gateways the chance of acting on nothing is at most g times that of one.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.experiments.buckets import BUCKETS
from gateway.experiments.control import FlagControl
from gateway.experiments.flags import Flag, Guardrail
from gateway.experiments.registry import Assigned, Registry
from gateway.experiments.statistics import FailureTest
from gateway.sessions import Session
from services.runtime.errors import DomainError, Outrun

ACTOR = "guardrail"
AGAIN_S = 1.0
STATES = {"hold": "held", "roll back": "off", "veto": "off"}
"""Action → what the flag is then."""
log = logging.getLogger(__name__)
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


@dataclass
class Arm:
    """Sessions that were given a variant."""

    sessions: int = 0
    failed: int = 0
    """Of them, with a turn that failed. Turns of one session fail together, so only the first counts."""

    def __str__(self) -> str:
        return f"{self.failed} of {self.sessions} sessions"


@dataclass
class Trial:
    """What was seen of one experiment since its arms are what they are."""

    signature: str
    arms: dict[str, Arm] = field(default_factory=dict)
    tests: dict[str, FailureTest] = field(default_factory=dict)
    """Of each variant against the control."""


class Guard:
    """`ended` is told of every turn. `control` writes what is decided; without it (no etcd) this gateway acts for itself."""

    def __init__(self, registry: Registry, control: FlagControl | None, spawn: Spawn) -> None:
        self._registry = registry
        self._control = control
        self._spawn = spawn
        self._trials: dict[str, Trial] = {}
        self._acted: set[tuple[str, str, str]] = set()
        """Flag, signature and state that was decided on."""

    def trial(self, flag: str) -> Trial | None:
        """What was seen of an experiment."""
        return self._trials.get(flag)

    def ended(self, session: Session, failed: bool, times: Mapping[str, float] | None = None) -> None:
        """A turn of a session is over. One that failed is the last that the session has of its variant.

        `times`: "first_audio_ms", "first_video_ms" → ms, of those that the turn came to.
        """
        assigned = session.assigned or Assigned()
        for decision in assigned.decisions:
            flag = self._registry.flag(decision.flag)
            if flag is None or decision.variant not in flag.variants or decision.flag in assigned.left:
                continue
            if failed:
                assigned.left.add(decision.flag)
            self._count(session, decision.flag, flag, decision.variant, failed)

    def _count(self, session: Session, name: str, flag: Flag, variant: str, failed: bool) -> None:
        trial = self._trial(name, flag)
        arm = trial.arms.setdefault(variant, Arm())
        if name not in session.counted:
            session.counted.add(name)
            arm.sessions += 1
        if not failed:
            return
        arm.failed += 1
        for other in flag.variants if variant == flag.control else (variant,):
            if other != flag.control and 0 < (share := share_of(flag, other)) < 1:
                trial.tests.setdefault(other, FailureTest()).failed(variant == other, share)
        self._judge(name, flag, trial)

    def _trial(self, name: str, flag: Flag) -> Trial:
        """The one in progress; a new one when the arms have changed."""
        arms = {"variants": flag.variants, "control": flag.control, "shares": flag.shares, "salt": flag.salt}
        signature = repr(arms)
        trial = self._trials.get(name)
        if trial is None or trial.signature != signature:
            trial = self._trials[name] = Trial(signature)
        return trial

    def _judge(self, name: str, flag: Flag, trial: Trial) -> None:
        for rail in flag.guardrails:
            if rail.metric != "turn_failed":
                continue
            for variant, test in trial.tests.items():
                if test.alarms(rail.alpha):
                    self._decide(name, flag, trial, rail, variant)

    def _decide(self, name: str, flag: Flag, trial: Trial, rail: Guardrail, variant: str) -> None:
        state = STATES[rail.action]
        if (name, trial.signature, state) in self._acted or (state == "held" and flag.state != "on"):
            return
        self._acted.add((name, trial.signature, state))
        treatment, control = trial.arms.get(variant, Arm()), trial.arms.get(flag.control, Arm())
        evidence = f"log e {trial.tests[variant].log_e:.1f}, alpha {rail.alpha:g}"
        reason = f"turns failed in {treatment} with {variant}, in {control} with {flag.control} ({evidence})"
        log.warning("experiment %s: %s: %s", name, rail.action, reason)
        if state == "off":
            # At once, whether or not etcd can be told.
            self._registry.take_back(name)
        if self._control:
            self._spawn(self._write(self._control, name, state, reason))

    async def _write(self, control: FlagControl, name: str, state: str, reason: str) -> None:
        """Have everybody know, however long it takes."""
        while True:
            try:
                found = next((each for each in await control.written() if each.name == name), None)
                value = json.loads(found.text) if found else {}
                if found is None or value.get("state") in (state, "off"):
                    return
                await control.put(
                    name, json.dumps(value | {"state": state}), found.revision, actor=ACTOR, reason=reason
                )
            except Outrun:
                continue
            except (DomainError, ValueError) as error:
                log.warning("experiment %s cannot be told to be %s yet: %s", name, state, error)
                await asyncio.sleep(AGAIN_S)
            else:
                return


def share_of(flag: Flag, variant: str) -> float:
    """The chance with which one of the control's or a variant's units is the variant's."""
    width = {arm: sum(end - start for start, end in flag.shares.get(arm, ())) for arm in (variant, flag.control)}
    assert sum(width.values()) <= BUCKETS
    return width[variant] / max(1, sum(width.values()))
