"""Paired comparisons of two editors on the same cases: difference, test, and detectable difference.

The cases are those in which both have a value; with several seeds each case's values are first averaged over
those that both have, so a comparison is about these seeds. The test flips the signs of whole clusters, as
the cases of one answer alike, and needs no distribution. Its correction is for all comparisons of one table
(a family) of a model, over all cases or over strict ones.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, rankdata, t

from aftershock.metrics.catalogue import metric
from aftershock.metrics.intervals import Numbers, cluster_variance, estimates
from aftershock.metrics.resampling import cluster_codes, cluster_sums, sign_flips
from aftershock.metrics.scales import Scale
from aftershock.metrics.settings import DEFAULTS, Statistics
from aftershock.metrics.step_down import Flipped, step_down
from aftershock.metrics.study import Block, families
from aftershock.metrics.summary import SUBSETS
from aftershock.seeds import generator
from aftershock.tables.report import COMPARISONS

FAMILY = ["model", "subset", "family"]
CORRECTIONS = ("westfall_young", "holm", "benjamini_hochberg", "none")
NOISE = 1e-12
"""Differences at or below this are rounding."""


def compare(blocks: Sequence[Block], settings: Statistics = DEFAULTS) -> pd.DataFrame:
    """COMPARISONS of every two editors of each block, for every metric that a table shows."""
    parts = [part for block in blocks for part in _of_block(block, settings)]
    if not parts:
        return COMPARISONS.empty()
    rows = pd.concat([part for part, _ in parts], ignore_index=True)
    tested = rows["p"].notna()
    by_family = rows[tested].groupby(FAMILY, sort=False)["p"]
    if settings.correction == "westfall_young":
        rows["p_adjusted"] = np.fmax(_stepped(parts, settings), rows["p"]).where(tested)
    else:
        rows["p_adjusted"] = by_family.transform(lambda p: adjusted(p.to_numpy(), settings.correction))
    rows["significant"] = rows["p_adjusted"] <= settings.alpha + NOISE
    size = by_family.transform("size").reindex(rows.index)
    error = np.sqrt(rows["variance"])
    for name, alpha in (("detectable", settings.alpha), ("detectable_family", settings.alpha / size)):
        rows[name] = detectable(error, rows["clusters"], alpha, settings.power)
    return rows[list(COMPARISONS.columns)]


Part: TypeAlias = tuple[pd.DataFrame, np.ndarray]
"""Comparisons of one block and family, uncorrected, with the `variance` of each mean difference; and the sums
of differences by cluster, (clusters, comparisons)."""


def _stepped(parts: Sequence[Part], settings: Statistics) -> np.ndarray:
    """Return the adjusted p of all rows of `parts`, one after the other."""
    found = [np.empty(len(rows)) for rows, _ in parts]
    members: dict[tuple, list[int]] = {}
    for place, (rows, _) in enumerate(parts):
        members.setdefault(tuple(rows[FAMILY].iloc[0]), []).append(place)
    for places in members.values():
        flipped = []
        for place in places:
            rows, sums = parts[place]
            rng = generator(settings.seed, "flips", *rows[["model", "dataset"]].iloc[0])
            flipped.append(Flipped(sums, rng))
        p = step_down(flipped, settings.permutations)
        for place, mine in zip(
            places, np.split(p, np.cumsum([len(found[i]) for i in places])[:-1]), strict=True
        ):
            found[place] = mine
    return np.concatenate(found)


def _of_block(block: Block, settings: Statistics) -> list[Part]:
    """Return the parts of one block."""
    by_family = families(block.dataset, block.columns)
    metrics = list(dict.fromkeys(name for names in by_family.values() for name in names))
    pairs = list(combinations(block.editors, 2))
    if not pairs:
        return []
    ours, theirs, seeds = _paired(block, pairs, metrics)
    keys = pd.DataFrame([(*pair, name) for pair in pairs for name in metrics])
    keys.columns = ["editor", "other", "metric"]
    keys["seeds"] = np.repeat(seeds, len(metrics))
    strict = block.about("strict").astype(bool)
    parts = []
    for subset in SUBSETS:
        mask = strict if subset == "strict" else np.ones(len(strict), dtype=bool)
        sides = [np.where(mask[:, None], side, np.nan) for side in (ours, theirs)]
        found, sums = _figures(block, sides[0], sides[1], keys["metric"], settings)
        figures = pd.concat([keys, found], axis=1)
        figures["note"] = _notes(figures, sides)
        figures = figures.assign(model=block.model, dataset=block.dataset, subset=subset)
        for title, names in by_family.items():
            mine = figures["metric"].isin(names).to_numpy()
            parts.append((figures[mine].assign(family=title), sums[:, mine]))
    return parts


def _paired(
    block: Block, pairs: Sequence[tuple[str, str]], metrics: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Values of both sides (cases, pairs x metrics), and the number of seeds averaged over for each pair."""
    ours: list[np.ndarray] = []
    theirs: list[np.ndarray] = []
    counts = []
    for pair in pairs:
        seeds = sorted(set(block.editors[pair[0]]) & set(block.editors[pair[1]]))
        for side, editor in zip((ours, theirs), pair, strict=True):
            side.append(block.averaged(editor, metrics, seeds))
        counts.append(len(seeds))
    return np.concatenate(ours, axis=1), np.concatenate(theirs, axis=1), counts


