"""The arithmetic of the metrics: pure functions of aligned series, empty where an input is.

A quotient whose denominator is zero is infinite or not a number, as in the released code; `Scores` turns both
into an empty value.
"""

import pandas as pd
from scipy.special import bdtrc, rel_entr


def exceeds(p: pd.Series, other: pd.Series) -> pd.Series:
    """1.0 where `p` is strictly the larger one, else 0.0: a tie is no success."""
    return (p > other).astype(float).where(p.notna() & other.notna())


def ties(p: pd.Series, other: pd.Series) -> pd.Series:
    """1.0 where both are exactly equal, else 0.0."""
    return (p == other).astype(float).where(p.notna() & other.notna())


def relative_drop(before: pd.Series, after: pd.Series) -> pd.Series:
    """Share of `before` that is lost: Li et al. (2024), Eq. 8. At most 1, unbounded below."""
    return (before - after) / before


def log_drop(before: pd.Series, after: pd.Series) -> pd.Series:
    """ln p before minus ln p after, given both: a drop on a scale where halving and doubling weigh the same.

    Logarithms stay finite where the probability itself is too small for a number.
    """
    return before - after


def shares(p: pd.Series, key: pd.Index) -> pd.Series:
    """`p` divided by its sum over the rows of equal `key`."""
    return p / p.groupby(key).transform("sum")


def divergence_terms(share: pd.Series, other: pd.Series) -> pd.Series:
    """Terms, one per object, of the Jensen-Shannon divergence of two distributions, in nats; all >= 0.

    Li et al. (2024), Eq. 11, is the sum over a case's objects. Their code divides it by the number of
    objects, because the `batchmean` of PyTorch's KLDivLoss takes a vector for a batch.
    """
    middle = (share + other) / 2
    return (rel_entr(share, middle) + rel_entr(other, middle)) / 2


def majority(rate: pd.Series) -> pd.Series:
    """1.0 where more than half is lost, else 0.0; exactly half is not a failure."""
    return (rate > 0.5).astype(float).where(rate.notna())


def majority_by_chance(n: pd.Series) -> pd.Series:
    """Probability that more than half of `n` objects lose probability when each does with chance 0.5."""
    return pd.Series(bdtrc(n // 2, n, 0.5), index=n.index).where(n > 0)
