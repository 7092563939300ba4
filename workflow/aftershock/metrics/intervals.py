"""How sure a mean over cases is, when cases of one cluster share entities and so answer alike.

Rates (every value 0 or 1) get Wilson's interval at the effective number of independent cases; other metrics a
BCa bootstrap over clusters. Neither is ever empty or of zero width: with fewer than `FEW` clusters Student's
t takes the bootstrap's place, and where nothing varies at all the range a metric can take, seen through
Wilson's interval, takes the place of both.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from aftershock.metrics.scales import SHARE, Scale

LEVEL = 0.95
RESAMPLES = 2000
FEW = 10
"""A bootstrap over fewer clusters than this knows too few different means."""


@dataclass(frozen=True)
class Estimate:
    """A mean over cases with its interval; `n_effective` independent cases would give as wide a one."""

    value: float
    low: float
    high: float
    n: int
    clusters: int
    n_effective: float


EMPTY = Estimate(np.nan, np.nan, np.nan, 0, 0, 0.0)


def wilson(rate: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a rate seen in `n` cases; `n` need not be whole."""
    z = norm.ppf((1 + level) / 2)
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def kish(counts: np.ndarray) -> float:
    """Kish's effective number of cases, if the cases of a cluster were copies of one another."""
    return float(counts.sum() ** 2 / (counts**2).sum())


def cluster_variance(sums: np.ndarray, counts: np.ndarray) -> float:
    """Variance of the mean, from how far each cluster's sum (clusters,) is from what the mean expects."""
    clusters, n = len(counts), counts.sum()
    if clusters < 2:
        return np.nan
    residuals = sums - counts * sums.sum() / n
    return float(clusters / (clusters - 1) * (residuals**2).sum() / n**2)


def n_effective(sums: np.ndarray, counts: np.ndarray, level: float = LEVEL) -> float:
    """Independent cases that say as much about a rate as these clusters do: at most n, at least `kish`.

    Korn and Graubard (1998) divide n by the design effect, the variance between clusters over that of
    independent cases, and widen by t quantiles, because the effect is itself estimated. With few events it
    cannot be: two more clusters of common size, one all success and one all failure, draw it to that of
    clusters whose cases are copies, so that 0 and 1 event in n cases give like intervals.
    """
    clusters, n, least = len(counts), counts.sum(), kish(counts)
    if clusters == n or clusters == 1:
        return least
    size = (counts**2).sum() / n
    sums, counts = np.append(sums, [size, 0.0]), np.append(counts, [size, size])
    rate = sums.sum() / counts.sum()
    design_effect = cluster_variance(sums, counts) * counts.sum() / (rate * (1 - rate))
    quantile = (1 + level) / 2
    shrink = (t.ppf(quantile, n - 1) / t.ppf(quantile, clusters - 1)) ** 2
    return float(np.clip(n / design_effect * shrink, least, n))


