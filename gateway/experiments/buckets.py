"""Which bucket a unit falls into: the same everywhere, for ever, for everybody who follows the recipe of a version.

Version "tm1": the first eight bytes of SHA-256 over the UTF-8 of "tm1", the salt, the kind of the unit and the unit's id in
Unicode's form NFC, with the byte 0x1F between each, read as an unsigned big-endian integer h; the bucket is
h · 1,000,000 >> 64. Integers only: no floating point that could differ, and every bucket is as likely as the next to 1 in
10^13. `tests/data/buckets.csv` has golden vectors.
"""

import hashlib
import unicodedata
from typing import Literal

BUCKETS = 1_000_000
VERSIONS = ("tm1",)
Version = Literal["tm1"]
SEPARATOR = b"\x1f"


def bucket(version: Version, salt: str, kind: str, unit: str) -> int:
    """0 to BUCKETS - 1. Raises ValueError for a version that is not known."""
    if version not in VERSIONS:
        raise ValueError(f"hash version {version!r} is not one of {', '.join(VERSIONS)}")
    unit = unit if unit.isascii() else unicodedata.normalize("NFC", unit)
    hashed = hashlib.sha256(SEPARATOR.join((version.encode(), salt.encode(), kind.encode(), unit.encode())))
    return int.from_bytes(hashed.digest()[:8]) * BUCKETS >> 64
