"""Who is to be compared: the arms of an experiment as they are now, and what a person is called in the store."""

import hashlib
import hmac
from collections.abc import Mapping

from gateway.experiments.flags import Flag
from gateway.experiments.registry import Registry


def fingerprint(experiments: Registry, name: str) -> str:
    """Of all that settles who gets what in which arm of a flag: a ramp changes nothing of it, another model does."""
    return hashlib.sha256(experiments.arms(name).encode()).hexdigest()[:16]


def shares_of(flag: Flag) -> Mapping[str, float]:
    """Arm → its share of all that are in an arm."""
    widths = {arm: sum(end - start for start, end in ranges) for arm, ranges in flag.shares.items()}
    return {arm: width / sum(widths.values()) for arm, width in widths.items() if width}


def hashed(unit: str, key: bytes = b"") -> str:
    """SHA-256 of an id; with a key, HMAC-SHA-256, which cannot be found by trying ids."""
    encoded = unit.encode(errors="surrogatepass")
    return (hmac.new(key, encoded, "sha256") if key else hashlib.sha256(encoded)).hexdigest()
