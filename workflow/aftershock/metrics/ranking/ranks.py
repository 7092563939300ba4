"""Ranks of methods from values of the same units, with simultaneous intervals.

A method's rank is one more than the number of methods with a better mean. Its interval follows from all
paired differences (Mogstad, Romano, Shaikh and Wilhelm, 2024): methods that are better beyond chance count as
ahead, those that are worse beyond chance as behind, and of the others either is possible. Beyond chance is a
difference whose interval excludes 0, where the intervals of all pairs hold together: their half-widths are a
multiple of each difference's standard error, both from one bootstrap over clusters that all methods share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from scipy.special import ndtri, stdtrit

from aftershock.metrics.intervals import wilson
from aftershock.metrics.resampling import cluster_codes, cluster_sums, resampled_means
from aftershock.metrics.settings import DEFAULTS, Statistics
from aftershock.seeds import generator

NOISE = 1e-12
"""Differences at or below this are rounding."""


@dataclass(frozen=True)
class Measured:
    """A measure of the units of one population, `values` (units, methods), empty where there is none.

    All measures of a population have the same units and `clusters`. `span` is how far two usual values lie
    apart at most.
    """

    population: str
    clusters: np.ndarray
    values: np.ndarray
    span: float = 1.0


@dataclass(frozen=True)
class Ranks:
    """Ranks of methods; every array has a place per method.

    `other` is the method that each one is compared with: the first, and for the first the second; -1 for a
    single method. `difference` is its value minus the other's, `half` the half-width of that interval, empty
    with fewer than two clusters, and `detectable` the smallest difference that would have been beyond chance
    with the power asked for.
    """

    value: np.ndarray
    rank: np.ndarray
    low: np.ndarray
    high: np.ndarray
    other: np.ndarray
    difference: np.ndarray
    half: np.ndarray
    detectable: np.ndarray
    n: int
    clusters: int


def common(measures: Sequence[Measured]) -> tuple[np.ndarray, list[Measured]]:
    """Return a mask of the methods that can be ranked, and their values of the units that all of them have.

    A method has to have half of the values that the others have, of every measure. None can be ranked where
    they share no unit.
    """
    enough = np.ones(measures[0].values.shape[1], dtype=bool)
    for measure in measures:
        filled = ~np.isnan(measure.values)
        reached = filled.sum(0)
        enough &= (reached > 0) & (2 * reached >= filled.any(1).sum())
    shared = []
    for measure in measures:
        values = measure.values[:, enough]
        whole = ~np.isnan(values).any(1, keepdims=True)
        values = np.where(whole, values, np.nan)
        shared.append(Measured(measure.population, measure.clusters, values, measure.span))
        if not whole.any():
            return np.zeros_like(enough), []
    return enough, shared


def rank(
    measures: Sequence[Measured], better: str, names: Sequence[object], settings: Statistics = DEFAULTS
) -> Ranks:
    """Return the ranks of methods by the mean over `measures` of their means over units.

    Every unit has a value of all methods, or of none; `names` and the population choose the resamples.
    """
    value, drawn = _resampled(measures, names, settings)
    fewest = min(_counts([measure])[1] for measure in measures)
    populations = dict.fromkeys(measure.population for measure in measures)
    counts = [_counts([m for m in measures if m.population == population]) for population in populations]
    first, second = np.triu_indices(len(value), 1)
    difference = value[first] - value[second]
    difference[np.abs(difference) <= NOISE] = 0.0
    moved = drawn[:, first] - drawn[:, second] - difference
    span = float(np.mean([measure.span for measure in measures]))
    half, detectable = half_widths(difference, moved, fewest, span, settings)
    ahead = difference if better == "up" else -difference
    beyond = np.abs(difference) > np.nan_to_num(half, nan=np.inf)
    place, behind = (_against(first, second, ahead, len(value), where) for where in (True, beyond))
    order = np.argsort(place[0], kind="stable")
    other = np.full(len(value), order[0])
    other[order[0]] = order[1] if len(value) > 1 else -1
    pair = _pair_of(first, second, other)
    return Ranks(
        value=value,
        rank=1 + place[0],
        low=1 + behind[0],
        high=len(value) - behind[1],
        other=other,
        difference=np.where(other < 0, np.nan, value - value[other]),
        half=_taken(half, pair),
        detectable=_taken(detectable, pair),
        n=sum(units for units, _ in counts),
        clusters=sum(clusters for _, clusters in counts),
    )


def _counts(measures: Sequence[Measured]) -> tuple[int, int]:
    """Return the number of units of a population with a value of some measure, and of their clusters."""
    filled = np.any([~np.isnan(measure.values).any(1) for measure in measures], axis=0)
    return int(filled.sum()), len(np.unique(np.asarray(measures[0].clusters)[filled]))


def _resampled(
    measures: Sequence[Measured], names: Sequence[object], settings: Statistics
) -> tuple[np.ndarray, np.ndarray]:
    """Return the value of each method (methods,), and that in every resample (resamples, methods)."""
    values, draws = [], []
    for population, group in groupby(measures, lambda measure: measure.population):
        mine = list(group)
        sums, counts = cluster_sums(
            np.concatenate([measure.values for measure in mine], axis=1), cluster_codes(mine[0].clusters)
        )
        rng = generator(settings.seed, "resamples", *names, population)
        drawn = resampled_means(sums, counts, rng, settings.resamples)
        values.append((sums.sum(0) / counts.sum(0)).reshape(len(mine), -1))
        draws.append(drawn.reshape(len(drawn), len(mine), -1))
    return np.concatenate(values).mean(0), np.concatenate(draws, axis=1).mean(1)


def half_widths(
    difference: np.ndarray, moved: np.ndarray, clusters: int, span: float, settings: Statistics
) -> tuple[np.ndarray, np.ndarray]:
    """Return half the width of each pair's interval, and the difference that would have been beyond chance.

    `moved` (resamples, pairs) is how far resamples lie from each `difference`. A bootstrap over few clusters
    varies too little, and is widened as an interval of Student's t is. Where no resample moves, clusters that
    were not seen may differ as far as values can, `span`; their share is bounded by Wilson's interval.
    """
    if clusters < 2 or not len(difference):
        return np.full(len(difference), np.nan), np.full(len(difference), np.nan)
    quantile = (1 + settings.level) / 2
    widening = np.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, quantile) / ndtri(quantile)
    error = np.sqrt((moved**2).mean(0))
    varies = error > NOISE
    with np.errstate(divide="ignore", invalid="ignore"):
        largest = np.abs(np.where(varies, moved / error, 0.0)).max(1)
    half = widening * np.quantile(largest, settings.level, method="higher") * error
    # A true lead is beyond chance in as many samples as it exceeds the half-width in resamples around it.
    leads = widening * moved * np.where(difference < 0, -1.0, 1.0)
    detectable = half - np.quantile(leads, 1 - settings.power, axis=0)
    unseen = float(wilson(0.0, clusters, settings.level)[1])
    still = unseen * (np.abs(difference) + span), unseen * span / (1 - unseen)
    return np.where(varies, half, still[0]), np.where(varies, detectable, still[1])


def _against(
    first: np.ndarray, second: np.ndarray, ahead: np.ndarray, methods: int, counted: np.ndarray | bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many methods each one is behind of, and ahead of, among the pairs that are counted."""
    won, lost = counted & (ahead > 0), counted & (ahead < 0)
    behind = np.bincount(second[won], minlength=methods) + np.bincount(first[lost], minlength=methods)
    return behind, np.bincount(first[won], minlength=methods) + np.bincount(second[lost], minlength=methods)


def _pair_of(first: np.ndarray, second: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the place of the pair of each method and its other one; -1 without one."""
    places = {frozenset(pair): place for place, pair in enumerate(zip(first, second, strict=True))}
    return np.array([places.get(frozenset(pair), -1) for pair in enumerate(other)], dtype=int)


def _taken(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the values at some places, empty at -1."""
    return np.append(values, np.nan)[places]
