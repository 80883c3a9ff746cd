"""Takes back by itself what fails or is slow: looks at every turn as it ends, by variant.

Each gateway judges by the turns that it has served. What one decides is written by whoever is first, and the others find
it done; nobody has to lead. With g gateways the chance of acting on nothing is at most g times that of one.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from gateway.experiments.assignment import Decision, Reason
from gateway.experiments.control import FlagControl
from gateway.experiments.flags import Flag
from gateway.experiments.registry import Assigned, Registry
from gateway.experiments.trial import FAILED, Finding, Trial
from gateway.experiments.verdicts import Verdict, finite
from gateway.sessions import Session
from services.runtime.errors import DomainError, Outrun

ACTOR = "guardrail"
AGAIN_S = 1.0
STATES = {"hold": "held", "roll back": "off", "veto": "off"}
"""Action → what the flag is then."""
log = logging.getLogger(__name__)
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Guard:
    """`ended` is told of every turn. `control` writes what is decided; without it (no etcd) this gateway acts for itself."""

    def __init__(self, registry: Registry, control: FlagControl | None, spawn: Spawn, gateway: str = "") -> None:
        """`gateway`: whose name stands in verdicts."""
        self._registry = registry
        self._control = control
        self._spawn = spawn
        self._gateway = gateway
        self._trials: dict[str, Trial] = {}
        self.exposures: dict[str, Counter[str]] = {}
        """Flag → variant → sessions that had a turn with it here, ever."""

    def trial(self, flag: str) -> Trial | None:
        """What was seen of an experiment."""
        return self._trials.get(flag)

    def ended(self, session: Session, failed: bool, times: Mapping[str, float] | None = None) -> None:
        """A turn of a session is over. One that failed is the last that the session has of its variant.

        `times`: milliseconds by the name of a guardrail's metric, of those that are known.
        """
        assigned = session.assigned or Assigned()
        for decision in assigned.decisions:
            flag = self._registry.flag(decision.flag)
            if flag is None or decision.variant not in flag.variants or decision.flag in assigned.left:
                continue
            if not self._registry.gives(decision.flag):
                continue
            if failed:
                assigned.left.add(decision.flag)
            if decision.reason is Reason.SPLIT:
                # Whoever was given a variant by name is no sample of anybody.
                self._count(session, decision, flag, failed, times or {})

    def _count(
        self, session: Session, decision: Decision, flag: Flag, failed: bool, times: Mapping[str, float]
    ) -> None:
        name, variant = decision.flag, decision.variant
        trial = self._trial(name, flag)
        findings: list[Finding] = []
        if first(session, name, trial, "session"):
            self.exposures.setdefault(name, Counter())[variant] += 1
            trial.came(variant)
            findings += filter(None, [trial.mismatch()])
        if failed and first(session, name, trial, FAILED):
            trial.failed(variant)
        findings += trial.findings(FAILED, tuple(flag.guardrails), variant) if failed else ()
        findings += self._timed(session, name, trial, flag, variant, times)
        for finding in findings:
            self._decide(name, flag, trial, finding)

    def _timed(
        self, session: Session, name: str, trial: Trial, flag: Flag, variant: str, times: Mapping[str, float]
    ) -> Iterator[Finding]:
        """The first that a session tells of each metric is its value: a session counts once, however long it lasts."""
        for metric, ms in times.items():
            if first(session, name, trial, metric):
                trial.took(variant, metric, ms)
                yield from trial.findings(metric, tuple(flag.guardrails), variant)

    def _trial(self, name: str, flag: Flag) -> Trial:
        """The one in progress; a new one when the arms have changed, or what serves them, or when it was turned on again."""
        signature = self._registry.signature(name)
        trial = self._trials.get(name)
        if trial is None or trial.signature != signature:
            trial = self._trials[name] = Trial(flag, signature)
        return trial

    def _decide(self, name: str, flag: Flag, trial: Trial, finding: Finding) -> None:
        state = STATES[finding.action]
        if state in trial.acted or (state == "held" and flag.state != "on"):
            return
        trial.acted.add(state)
        verdict = Verdict(
            flag=name,
            action=finding.action,
            state=state,
            variant=finding.variant,
            metric=finding.metric,
            alpha=finding.alpha,
            reason=finding.reason,
            numbers=finite(finding.numbers),
            arms=finding.arms,
            models=self._registry.models(name, finding.variant),
            vetoed=self._registry.own_models(name, finding.variant) if finding.action == "veto" else {},
            gateway=self._gateway,
        )
        self.act(verdict)

    def act(self, verdict: Verdict) -> None:
        """Have everybody go by a verdict; this gateway does at once, whether or not etcd can be told."""
        log.warning("experiment %s: %s: %s", verdict.flag, verdict.action, verdict.reason)
        if verdict.state == "off":
            self._registry.take_back(verdict.flag)
        if self._control:
            self._spawn(self._write(self._control, verdict))

    async def _write(self, control: FlagControl, verdict: Verdict) -> None:
        """Have everybody know, however long it takes."""
        while True:
            try:
                await control.decided(verdict, actor=ACTOR)
            except Outrun:
                continue
            except (DomainError, ValueError) as error:
                log.warning("experiment %s cannot be told to be %s yet: %s", verdict.flag, verdict.state, error)
                await asyncio.sleep(AGAIN_S)
            else:
                return


def first(session: Session, flag: str, trial: Trial, what: str) -> bool:
    """Whether a session tells of this for the first time in a trial."""
    key = f"{flag}/{trial.number}/{what}"
    if key in session.counted:
        return False
    session.counted.add(key)
    return True
