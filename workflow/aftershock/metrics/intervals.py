"""Intervals of means over cases that are correlated within clusters, as they share entities.

Rates (every value 0 or 1) get Wilson's interval at the effective number of independent cases; other metrics a
BCa bootstrap over clusters. Neither is ever empty or of zero width: with fewer than `FEW` clusters Student's
t takes the bootstrap's place, and where nothing varies at all, or all cases are one cluster, what may still
be unseen takes the place of both. Values that are missing are left out and counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri, stdtrit  # scipy.stats takes a second to import

from aftershock.metrics.resampling import cluster_codes, cluster_sums, resampled_means
from aftershock.metrics.scales import SHARE, Scale
from aftershock.metrics.settings import Statistics

LEVEL = Statistics.level
RESAMPLES = Statistics.resamples
FEW = 10
"""A bootstrap over fewer clusters than this has too few different means."""

WILSON, BCA, STUDENT, RANGE = "wilson", "bca", "t", "range"
"""Kinds of intervals."""

Numbers: TypeAlias = float | np.ndarray | pd.Series


@dataclass(frozen=True)
class Estimate:
    """A mean over cases with its interval; `n_effective` independent cases would give as wide a one.

    `kish` is what that number would be if the cases of a cluster were copies of one another, `empty` counts
    the cases without a value, `interval` says how the interval was made (null without a value).
    """

    value: float
    low: float
    high: float
    n: int
    clusters: int
    n_effective: float
    kish: float
    empty: int
    interval: str | None


def wilson(rate: Numbers, n: Numbers, level: float = LEVEL) -> tuple[Any, Any]:
    """Wilson's score interval of a rate seen in `n` cases; `n` need not be whole. Numbers or arrays."""
    z = ndtri((1 + level) / 2)
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)


def kish(counts: np.ndarray) -> Any:
    """Kish's effective number of cases, if the cases of a cluster were copies of one another.

    `counts` has the cases of each cluster: (clusters,), or (clusters, columns) for one number per column.
    """
    return counts.sum(0) ** 2 / (counts**2).sum(0)


