"""Intervals of differences between two means that are known by their own intervals only."""

import numpy as np

from aftershock.metrics.intervals import LEVEL, wilson


def newcombe(
    rate: float, n: float, other: float, n_other: float, level: float = LEVEL
) -> tuple[float, float]:
    """Interval of `rate` minus `other`, two rates of independent cases: Newcombe (1998), method 10."""
    low, high = wilson(rate, n, level)
    other_low, other_high = wilson(other, n_other, level)
    return between(rate, low, high, other, other_low, other_high)


def between(
    value: float, low: float, high: float, other: float, other_low: float, other_high: float
) -> tuple[float, float]:
    """Interval of `value` minus `other` from the intervals of both, which are independent.

    The square-and-add method of Zou and Donner (2008), which keeps lopsided intervals lopsided; too wide for
    two values of the same cases.
    """
    difference = value - other
    below = np.hypot(value - low, other_high - other)
    above = np.hypot(high - value, other - other_low)
    return float(difference - below), float(difference + above)
