"""Variance components: between the seeds of an editor and between cases."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from aftershock.metrics.catalogue import metric
from aftershock.metrics.intervals import cluster_variance, estimates
from aftershock.metrics.resampling import cluster_codes, cluster_sums
from aftershock.metrics.scales import Scale
from aftershock.metrics.settings import DEFAULTS, Statistics
from aftershock.metrics.study import Block, shown
from aftershock.metrics.summary import SUBSETS
from aftershock.seeds import generator
from aftershock.tables.report import SEEDS

ONE_SEED = "one seed: how much seeds vary is not known"
ONE_CASE = "one case: its seeds' spread cannot be told from noise"
ONE_CLUSTER = "one cluster: no interval over cases and seeds"
NO_CASE = "no case has a value for every seed"


def spread(blocks: Sequence[Block], settings: Statistics = DEFAULTS) -> pd.DataFrame:
    """SEEDS of every editor of each block, for every metric that a table shows."""
    parts = [
        _of_editor(block, editor, subset, settings)
        for block in blocks
        for editor in block.editors
        for subset in SUBSETS
    ]
    return pd.concat(parts or [SEEDS.empty()], ignore_index=True)[list(SEEDS.columns)]


def _of_editor(block: Block, editor: str, subset: str, settings: Statistics) -> pd.DataFrame:
    metrics = shown(block.dataset, block.columns)
    values = block.values(editor, metrics)
    mask = block.about("strict").astype(bool) if subset == "strict" else np.ones(values.shape[1], dtype=bool)
    values = np.where(mask[:, None], values, np.nan)
    rng = generator(settings.seed, "resamples", block.model, block.dataset)
    scales = [metric(name).scale for name in metrics]
    rows = over_seeds(values, block.about("cluster"), scales, rng, settings)
    notes = [_note(row.n, row.clusters, len(values)) for row in rows.itertuples()]
    about = {"model": block.model, "dataset": block.dataset, "editor": editor, "subset": subset}
    return rows.assign(**about, metric=metrics, seeds=len(values), empty=mask.sum() - rows["n"], note=notes)


def _note(n: int, clusters: int, seeds: int) -> str | None:
    """Reason why a value is empty; None where none is."""
    if n == 0:
        return NO_CASE
    if seeds < 2:
        return ONE_SEED
    return ONE_CASE if n == 1 else ONE_CLUSTER if clusters == 1 else None


def over_seeds(
    values: np.ndarray,
    clusters: np.ndarray,
    scales: Sequence[Scale],
    rng: np.random.Generator,
    settings: Statistics,
) -> pd.DataFrame:
    """`estimates` of the cases' means over seeds, with standard deviations of `components` (`sd_seeds` and
    so on) and the interval `low_with_seeds` to `high_with_seeds`; `values` is (seeds, cases, columns).
    """
    means, parts = values.mean(0), components(values)
    rows = estimates(means, clusters, scales, rng, settings)
    error = cluster_variance(*cluster_sums(means, cluster_codes(clusters)))
    low, high = _with_seeds(rows, error, parts["seeds"], len(values), settings.level)
    least, most = ([getattr(scale, name) for scale in scales] for name in ("least", "most"))
    return rows.assign(
        low_with_seeds=np.maximum(low, least),
        high_with_seeds=np.minimum(high, most),
        **{f"sd_{name}": np.sqrt(variance) for name, variance in parts.items()},
    )


def components(values: np.ndarray) -> dict[str, np.ndarray]:
    """Variance between `seeds`, between `cases` and of the `rest`, by column of `values` (seeds, cases,
    columns).

    Random effects of seed and case without interaction, from the mean squares of the cases that have a value
    for every seed (Searle, Casella and McCulloch, 1992, ch. 4); a negative estimate is 0. With one seed the
    rest is part of the cases' variance; what cannot be estimated is empty.
    """
    k = len(values)
    filled = ~np.isnan(values).any(0)
    values = np.where(filled, values, 0.0)
    n = filled.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_seed, by_case = values.sum(1) / n, values.mean(0)
        mean = by_case.sum(0) / n
        cases = k * np.where(filled, (by_case - mean) ** 2, 0.0).sum(0) / (n - 1)
        if k < 2:
            unknown = np.full(len(n), np.nan)
            return {"seeds": unknown, "cases": np.where(n > 1, cases, np.nan), "rest": unknown}
        seeds = n * ((by_seed - mean) ** 2).sum(0) / (k - 1)
        residuals = np.where(filled, values - by_case - by_seed[:, None] + mean, 0.0)
        rest = (residuals**2).sum((0, 1)) / ((k - 1) * (n - 1))
        found = {"seeds": (seeds - rest) / n, "cases": (cases - rest) / k, "rest": rest}
    return {name: np.where(n > 1, np.maximum(variance, 0.0), np.nan) for name, variance in found.items()}


def _with_seeds(
    rows: pd.DataFrame, error: np.ndarray, between: np.ndarray, k: int, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a mean over cases and `k` seeds, both drawn from many; never within that over cases.

    Student's t with Satterthwaite's degrees of freedom for the sum of both variances; empty where one is.
    """
    seeds = between / k
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = error + seeds
        freedom = whole**2 / (error**2 / (rows["clusters"] - 1) + seeds**2 / max(k - 1, 1))
        half = np.where(whole > 0, stdtrit(freedom, (1 + level) / 2) * np.sqrt(whole), whole)
    value = rows["value"].to_numpy()
    known = np.isfinite(half)
    low = np.where(known, np.minimum(rows["low"], value - half), np.nan)
    return low, np.where(known, np.maximum(rows["high"], value + half), np.nan)
