"""Random generators that depend on a seed and a name, so that no stage's draws shift another's."""

import hashlib

import numpy as np


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed from `seed` and `names`, equal on every machine."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object) -> np.random.Generator:
    """A generator of its own for the draw called `names`."""
    return np.random.default_rng(derive(seed, *names))
