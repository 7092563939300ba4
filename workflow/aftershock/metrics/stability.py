"""Stability of the editors' order under other ways to score an object's tokens and prompts."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from aftershock.metrics.catalogue import metric
from aftershock.metrics.resampling import cluster_codes, cluster_sums, resampled_means
from aftershock.metrics.settings import DEFAULTS, Statistics
from aftershock.metrics.study import Block, blocks
from aftershock.seeds import generator
from aftershock.tables.report import STABILITY

BASE = ("geometric_mean", "all", "all")
EQUAL = "equal_tokens"
VARIANT = ["metric", "scoring", "prompts"]
DIGITS = 12
"""Means that agree to this many decimals are tied."""


def variant_blocks(
    runs: Sequence[Mapping[str, Any]], cases: Sequence[pd.DataFrame], variants: Sequence[pd.DataFrame]
) -> list[Block]:
    """Blocks of the VARIANTS of each run, with a column per metric, scoring and choice of prompts."""
    frames = [rows.pivot(index="case_id", columns=VARIANT, values="value").astype(float) for rows in variants]
    return blocks(runs, cases, frames)


def stability(
    variants: Sequence[Block],
    equal: Mapping[tuple[str, str], set[int]],
    settings: Statistics = DEFAULTS,
) -> pd.DataFrame:
    """STABILITY of each block of VARIANTS.

    `equal` has by model and dataset the cases whose compared objects have equally many tokens. Every variant
    ranks the editors by their means over the cases that all editors with a value have in common.
    """
    parts = [_of_block(block, equal.get((block.model, block.dataset), set()), settings) for block in variants]
    return pd.concat(parts or [STABILITY.empty()], ignore_index=True)[list(STABILITY.columns)]


def _of_block(block: Block, equal: set[int], settings: Statistics) -> pd.DataFrame:
    columns = [column for column in block.columns if metric(column[0]).better]
    columns.sort(key=lambda column: (column[0], column[1:] != BASE[:2], column[1:]))
    groups = [(*column, pairs) for pairs in ("all", EQUAL) for column in columns]
    editors = list(block.editors)
    if not groups:
        return STABILITY.empty()
    # (cases, groups, editors)
    values = np.stack([block.averaged(editor, columns) for editor in editors], axis=2)
    values = np.tile(values, (1, 2, 1))
    values[~block.case_ids.isin(equal), len(columns) :] = np.nan
    common, present = _on_common_cases(values)
    flat = common.reshape(len(common), -1)
    sums, counts = cluster_sums(flat, cluster_codes(block.about("cluster")))
    rng = generator(settings.seed, "resamples", block.model, block.dataset)
    drawn = resampled_means(sums, counts, rng, settings.resamples if len(sums) else 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.round((sums.sum(0) / counts.sum(0)).reshape(present.shape), DIGITS)
    drawn = np.round(drawn.reshape(-1, *present.shape), DIGITS)
    n = counts.sum(0).reshape(present.shape).max(1).astype(int)
    clusters = (counts > 0).sum(0).reshape(present.shape).max(1)
    place = {group: i for i, group in enumerate(groups)}
    rows = []
    for i, (name, *variant) in enumerate(groups):
        base, who = means[place[name, *BASE]], present[i]
        order, best = _order(means[i], who, editors, metric(name).better)
        base_best = _order(base, present[place[name, *BASE]], editors, metric(name).better)[1]
        tau, by_chance = _tau(means[i], base), resampled_tau(means[i, who], drawn[:, i, who])
        rows.append(
            (name, *variant, who.sum(), n[i], clusters[i], tau, by_chance, order, best, base_best,
             best == base_best if best and base_best else None, _note(n[i], who, editors, tau))
        )  # fmt: skip
    names = [name for name in STABILITY.columns if name not in ("model", "dataset")]
    return pd.DataFrame(rows, columns=names).assign(model=block.model, dataset=block.dataset)


def _on_common_cases(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`values` (cases, groups, editors) where all editors with any value have one, and their mask."""
    filled = ~np.isnan(values)
    present = filled.any(0)
    common = (filled | ~present).all(2, keepdims=True)
    return np.where(common, values, np.nan), present & common.any(0)


def _tau(means: np.ndarray, base: np.ndarray) -> float:
    """Kendall's tau-b between two orders of the editors that both have; empty where one has no order."""
    both = ~np.isnan(means) & ~np.isnan(base)
    if both.sum() < 2 or np.ptp(means[both]) == 0 or np.ptp(base[both]) == 0:
        return np.nan
    return float(kendalltau(means[both], base[both], variant="b").statistic)


def resampled_tau(means: np.ndarray, drawn: np.ndarray) -> float:
    """Mean tau-b of the order of `means` (editors,) with that of each row of `drawn` (resamples, editors).

    What chance alone does to an order: a variant whose tau with the base is no lower changes nothing that
    could be distinguished from it. A resample in which all are tied does not count.
    """
    pairs = list(combinations(range(len(means)), 2))
    if not pairs or not len(drawn):
        return np.nan
    one, other = np.array(pairs).T
    ours, theirs = np.sign(means[one] - means[other]), np.sign(drawn[:, one] - drawn[:, other])
    with np.errstate(divide="ignore", invalid="ignore"):
        tau = (theirs @ ours) / np.sqrt((ours**2).sum() * (theirs**2).sum(1))
    return float(tau[np.isfinite(tau)].mean()) if np.isfinite(tau).any() else np.nan


def _order(means: np.ndarray, who: np.ndarray, editors: Sequence[str], better: str) -> tuple[str, str | None]:
    """The editors from best to worst, as in `rome > memit = ft`, and the best one or ones."""
    ranked: dict[float, list[str]] = {}
    for place in np.flatnonzero(who):
        ranked.setdefault(float(means[place]), []).append(editors[place])
    ties = [ranked[mean] for mean in sorted(ranked, reverse=better == "up")]
    return " > ".join(" = ".join(names) for names in ties), ", ".join(ties[0]) if ties else None


def _note(n: int, who: np.ndarray, editors: Sequence[str], tau: float) -> str | None:
    """Editors that are left out, and the reason why there may be no order."""
    if not n:
        return "no case that the editors have in common"
    absent = [editor for editor, here in zip(editors, who, strict=True) if not here]
    notes = [f"without {', '.join(absent)}, which has no value"] if absent else []
    if who.sum() < 2:
        notes.append("one editor has no order")
    elif np.isnan(tau):
        notes.append("all are tied, here or in the base")
    return "; ".join(notes) or None
