"""One metric of one task under one editor, as arrays: estimates, paired tests, and what is retained.

`values` is (orders, items, checkpoints) with a value per item, empty where an item or a checkpoint is
missing; the mean over orders is empty at a checkpoint that one order lacks, so that an order that broke down
leaves no better-looking rest.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aftershock.metrics.abilities.many_items import Noted
from aftershock.metrics.abilities.settings import NOISE
from aftershock.metrics.comparisons import of_difference
from aftershock.metrics.intervals import estimates
from aftershock.metrics.resampling import (
    cluster_codes,
    cluster_sums,
    resampled_means,
    resampled_weights,
    sign_flips,
)
from aftershock.metrics.scales import Scale
from aftershock.metrics.settings import Statistics
from aftershock.metrics.spread import over_seeds
from aftershock.seeds import generator

MCNEMAR, FLIPS, BOOTSTRAP = "McNemar", "sign flips", "paired bootstrap"
FIGURES = ["value", "low", "high", "n", "clusters", "low_with_orders", "high_with_orders"]


@dataclass(frozen=True)
class Draws:
    """Settings of resampling, and names that tell the draws of one task from those of others."""

    settings: Statistics
    names: tuple[str, ...]

    def of(self, purpose: str) -> np.random.Generator:
        """Return a generator that is the same for every editor and checkpoint of a task."""
        return generator(self.settings.seed, purpose, *self.names)


def estimated_means(
    values: np.ndarray, clusters: np.ndarray, scale: Scale, draws: Draws
) -> list[pd.DataFrame]:
    """Return FIGURES by checkpoint: of the mean over orders first, then of each order where there are
    several.
    """
    scales = [scale] * values.shape[2]
    joint = over_seeds(values, clusters, scales, draws.of("resamples"), draws.settings)
    joint = joint.rename(columns={f"{end}_with_seeds": f"{end}_with_orders" for end in ("low", "high")})
    found = [joint[FIGURES]]
    for one in values if len(values) > 1 else ():
        rows = estimates(one, clusters, scales, draws.of("resamples"), draws.settings)
        found.append(rows.assign(low_with_orders=np.nan, high_with_orders=np.nan)[FIGURES])
    return found


def paired_means(
    values: np.ndarray, unedited: np.ndarray, clusters: np.ndarray, scale: Scale, draws: Draws
) -> pd.DataFrame:
    """Return difference from `unedited` with interval, and a test, by column of `values` (items,
    checkpoints).

    The test flips the signs of whole clusters: with items of 0 and 1 that are their own cluster it is
    McNemar's exact one.
    """
    differences = values - unedited[:, None]
    differences[np.abs(differences) <= NOISE] = 0.0
    scales = [of_difference(scale)] * differences.shape[1]
    rows = estimates(differences, clusters, scales, draws.of("resamples"), draws.settings)
    sums, _ = cluster_sums(differences, cluster_codes(clusters))
    p, _ = sign_flips(sums, draws.of("flips"), draws.settings.permutations)
    filled = values[~np.isnan(values)]
    binary = np.isin(filled, (0, 1)).all() and len(np.unique(clusters)) == len(clusters)
    names = {"value": "difference", "low": "difference_low", "high": "difference_high"}
    return rows[list(names)].rename(columns=names).assign(
        p=np.where(rows["n"] > 0, p, np.nan), test=MCNEMAR if binary else FLIPS
    )  # fmt: skip


def retained_means(
    values: np.ndarray, unedited: np.ndarray, floor: float, clusters: np.ndarray, draws: Draws
) -> pd.DataFrame:
    """Return (value - floor) / (unedited - floor) with its interval by column of `values` (items,
    checkpoints).

    Both means are over the items that both have; the interval is that of percentiles over resamples of
    clusters, in which both change.
    """
    both = np.concatenate([values, np.where(np.isnan(values), np.nan, unedited[:, None])], axis=1)
    sums, counts = cluster_sums(both, cluster_codes(clusters))
    settings = draws.settings
    resampled = resampled_means(sums, counts, draws.of("retained"), settings.resamples)
    with np.errstate(invalid="ignore"):
        observed = sums.sum(0) / counts.sum(0)
    after, before = np.split(observed, 2)
    drawn_after, drawn_before = np.split(resampled, 2, axis=1)
    return _retained(after, before, drawn_after, drawn_before, floor, settings.level)


def _retained(
    after: np.ndarray,
    before: np.ndarray,
    resampled_after: np.ndarray,
    resampled_before: np.ndarray,
    floor: float,
    level: float,
    as_perplexity: Callable[[np.ndarray], np.ndarray] | None = None,
) -> pd.DataFrame:
    """Return what is retained, of resampled means too; for perplexities it is before divided by after."""

    def share(after: np.ndarray, before: np.ndarray) -> np.ndarray:
        if as_perplexity:
            return as_perplexity(before) / as_perplexity(after)
        return (after - floor) / (before - floor)

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        kept, drawn = share(after, before), share(resampled_after, resampled_before)
    ends = percentiles(drawn, np.isfinite(kept), level)
    low, high = np.minimum(ends[0], kept), np.maximum(ends[1], kept)
    return pd.DataFrame({"retained": kept, "retained_low": low, "retained_high": high})


def widen_flat(rows: pd.DataFrame, before: float, floor: float) -> pd.DataFrame:
    """Return `rows` with the intervals of what is retained that have no width taken from those of
    differences.

    Where no item changes, no resample does; the interval of the difference says what may still be unseen.
    """
    rows, span = rows.copy(), before - floor
    flat = (rows["retained_high"] - rows["retained_low"] < NOISE) & (span > 0)
    for end in ("low", "high"):
        rows.loc[flat, f"retained_{end}"] = 1 + rows.loc[flat, f"difference_{end}"] / span
    return rows


def percentiles(drawn: np.ndarray, known: np.ndarray, level: float) -> np.ndarray:
    """Return both ends (2, columns) of the percentile intervals of the `known` columns of resamples."""
    tail = (1 - level) / 2
    ends = np.full((2, drawn.shape[1]), np.nan)
    if known.any():
        with np.errstate(invalid="ignore"):  # between two infinite values
            ends[:, known] = np.nanquantile(drawn[:, known], (tail, 1 - tail), axis=0)
    return ends


# --- metrics of many items --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """A metric of many items: observed (columns,) and in resamples (resamples, columns)."""

    observed: np.ndarray
    resampled: np.ndarray


def draw_many(
    metric: Callable[[Noted, np.ndarray], np.ndarray],
    noted: list[Noted | None],
    clusters: np.ndarray,
    draws: Draws,
) -> Drawn:
    """Return the metric of each of `noted`, in all items and in the same resamples of clusters."""
    code = cluster_codes(clusters)
    number = int(code.max(initial=-1)) + 1
    drawn = resampled_weights(number, draws.of("resamples"), draws.settings.resamples)
    weights = np.concatenate([part[:, code] for part in drawn]) if number else np.empty((0, 0))
    ones = np.ones((1, len(code)))
    observed = [np.nan if each is None else metric(each, ones)[0] for each in noted]
    missing = np.full(len(weights), np.nan)
    resampled = [missing if each is None else metric(each, weights) for each in noted]
    return Drawn(np.array(observed, float), np.stack(resampled, axis=1))


def figures_of_many(
    drawn: Drawn,
    unedited: Drawn,
    floor: float,
    n: int,
    clusters: int,
    level: float,
    as_perplexity: Callable[[np.ndarray], np.ndarray] | None = None,
) -> pd.DataFrame:
    """Return FIGURES, the paired difference with its test, and what is retained, by column of `drawn`.

    Intervals are percentiles of resamples. The test counts resamples whose difference has the other sign.
    """
    known = np.isfinite(drawn.observed)
    low, high = percentiles(drawn.resampled, known, level)
    apart = drawn.resampled - unedited.resampled
    below, above = percentiles(apart, known, level)
    sides = np.stack([(apart <= NOISE).sum(0), (apart >= -NOISE).sum(0)]).min(0)
    p = np.minimum(1.0, 2 * (sides + 1) / (len(apart) + 1))
    before = (np.broadcast_to(unedited.observed, drawn.observed.shape),
              np.broadcast_to(unedited.resampled, drawn.resampled.shape))  # fmt: skip
    kept = _retained(drawn.observed, before[0], drawn.resampled, before[1], floor, level, as_perplexity)
    rows = pd.DataFrame(
        {"value": drawn.observed, "low": low, "high": high, "n": np.where(known, n, 0),
         "clusters": np.where(known, clusters, 0), "low_with_orders": np.nan, "high_with_orders": np.nan,
         "difference": drawn.observed - unedited.observed, "difference_low": below, "difference_high": above,
         "p": np.where(known, p, np.nan), "test": BOOTSTRAP}
    )  # fmt: skip
    return pd.concat([rows, kept], axis=1)