def _figures(
    block: Block, ours: np.ndarray, theirs: np.ndarray, metrics: pd.Series, settings: Statistics
) -> Part:
    """Return figures about the columns of `ours` and `theirs` that depend on no other comparison."""
    differences = ours - theirs
    differences[np.abs(differences) <= NOISE] = 0.0
    both, clusters = ~np.isnan(differences), block.about("cluster")
    scales = [of_difference(metric(name).scale) for name in metrics]
    names = settings.seed, block.model, block.dataset
    found = estimates(differences, clusters, scales, generator(names[0], "resamples", *names[1:]), settings)
    sums, counts = cluster_sums(differences, cluster_codes(clusters))
    p, exact = sign_flips(sums, generator(names[0], "flips", *names[1:]), settings.permutations)
    some = (found["n"] > 0).to_numpy()
    with np.errstate(invalid="ignore"):
        means = [np.where(both, side, 0.0).sum(0) / both.sum(0) for side in (ours, theirs)]
    found = found.rename(columns={"value": "difference"}).assign(
        value=means[0],
        other_value=means[1],
        p=np.where(some, p, np.nan),
        exact=exact,
        dz=cohens_dz(differences),
        rank_biserial=rank_biserial(differences),
        wins=(differences > 0).sum(0),
        losses=(differences < 0).sum(0),
        ties=(differences == 0).sum(0),
        variance=_variance(sums, counts, np.array([scale.high for scale in scales])),
    )
    return found, sums


def _notes(rows: pd.DataFrame, sides: Sequence[np.ndarray]) -> list[str | None]:
    """Reason why each comparison has no value or no test; None where it has."""
    has = [(~np.isnan(side)).any(0) for side in sides]
    notes: list[str | None] = []
    for row, ours, theirs in zip(rows.itertuples(), *has, strict=True):
        if row.n:
            notes.append("one cluster: no test can tell" if row.clusters == 1 else None)
        elif ours and theirs:
            notes.append("no case has a value from both")
        elif ours or theirs:
            notes.append(f"{row.other if ours else row.editor} has no value")
        else:
            notes.append("neither has a value")
    return notes


def of_difference(scale: Scale) -> Scale:
    """Range of the difference of two values."""
    return Scale(
        scale.low - scale.high, scale.high - scale.low, scale.least - scale.most, scale.most - scale.least
    )


def cohens_dz(differences: np.ndarray) -> np.ndarray:
    """Mean over standard deviation of each column's paired differences (Cohen, 1988); empty where none
    varies.
    """
    filled = ~np.isnan(differences)
    n = filled.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(filled, differences, 0.0).sum(0) / n
        spread = np.sqrt(np.where(filled, (differences - mean) ** 2, 0.0).sum(0) / (n - 1))
        return np.where(spread > NOISE, mean / spread, np.nan)


def rank_biserial(differences: np.ndarray) -> np.ndarray:
    """Matched-pairs rank-biserial correlation of each column (Kerby, 2014): of the ranks of all differences
    but 0 by size, the share of positive ones minus that of negative ones. Empty where all are 0.
    """
    sizes = np.where(differences == 0, np.nan, np.abs(differences))
    ranks = np.nan_to_num(rankdata(sizes, axis=0, nan_policy="omit"))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (ranks * np.sign(np.nan_to_num(differences))).sum(0) / ranks.sum(0)


def adjusted(p: np.ndarray, correction: str) -> np.ndarray:
    """p values that allow for their number: `holm` (1979), `benjamini_hochberg` (1995) or `none`.

    `westfall_young`, which needs more than the p values (see `step_down`), is Holm's.
    """
    if correction == "none":
        return p
    if correction == "benjamini_hochberg":
        return false_discovery_control(p)
    if correction not in ("holm", "westfall_young"):
        raise ValueError(f"unknown correction {correction!r}; known corrections: {', '.join(CORRECTIONS)}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(stepped, 1.0)
    return result


def detectable(error: Numbers, clusters: Numbers, alpha: Numbers, power: float) -> Any:
    """Smallest difference that a two-sided test at `alpha` finds with chance `power`; empty for one cluster.

    `error` is the standard error of the mean difference over `clusters`; both quantiles are Student's t, as
    the error is itself estimated. Numbers or arrays.
    """
    freedom = np.where(np.asarray(clusters) > 1, np.asarray(clusters) - 1.0, np.nan)
    return (t.isf(alpha / 2, freedom) + t.isf(1 - power, freedom)) * error


def _variance(sums: np.ndarray, counts: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Variance of each mean difference; where none was seen, as if two more clusters of common size differed
    as far as they can, one each way.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = cluster_variance(sums, counts)
        size = (counts**2).sum(0) / counts.sum(0)
        more = np.concatenate([sums, [size * span, -size * span]])
        unseen = cluster_variance(more, np.concatenate([counts, [size, size]]))
    alike = seen <= NOISE**2
    return np.where(alike, unseen, seen)
