"""p values of many tests that flip signs, which allow for their number by the flips themselves.

Tests of one study go together: metrics have much in common, and every method is compared with all others. A
correction that only counts them, such as Holm's, cannot fall below the number of tests over that of drawn
flips, and with many methods leaves nothing to be found. Westfall and Young's (1993) free step-down resampling
compares each test with the largest statistic that the same flips give in the family (their Algorithm 2.8):
with any true nulls, one is rejected in at most a share alpha of studies.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aftershock.metrics.resampling import CHUNK, drawn_signs

TOLERANCE = 1e-9
"""Relative difference of statistics that is rounding."""


class Flipped(NamedTuple):
    """Tests whose clusters' signs are flipped together: `sums` (clusters, tests), and the draws of flips."""

    sums: np.ndarray
    rng: np.random.Generator


def step_down(parts: Sequence[Flipped], permutations: int) -> np.ndarray:
    """Return the adjusted p of each test of a family, part by part; 1 where no cluster differs.

    The statistic of a test is the total of its clusters' sums by the root of the sum of their squares, which
    no flip changes. Each part draws flips of its own. The observed signs are added to the `permutations`
    drawn (Phipson and Smyth, 2010).
    """
    scaled = [_scaled(part.sums) for part in parts]
    observed = np.concatenate([np.abs(sums.sum(0)) for sums in scaled])
    order = np.argsort(observed, kind="stable")
    least = observed[order] * (1 - TOLERANCE)
    reached = np.zeros(len(order))
    for start in range(0, permutations, CHUNK):
        size = min(CHUNK, permutations - start)
        flipped = [
            np.abs(drawn_signs(size, len(sums), part.rng) @ sums)
            for sums, part in zip(scaled, parts, strict=True)
        ]
        # The largest of a test's own statistic and of those of tests that were observed to be weaker.
        largest = np.maximum.accumulate(np.concatenate(flipped, axis=1)[:, order], axis=1)
        reached += (largest >= least).sum(0)
    p = np.where(least > 0, (reached + 1) / (permutations + 1), 1.0)
    stepped = np.maximum.accumulate(p[::-1])[::-1]
    result = np.empty_like(stepped)
    result[order] = stepped
    return result


def _scaled(sums: np.ndarray) -> np.ndarray:
    """Return columns of length one, and of zeros where all are 0."""
    length = np.sqrt((sums**2).sum(0))
    return np.divide(sums, length, out=np.zeros_like(sums, dtype=float), where=length > 0)
