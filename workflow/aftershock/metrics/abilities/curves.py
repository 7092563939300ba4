"""Curves of edits and of the model's health along a sequence, with intervals over edits and orders."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from aftershock.metrics.abilities.settings import ALL
from aftershock.metrics.catalogue import find_metric
from aftershock.metrics.intervals import estimates
from aftershock.metrics.scales import SHARE, Scale
from aftershock.metrics.settings import DEFAULTS, Statistics
from aftershock.seeds import generator
from aftershock.tables.abilities import CURVES

AGES = (1, 10, 50, 100, 500, 1000)
"""First age of each group of earlier edits."""

MEASURES = {
    "just_edited": "latest edits, just edited",
    "latest": "latest edits, in the final state",
    "latest_likelier": "latest edits, new object likelier",
    "survival": "earlier edits that still hold",
    "survival_likelier": "earlier edits, new object likelier",
    "paraphrases": "paraphrases",
    "paraphrases_likelier": "paraphrases, new object likelier",
    "neighbours_kept": "neighbours kept",
    "neighbours_likelier": "neighbours, own object likelier",
}
"""Measures of edits, in words."""

KEYS = ["measure", "age", "checkpoint", "cluster", "unit", "value"]
"""Columns that means are taken of: the value of a unit, an edit or a case."""

HEALTH = {
    "perplexity": "perplexity ratio of a fixed text",
    "jump": "largest growth of perplexity at once",
    "norm": "norm of all changes",
    "relative_norm": "largest change by the norm of its weight",
    "condition": "condition of the equations",
    "seconds": "seconds of all edits so far",
}
"""Measures of the model, a number for each order."""


def curves(
    runs: Sequence[Mapping[str, Any]],
    scores: Sequence[pd.DataFrame],
    health: Sequence[pd.DataFrame],
    unrelated: Sequence[pd.DataFrame] = (),
    settings: Statistics = DEFAULTS,
) -> pd.DataFrame:
    """Return CURVES of `runs`, whose SEQUENCE_SCORES and SEQUENCE_HEALTH belong to them one by one.

    `unrelated` has, also by run, AMONG_SCORES of cases with unrelated edits around them. The mean over orders
    is left out at a checkpoint that one of them did not reach.
    """
    parts = []
    others = unrelated or [pd.DataFrame(columns=KEYS)] * len(runs)
    for key, given in _by_editor(runs, scores, health, others):
        about = dict(zip(("model", "plan", "editor"), key, strict=True))
        observed = {
            order: pd.concat([_measured(rows), cases.assign(age=ALL)]) for order, rows, _, cases in given
        }
        parts += [{**about, **row} for row in _means(observed, (*key,), settings)]
        parts += [{**about, **row} for row in _health({order: rows for order, _, rows, _ in given})]
    return pd.DataFrame(parts, columns=list(CURVES.columns)).astype(
        {"n": "int64", "clusters": "int64", "orders": "int64", "checkpoint": "int64"}
    )


def _by_editor(runs: Sequence[Mapping[str, Any]], *tables: Sequence[pd.DataFrame]) -> Iterator[Any]:
    """Yield model, plan and editor with the order and tables of each of its runs."""
    found: dict[tuple[str, ...], list[Any]] = {}
    for run, *given in zip(runs, *tables, strict=True):
        found.setdefault((run["model"], run["plan"], run["editor"]), []).append((str(run["order"]), *given))
    yield from found.items()


def _measured(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each measure of MEASURES, those of earlier edits also by age."""
    scores = scores.assign(age_group=scores["age"].map(age_group), age=ALL)
    parts = [scores[scores["measure"].isin([name for name in MEASURES if not name.startswith("survival")])]]
    for name in ("edited", "edited_likelier"):
        rows, ending = scores[scores["measure"] == name], name.removeprefix("edited")
        earlier = rows[~rows["latest"]].assign(measure=f"survival{ending}")
        parts += [rows[rows["latest"]].assign(measure=f"latest{ending}"), earlier]
        parts.append(earlier.assign(age=earlier["age_group"]))
    return pd.concat(parts).rename(columns={"edit_id": "unit"})[KEYS]


def age_group(age: int) -> str:
    """Return the group of an age, such as 10-49."""
    if age < AGES[0]:
        return str(age)
    place = int(np.searchsorted(AGES, age, side="right"))
    return f"{AGES[place - 1]}-{AGES[place] - 1}" if place < len(AGES) else f"{AGES[-1]}-"