def cluster_variance(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Variance of the mean, from how far each cluster's sum is from what the mean expects; empty for one
    cluster.

    Both are (clusters,) or (clusters, columns); a cluster without values does not count.
    """
    clusters, n = (counts > 0).sum(0), counts.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        residuals = sums - counts * (sums.sum(0) / n)
        variance = clusters / (clusters - 1) * (residuals**2).sum(0) / n**2
    return np.where(clusters > 1, variance, np.nan)


def n_effective(sums: np.ndarray, counts: np.ndarray, level: float = LEVEL) -> Any:
    """Independent cases that say as much about a rate as these clusters do: at most n, at least `kish`.

    Korn and Graubard (1998) divide n by the design effect, the variance between clusters over that of
    independent cases, and widen by t quantiles, because the effect is itself estimated. With few events it
    cannot be: two more clusters of common size, one all success and one all failure, draw it to that of
    clusters whose cases are copies, so that 0 and 1 event in n cases give like intervals.
    """
    clusters, n, least = (counts > 0).sum(0), counts.sum(0), kish(counts)
    size = (counts**2).sum(0) / n
    more = np.stack([size, np.zeros_like(size)]), np.stack([size, size])
    sums, counts = np.concatenate([sums, more[0]]), np.concatenate([counts, more[1]])
    rate = sums.sum(0) / counts.sum(0)
    design_effect = cluster_variance(sums, counts) * counts.sum(0) / (rate * (1 - rate))
    quantile = (1 + level) / 2
    with np.errstate(invalid="ignore"):
        shrink = (stdtrit(n - 1, quantile) / stdtrit(clusters - 1, quantile)) ** 2
        effective = np.clip(n / design_effect * shrink, least, n)
    return np.where((clusters == n) | (clusters == 1), least, effective)


def bca(
    sums: np.ndarray, counts: np.ndarray, resampled: np.ndarray, tails: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Bias-corrected and accelerated bootstrap intervals of several means at once (Efron, 1987).

    `sums` and `counts` are (clusters, columns), `resampled` (resamples, columns) the means of resamples,
    `tails` the normal quantiles (columns,) of both ends. The acceleration is that of leaving out one cluster.
    """
    total, n = sums.sum(0), counts.sum(0)
    mean = total / n
    resampled = np.sort(resampled, axis=0)
    bias = ndtri(((resampled < mean).mean(0) + (resampled <= mean).mean(0)) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = (total - sums) / (n - counts)
        spread = left_out.mean(0) - left_out
        acceleration = (spread**3).sum(0) / (6 * (spread**2).sum(0) ** 1.5)
        shifted = [bias + tail for tail in tails]
        places = [ndtr(bias + shift / (1 - acceleration * shift)) for shift in shifted]
    return _quantiles(resampled, places[0]), _quantiles(resampled, places[1])


def _quantiles(columns: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Quantile `place[j]` of each sorted column j, linearly interpolated; empty where the place is."""
    usable = np.isfinite(place)
    position = np.where(usable, place, 0.0) * (len(columns) - 1)
    below = np.floor(position).astype(int)
    above = np.minimum(below + 1, len(columns) - 1)
    each = np.arange(columns.shape[1])
    low, high = columns[below, each], columns[above, each]
    return np.where(usable, low + (high - low) * (position - below), np.nan)


def tails(clusters: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Normal quantiles at which a bootstrap over so few clusters is as wide as Student's t (Hesterberg,
    2015).

    A resample varies about its sample's mean, not about the truth, and so too little by (clusters - 1) /
    clusters in variance.
    """
    upper = np.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, (1 + level) / 2)
    return -upper, upper


def bounded(value: Numbers, n: Numbers, low: Numbers, high: Numbers, level: float = LEVEL) -> tuple[Any, Any]:
    """Interval of a mean when all of `n` cases had the same value, from the metric's usual range.

    Wilson's upper end for 0 of n cases bounds the share of cases that are not like those seen; they may lie
    as far as the range goes. At an end of the range this is Wilson's interval itself. A value beyond the
    usual range widens it to as much beyond. Numbers or arrays.
    """
    unseen = wilson(0.0, n, level)[1]
    span = high - low
    low = np.where(value >= low, low, value - span)
    high = np.where(value <= high, high, value + span)
    return value - unseen * (value - low), value + unseen * (high - value)


def students(
    value: Numbers, variance: Numbers, clusters: Numbers, least: Numbers, most: Numbers, level: float = LEVEL
) -> tuple[Any, Any]:
    """Student's t interval of a mean over `clusters`, cut off at what the metric can be; for arrays too."""
    half = stdtrit(clusters - 1, (1 + level) / 2) * np.sqrt(variance)
    return np.maximum(least, value - half), np.minimum(most, value + half)


def estimate(
    values: pd.DataFrame,
    clusters: pd.Series,
    scales: Mapping[str, Scale],
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> dict[Any, Estimate]:
    """An Estimate per column of `values` (cases, metrics), leaving out empty values; `clusters` by case.

    `scales` says what each metric can be; a share that is 0 or 1 in every case is a rate.
    """
    settings = Statistics(resamples=resamples, level=level)
    found = estimates(
        values.to_numpy(dtype=float), clusters.to_numpy(), [scales[name] for name in values], rng, settings
    )
    empty = len(values) - found["n"]
    rows = found.assign(empty=empty).to_dict("records")
    return {name: Estimate(**row) for name, row in zip(values.columns, rows, strict=True)}


def estimates(
    values: np.ndarray,
    clusters: np.ndarray,
    scales: Sequence[Scale],
    rng: np.random.Generator,
    settings: Statistics,
) -> pd.DataFrame:
    """The fields of Estimate but `empty`, a row per column of `values` (cases, columns).

    All columns see the same resamples, which depend on the number of clusters and `rng` alone.
    """
    sums, counts = cluster_sums(values, cluster_codes(clusters))
    n = counts.sum(0)
    some = n > 0
    table = pd.DataFrame(
        {name: np.full(len(scales), np.nan) for name in ("value", "low", "high", "n_effective", "kish")}
        | {"n": n.astype(int), "clusters": (counts > 0).sum(0), "interval": None}
    )
    table.loc[~some, ["n_effective", "kish"]] = 0.0
    if some.any():
        chosen = [scale for scale, one in zip(scales, some, strict=True) if one]
        filled = _filled(values[:, some], sums[:, some], counts[:, some], chosen, rng, settings)
        for name, column in filled.items():
            table.loc[some, name] = column
    return table


def _filled(
    values: np.ndarray,
    sums: np.ndarray,
    counts: np.ndarray,
    scales: Sequence[Scale],
    rng: np.random.Generator,
    settings: Statistics,
) -> dict[str, np.ndarray]:
    """`estimates` of columns that have a value."""
    level, n, clusters = settings.level, counts.sum(0), (counts > 0).sum(0)
    scale = {
        name: np.array([getattr(s, name) for s in scales], dtype=float)
        for name in ("low", "high", "least", "most")
    }
    mean, variance, copies = sums.sum(0) / n, cluster_variance(sums, counts), kish(counts)
    rate = np.array([s == SHARE for s in scales]) & (np.isnan(values) | (values == 0) | (values == 1)).all(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        independent = np.nanvar(values, axis=0) * n / (n - 1)
        effective = np.where(variance > 0, np.clip(independent / variance, copies, n), copies)
    effective[rate] = n_effective(sums[:, rate], counts[:, rate], level)
    low, high = (np.full(len(mean), np.nan) for _ in range(2))
    made = np.full(len(mean), "", dtype=object)

    def take(name: str, where: np.ndarray, ends: tuple[np.ndarray, np.ndarray]) -> None:
        # An interval that rounding alone makes is none.
        usable = (ends[1] - ends[0] > 1e-9 * np.maximum(1.0, np.abs(mean[where]))) & np.isfinite(ends).all(0)
        places = np.flatnonzero(where)[usable]
        low[places], high[places], made[places] = ends[0][usable], ends[1][usable], name

    take(WILSON, rate, wilson(mean[rate], effective[rate], level))
    many = (made == "") & (clusters >= FEW) & (variance > 0)
    if many.any():
        resampled = resampled_means(sums[:, many], counts[:, many], rng, settings.resamples)
        ends = bca(sums[:, many], counts[:, many], resampled, tails(clusters[many], level))
        take(BCA, many, ends)
    rest = (made == "") & (clusters > 1)
    least, most = (scale[name][rest] for name in ("least", "most"))
    take(STUDENT, rest, students(mean[rest], variance[rest], clusters[rest], least, most, level))
    rest = made == ""
    lowest, highest = (scale[name][rest] for name in ("low", "high"))
    take(RANGE, rest, bounded(mean[rest], copies[rest], lowest, highest, level))
    return {
        "value": mean, "low": low, "high": high, "n_effective": effective, "kish": copies, "interval": made,
    }  # fmt: skip
