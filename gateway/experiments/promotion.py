"""Has everybody get what the winner of an experiment got: its models and the experiment's end in one transaction."""

from gateway import checks
from gateway.control import Control, Prepared, SlotChange, pause
from gateway.experiments.control import FlagControl
from gateway.experiments.verdicts import Verdict
from services.runtime.desired import STABLE, Note
from services.runtime.errors import NotFound, Outrun, Refused
from services.runtime.etcd import Compare

ATTEMPTS = 5


class Promotion:
    """`registry` is what this gateway makes of the flags."""

    def __init__(self, control: Control, flags: FlagControl) -> None:
        self._control = control
        self._flags = flags
        self._registry = flags.registry

    async def promote(self, flag: str, variant: str, *, actor: str = "", reason: str = "") -> list[SlotChange]:
        """Make a variant what everybody gets, and switch the flag off. Returns what became of the slots.

        Raises NotFound for a flag or variant that there is not, Refused for one that is not served now or whose models no
        slot may take, and Outrun when somebody keeps changing the same things.
        """
        self._control.require_etcd()
        name, variant = checks.checked_name("flag", flag), checks.checked_name("variant", variant)
        known = self._registry.flag(name)
        if known is None:
            raise NotFound("flag", name, self._registry.names)
        if variant not in known.variants:
            raise NotFound(f"variant of {name}", variant, list(known.variants))
        if lacks := self._registry.lacks(name):
            raise Refused(f"flag {name!r} is not served now: {lacks}")
        note = checks.checked_note(actor, reason)
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._promoted(name, variant, note)
            except Outrun:
                await pause()
        return await self._promoted(name, variant, note)

    async def _promoted(self, flag: str, variant: str, note: Note) -> list[SlotChange]:
        revision = self._registry.revision(flag)
        changes: list[Prepared] = []
        fence: list[Compare] = []
        for service, slot in self._registry.variant_slots(flag, variant).items():
            if slot != STABLE and (found := await self._control.prepared_copy(service, slot, STABLE, note)):
                changes.append(found[0])
                fence += [found[1], *found[0].unchanged]
        models = {each.change.service: each.change.entry.wish.model for each in changes}
        verdict = Verdict(
            flag=flag,
            action="promote",
            state="off",
            variant=variant,
            reason=note.reason or f"{variant} is what everybody gets now",
            models=models,
            gateway=note.actor,
        )
        puts = [put for each in changes for put in each.puts]
        if not await self._flags.decided(verdict, actor=note.actor, revision=revision, fence=fence, also=puts):
            raise Refused(f"flag {flag!r} is off already, and nothing is left to change")
        return [each.change for each in changes]