def _means(
    observed: Mapping[str, pd.DataFrame], names: Sequence[str], settings: Statistics
) -> Iterator[dict[str, Any]]:
    """Yield a row per order, measure, age and checkpoint; the mean over orders only where all were measured.

    All means are columns of one matrix with a row per edit and order, so that they share their resamples.
    """
    rows = pd.concat([frame.assign(order=order) for order, frame in observed.items()])
    rows = rows.dropna(subset="value").astype({"value": float})
    if rows.empty:
        return
    wide = rows.pivot_table(
        index=["order", "cluster", "unit"],
        columns=["measure", "age", "checkpoint"],
        values="value",
        sort=False,
    )
    order, values = wide.index.get_level_values("order"), wide.to_numpy()
    orders = list(observed)
    by_order = np.stack([_means_of(values[order == each]) for each in orders])
    everywhere = np.isfinite(by_order).all(0)
    parts = [(ALL, np.where(everywhere, values, np.nan))]
    if len(orders) > 1:
        parts += [(each, np.where((order == each)[:, None], values, np.nan)) for each in orders]
    keys = [(name, *key) for name, _ in parts for key in wide.columns]
    scales = [_scale(measure) for _, measure, _, _ in keys]
    rng, clusters = generator(settings.seed, "resamples", *names), wide.index.get_level_values("cluster")
    matrix = np.concatenate([part for _, part in parts], axis=1)
    found = estimates(matrix, clusters.to_numpy(), scales, rng, settings)
    places = list(range(len(wide.columns))) * len(parts)
    for (name, measure, age, checkpoint), row, place, scale in zip(
        keys, found.to_dict("records"), places, scales, strict=True
    ):
        if not row["n"]:
            continue
        means = by_order[:, place] if name == ALL else by_order[:1, place]
        ends = widened(row["value"], row["low"], row["high"], means, settings.level)
        low, high = max(ends[0], scale.least), min(ends[1], scale.most)
        yield {
            "order": name, "measure": measure, "age": age, "checkpoint": checkpoint,
            **{key: row[key] for key in ("value", "low", "high", "n", "clusters")},
            "low_with_orders": low if len(means) > 1 else np.nan,
            "high_with_orders": high if len(means) > 1 else np.nan,
            "orders": len(means),
        }  # fmt: skip


def _means_of(values: np.ndarray) -> np.ndarray:
    """Return the mean of each column's filled entries."""
    filled = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(filled, values, 0.0).sum(0) / filled.sum(0)


def _scale(measure: str) -> Scale:
    entry = find_metric(measure.partition(":")[0])
    return entry.scale if entry else SHARE


def widened(value: float, low: float, high: float, by_order: np.ndarray, level: float) -> tuple[float, float]:
    """Return an interval widened for how far the means of several orders lie apart; empty for a single
    one.
    """
    k = len(by_order)
    if k < 2:
        return np.nan, np.nan
    half = stdtrit(k - 1, (1 + level) / 2) * by_order.std(ddof=1) / np.sqrt(k)
    return value - float(np.hypot(value - low, half)), value + float(np.hypot(high - value, half))


def _health(frames: Mapping[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    """Yield a row per measure of HEALTH and checkpoint: the median over orders with the least and the
    most.
    """
    rows = pd.concat([frame.assign(order=order) for order, frame in frames.items()])
    for measure in HEALTH:
        filled = rows[rows[measure].notna()]
        for checkpoint, part in filled.groupby("checkpoint"):
            values = part.set_index("order")[measure].astype(float)
            about = {"measure": measure, "age": ALL, "checkpoint": checkpoint}
            if len(values) == len(frames):
                yield {**about, **_spread(ALL, values)}
            for order in values.index if len(frames) > 1 else ():
                yield {**about, **_spread(order, values[[order]])}


def _spread(order: str, values: pd.Series) -> dict[str, Any]:
    several = len(values) > 1
    ends: Iterable[float] = (values.min(), values.max()) if several else (np.nan, np.nan)
    low, high = ends
    return {
        "order": order, "value": values.median(), "low": low, "high": high, "n": len(values),
        "clusters": len(values), "low_with_orders": np.nan, "high_with_orders": np.nan, "orders": len(values),
    }  # fmt: skip