def bca(
    sums: np.ndarray, counts: np.ndarray, weights: np.ndarray, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Bias-corrected and accelerated bootstrap intervals of several means at once.

    `sums` is (clusters, metrics), `counts` (clusters,) cases in each cluster, `weights` (resamples, clusters)
    how often a resample draws each one. The intervals of scipy.stats.bootstrap for a ratio of sums; one
    matrix product here serves all metrics of a run.
    """
    total, n = sums.sum(0), counts.sum()
    mean = total / n
    resampled = np.sort(weights @ sums / (weights @ counts)[:, None], axis=0)
    bias = norm.ppf(((resampled < mean).mean(0) + (resampled <= mean).mean(0)) / 2)
    left_out = (total - sums) / (n - counts)[:, None]
    spread = left_out.mean(0) - left_out
    with np.errstate(divide="ignore", invalid="ignore"):
        acceleration = (spread**3).sum(0) / (6 * (spread**2).sum(0) ** 1.5)
    bounds = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        shifted = bias + norm.ppf(tail)
        place = norm.cdf(bias + shifted / (1 - acceleration * shifted))
        bounds.append(_quantiles(resampled, place))
    return bounds[0], bounds[1]


def _quantiles(columns: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Quantile `place[j]` of each sorted column j, empty where the place is."""
    quantiles = [
        np.quantile(c, p) if np.isfinite(p) else np.nan for c, p in zip(columns.T, place, strict=True)
    ]
    return np.array(quantiles, dtype=float)


def bounded(value: float, n: float, scale: Scale, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a mean of which only the usual range of its values is known.

    Among values in a range those at the two ends vary most, so Wilson's interval for them is the widest. A
    mean outside the usual range widens it to itself and as much beyond.
    """
    span = scale.high - scale.low
    low = scale.low if value >= scale.low else value - span
    high = scale.high if value <= scale.high else value + span
    ends = wilson((value - low) / (high - low), n, level)
    return low + ends[0] * (high - low), low + ends[1] * (high - low)


def students(value: float, variance: float, clusters: int, scale: Scale) -> tuple[float, float]:
    """Student's t interval of a mean over `clusters`, cut off at what the metric can be."""
    half = t.ppf((1 + LEVEL) / 2, clusters - 1) * np.sqrt(variance)
    return max(scale.least, value - half), min(scale.most, value + half)


def estimate(
    values: pd.DataFrame,
    clusters: pd.Series,
    scales: Mapping[str, Scale],
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> dict[str, Estimate]:
    """An Estimate per column of `values` (cases, metrics), leaving out empty values; `clusters` by case.

    `scales` says what each metric can be; a share that is 0 or 1 in every case is a rate.
    """
    estimates = {}
    filled = values.notna().to_numpy()
    # Metrics that are empty for the same cases share one set of resamples.
    for pattern in np.unique(filled, axis=1).T if values.shape[1] else ():
        names = values.columns[(filled == pattern[:, None]).all(0)]
        if not pattern.any():
            estimates |= dict.fromkeys(names, EMPTY)
            continue
        code, _ = pd.factorize(clusters[pattern])
        estimates |= _estimate_filled(values.loc[pattern, names], code, scales, rng, resamples)
    return {name: estimates[name] for name in values.columns}


def _estimate_filled(
    values: pd.DataFrame,
    code: np.ndarray,
    scales: Mapping[str, Scale],
    rng: np.random.Generator,
    resamples: int,
) -> dict[str, Estimate]:
    """`estimate` for columns without empty values; `code` numbers each case's cluster from 0."""
    counts = np.bincount(code).astype(float)
    clusters = len(counts)
    sums = np.zeros((clusters, values.shape[1]))
    np.add.at(sums, code, values.to_numpy())
    lows = highs = np.full(values.shape[1], np.nan)
    rates = {name for name in values if scales[name] == SHARE and values[name].isin([0, 1]).all()}
    if clusters >= FEW and len(rates) < values.shape[1]:
        drawn = rng.integers(0, clusters, (resamples, clusters))
        weights = np.stack([np.bincount(row, minlength=clusters) for row in drawn]).astype(float)
        lows, highs = bca(sums, counts, weights)
    estimates = {}
    for j, name in enumerate(values.columns):
        mean = float(values[name].mean())
        variance = cluster_variance(sums[:, j], counts)
        if name in rates:
            effective = n_effective(sums[:, j], counts)
            low, high = wilson(mean, effective)
        else:
            effective = kish(counts)
            if variance > 0:
                effective = float(np.clip(values[name].var() / variance, effective, len(values)))
            low, high = _first_usable(
                (lows[j], highs[j]),
                students(mean, variance, clusters, scales[name]),
                bounded(mean, kish(counts), scales[name]),
                least=1e-9 * max(1.0, abs(mean)),
            )
        estimates[name] = Estimate(mean, float(low), float(high), len(values), clusters, effective)
    return estimates


def _first_usable(*intervals: tuple[float, float], least: float) -> tuple[float, float]:
    """The first interval that is finite and wider than `least`, which rounding alone can make."""
    return next((low, high) for low, high in intervals if least < high - low < np.inf)
