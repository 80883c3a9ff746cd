"""Who is to be compared: the arms of an experiment as they are now, and what a person is called in the store."""

import hashlib
import hmac
import json
from collections.abc import Mapping

from gateway.experiments.flags import Flag


def fingerprint(flag: Flag) -> str:
    """Of all that settles who gets what in which arm: a ramp changes nothing of it."""
    said = [
        {name: each.model_dump(mode="json") for name, each in sorted(flag.variants.items())},
        {name: [list(each) for each in ranges] for name, ranges in sorted(flag.shares.items())},
        flag.control,
        flag.salt,
        flag.hash_version,
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def shares_of(flag: Flag) -> Mapping[str, float]:
    """Arm → its share of all that are in an arm."""
    widths = {arm: sum(end - start for start, end in ranges) for arm, ranges in flag.shares.items()}
    return {arm: width / sum(widths.values()) for arm, width in widths.items() if width}


def hashed(unit: str, key: bytes = b"") -> str:
    """SHA-256 of an id; with a key, HMAC-SHA-256, which cannot be found by trying ids."""
    encoded = unit.encode(errors="surrogatepass")
    return (hmac.new(key, encoded, "sha256") if key else hashlib.sha256(encoded)).hexdigest()
