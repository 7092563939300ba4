"""Sampling by a seeded hash of IRIs, which every engine and every machine computes alike."""

import hashlib
import math

DIGITS = 8


def iri_hash(seed: int, *iris: str) -> str:
    """The hash by which entities, or instances of several entities, are ordered; the same as in a query."""
    return hashlib.md5((str(seed) + "".join(iris)).encode(), usedforsecurity=False).hexdigest()


def hash_limit(wanted: int, total: int) -> str | None:
    """Hexadecimal digits below which at least `wanted` of `total` hashes start, almost surely; None for all.

    Ten standard deviations above the wanted number, so that the `wanted` smallest hashes are among them.
    """
    share = (wanted + 10 * math.sqrt(wanted) + 10) / max(total, 1)
    return None if share >= 1 else f"{int(share * 16**DIGITS):0{DIGITS}x}"
