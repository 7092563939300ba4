"""Cases by cluster: sums, draws of whole clusters, and flips of their signs, for many columns at once.

A column is a metric of a method over some cases. Each is reduced to its sum and its number of values in every
cluster; a resample is then a row of weights, and resamples of all columns are one matrix product.
"""

from collections.abc import Iterator

import numpy as np

CHUNK = 256
"""Resamples drawn at a time, which bounds memory."""


def cluster_codes(clusters: np.ndarray) -> np.ndarray:
    """Each case's cluster as a number from 0, in the order of the clusters' names, whatever that of cases."""
    return np.unique(np.asarray(clusters), return_inverse=True)[1]


def cluster_sums(values: np.ndarray, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each column of `values` (cases, columns) by cluster, empty ones left
    out.

    Both are (clusters, columns).
    """
    filled = ~np.isnan(values)
    if not len(code):
        return np.zeros((0, values.shape[1])), np.zeros((0, values.shape[1]))
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    sums = np.add.reduceat(np.where(filled, values, 0.0)[order], starts, axis=0)
    return sums, np.add.reduceat(filled[order].astype(float), starts, axis=0)


def resampled_means(
    sums: np.ndarray, counts: np.ndarray, rng: np.random.Generator, resamples: int
) -> np.ndarray:
    """Mean of each column in each resample of as many clusters as there are, (resamples, columns).

    A resample with no value of a column says nothing about its mean and repeats the observed one.
    """
    with np.errstate(invalid="ignore"):
        observed = sums.sum(0) / counts.sum(0)
    pattern, column = _patterns(counts)
    means = []
    for weights in resampled_weights(len(sums), rng, resamples):
        cases = (weights @ pattern)[:, column]
        with np.errstate(divide="ignore", invalid="ignore"):
            means.append(np.where(cases > 0, weights @ sums / cases, observed))
    return np.concatenate(means)


def resampled_weights(clusters: int, rng: np.random.Generator, resamples: int) -> Iterator[np.ndarray]:
    """Yield how often each cluster is drawn in some resamples of as many as there are, (resamples, clusters)
    in all.
    """
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        drawn = rng.integers(0, clusters, (size, clusters)) + clusters * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters).astype(float)


def _patterns(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct columns of `counts`, and the index among them of each: many metrics share theirs."""
    places: dict[bytes, int] = {}
    columns = np.ascontiguousarray(counts.T)
    which = np.array([places.setdefault(column.tobytes(), len(places)) for column in columns], dtype=int)
    first = np.array([np.argmax(which == place) for place in range(len(places))], dtype=int)
    return counts[:, first], which


def sign_flips(
    sums: np.ndarray, rng: np.random.Generator, permutations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two-sided p of each column's total when the sign of every cluster's sum is a coin toss, and whether it
    is exact.

    `sums` (clusters, columns) holds differences between two methods: if it does not matter which is which,
    exchanging both in all cases of a cluster is as likely as not. With at most `permutations` different
    outcomes all are counted; otherwise that many are drawn and the observed one is added (Phipson and Smyth,
    2010), so that p is never 0. With clusters of one case and differences of -1, 0 and 1 the exact test is
    McNemar's.
    """
    moved = sums != 0
    size = np.abs(sums).sum(0)
    least = np.abs(sums.sum(0)) - 1e-12 * size
    exact = moved.sum(0) <= np.floor(np.log2(permutations))
    p = np.ones(sums.shape[1])
    for column in np.flatnonzero(exact & (size > 0)):
        p[column] = _exact(sums[moved[:, column], column], least[column])
    drawn = np.flatnonzero(~exact)
    if len(drawn):
        beyond = np.zeros(len(drawn))
        for start in range(0, permutations, CHUNK):
            signs = drawn_signs(min(CHUNK, permutations - start), len(sums), rng)
            beyond += (np.abs(signs @ sums[:, drawn]) >= least[drawn]).sum(0)
        p[drawn] = (beyond + 1) / (permutations + 1)
    return p, exact


def drawn_signs(draws: int, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Return a sign for every cluster, 1 or -1 by the toss of a coin, (draws, clusters)."""
    return 2.0 * rng.integers(0, 2, (draws, clusters), dtype=np.int8) - 1.0


def _exact(sums: np.ndarray, least: float) -> float:
    """Share of all flips of `sums` whose total is at least as far from 0; half of them mirror the others."""
    totals = sums[:1]
    for value in sums[1:]:
        totals = np.concatenate([totals + value, totals - value])
    return float((np.abs(totals) >= least).mean())
