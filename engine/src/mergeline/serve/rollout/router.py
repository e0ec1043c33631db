"""Sends a key to the stable model or to the candidate: one key, one salt, one bucket, on every machine.

The bucket is the first 64 bits of BLAKE2b (RFC 7693) over `salt NUL key`, read as a little-endian whole number, modulo
10,000. The salt is the candidate's digest, so that two rollouts in a row don't try their luck on the same users. A
candidate of weight w takes the buckets below 100 w: a key that it has keeps it while the weight grows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

BUCKETS = 10_000
BUCKETS_A_PERCENT = BUCKETS // 100

Key = str | int | float | bool | None
Router = Callable[[Key], int]


def make_router(salt: str) -> Router:
    """The function from a key to its bucket, 0 to 9,999, under this salt."""
    salted = hashlib.blake2b(salt.encode() + b"\0", digest_size=8)
    copy, number = salted.copy, int.from_bytes

    def bucket(key: Key) -> int:
        hashed = copy()
        hashed.update(key.encode("utf-8", "surrogatepass") if type(key) is str else key_text(key).encode())
        return number(hashed.digest(), "little") % BUCKETS

    return bucket


def key_text(key: Key) -> str:
    """A key as the text that is hashed: JSON's 5.0 and 5 are one key, and so are true and "true"."""
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, float) and key.is_integer():
        return str(int(key))
    return "" if key is None else str(key)


def is_chosen(bucket: int, percent: int) -> bool:
    """Whether the bucket belongs to the first `percent` of all buckets."""
    return bucket < percent * BUCKETS_A_PERCENT
