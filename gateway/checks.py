"""What operators may send. Fields are named as in the requests of talkmesh.admin.v1."""

import re

from pydantic import ValidationError

from gateway.access.principals import author
from services.runtime import desired
from services.runtime.desired import Cause, Note, SlotWish
from services.runtime.errors import InvalidInput, NotFound

MOST_ACTOR_CHARS, MOST_REASON_CHARS = 200, 1000
DEFAULT_HISTORY, MOST_HISTORY = 20, 1000
NAME_EXPECTED = "a letter or digit, then at most 62 letters, digits, '.', '_' or '-'"


def checked_service(service: str) -> str:
    """Raises InvalidInput for what is no name and NotFound for a service that there is not."""
    checked_name("service", service)
    if service not in desired.SERVICES:
        raise NotFound("service", service, desired.SERVICES)
    return service


def checked_slot(slot: str) -> str:
    """A slot's name; the stable one for none."""
    return checked_name("slot", slot or desired.STABLE)


def checked_name(field: str, name: str) -> str:
    """Raises InvalidInput for what cannot be part of a key."""
    if not name:
        raise InvalidInput(field, "is empty", NAME_EXPECTED)
    if not re.fullmatch(desired.NAME, name):
        raise InvalidInput(field, f"{name[:80]!r} is no name", NAME_EXPECTED)
    return name


def checked_note(actor: str, reason: str) -> Note:
    """Why something is changed, and who is named for it: see `principals.author`. Raises InvalidInput for texts too long."""
    for field, text, most in (("actor", actor, MOST_ACTOR_CHARS), ("reason", reason, MOST_REASON_CHARS)):
        if len(text) > most:
            raise InvalidInput(field, f"has {len(text)} characters", f"at most {most}")
    return Note(actor=author(actor), reason=reason)


def checked_wish(
    model: str, note: Note, cause: Cause, drain_s: float | None = None, standby_s: float | None = None
) -> SlotWish:
    """Raises InvalidInput for a time that is negative, too long or no number."""
    try:
        return SlotWish(
            model=checked_name("model", model),
            drain_s=drain_s,
            standby_s=standby_s,
            actor=note.actor,
            reason=note.reason,
            cause=cause,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(".".join(map(str, first["loc"])), first["msg"], "seconds from 0 to 86400") from error


def checked_limit(limit: int) -> int:
    """How many history entries; 0 is the default."""
    if not 0 <= limit <= MOST_HISTORY:
        raise InvalidInput("limit", f"is {limit}", f"0 to {MOST_HISTORY}")
    return limit or DEFAULT_HISTORY
