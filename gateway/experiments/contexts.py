"""OpenFeature's evaluation contexts as units and attributes. No I/O."""

from collections.abc import Mapping
from typing import Any

from gateway.experiments.registry import MOST_ATTRIBUTE_CHARS, MOST_TAGS
from gateway.experiments.rules import ATTRIBUTES, Kind, Known

DEVICE_ID = "device_id"


def of_context(targeting_key: str, context: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Known]]:
    """Units and attributes. The targeting key is the user's id; what is no attribute of ours, or not of its kind, stays out.

    Other flags' contexts come along in everybody's requests, so that nothing in them is an error.
    """
    key, device = targeting_key[:MOST_ATTRIBUTE_CHARS], context.get(DEVICE_ID)
    units = {"user": key} if key else {}
    if isinstance(device, str) and 0 < len(device) <= MOST_ATTRIBUTE_CHARS:
        units["device"] = device
    found: dict[str, Known] = {"user": key} if key else {}
    for name, kind in ATTRIBUTES.items():
        if name != "user" and (value := known(kind, context.get(name))) is not None:
            found[name] = value
    return units, {"tags": frozenset[str]()} | found


def known(kind: Kind, value: Any) -> Known | None:
    """A value of that kind; None for what is none."""
    if kind is Kind.NUMBER:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if kind is Kind.SET:
        if not isinstance(value, list | tuple) or len(value) > MOST_TAGS:
            return None
        return frozenset(each for each in value if isinstance(each, str))
    return value if isinstance(value, str) and len(value) <= MOST_ATTRIBUTE_CHARS else None
