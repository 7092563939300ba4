"""What becomes of edits and of the model's health along a sequence, with intervals over edits and orders."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from aftershock.metrics.abilities.settings import ALL
from aftershock.metrics.catalogue import find_metric
from aftershock.metrics.intervals import estimates
from aftershock.metrics.scales import SHARE
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
"""What is measured of edits, in words."""

HEALTH = {
    "perplexity": "perplexity ratio of a fixed text",
    "jump": "largest growth of perplexity at once",
    "norm": "norm of all changes",
    "relative_norm": "largest change by the norm of its weight",
    "condition": "condition of the equations",
    "seconds": "seconds of all edits so far",
}
"""What is measured of the model, a number for each order."""


def curves(
    runs: Sequence[Mapping[str, Any]],
    scores: Sequence[pd.DataFrame],
    health: Sequence[pd.DataFrame],
    unrelated: Sequence[pd.DataFrame] = (),
    settings: Statistics = DEFAULTS,
) -> pd.DataFrame:
    """Return CURVES of `runs`, whose SEQUENCE_SCORES and SEQUENCE_HEALTH belong to them one by one.

    `unrelated` has, also by run, the scores of cases with unrelated edits around them: checkpoint, cluster,
    `measure` (a metric of the cases, with `:before`, `:between` or `:after` where those edits stand) and
    value. The mean over orders is left out at a checkpoint that one of them did not reach.
    """
    parts = []
    others = unrelated or [pd.DataFrame(columns=["checkpoint", "cluster", "measure", "value"])] * len(runs)
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
    return pd.concat(parts)[["measure", "age", "checkpoint", "cluster", "value"]]


def age_group(age: int) -> str:
    """Return the group of an age, such as 10-49."""
    if age < AGES[0]:
        return str(age)
    place = int(np.searchsorted(AGES, age, side="right"))
    return f"{AGES[place - 1]}-{AGES[place] - 1}" if place < len(AGES) else f"{AGES[-1]}-"


def _means(
    observed: Mapping[str, pd.DataFrame], names: Sequence[str], settings: Statistics
) -> Iterator[dict[str, Any]]:
    """Yield a row per order, measure, age and checkpoint; the mean over orders weighs them alike."""
    rows = pd.concat([frame.assign(order=order) for order, frame in observed.items()])
    rows = rows.dropna(subset="value")
    for key, part in rows.groupby(["measure", "age", "checkpoint"], sort=False):
        about = dict(zip(("measure", "age", "checkpoint"), key, strict=True))
        present = dict(list(part.groupby("order", sort=False)))
        if len(present) == len(observed):
            yield {**about, "order": ALL, **_estimate(part, about["measure"], names, settings)}
        for order, one in present.items() if len(observed) > 1 else ():
            yield {**about, "order": order, **_estimate(one, about["measure"], names, settings)}


def _estimate(rows: pd.DataFrame, measure: str, names: Sequence[str], settings: Statistics) -> dict[str, Any]:
    """Return the mean of some rows with its interval over clusters, and over orders where there are
    several.
    """
    entry = find_metric(measure.partition(":")[0])
    rng = generator(settings.seed, "resamples", *names, measure)
    scale = entry.scale if entry else SHARE
    values, clusters = rows["value"].to_numpy(float)[:, None], rows["cluster"].to_numpy()
    found = estimates(values, clusters, [scale], rng, settings).iloc[0]
    by_order = rows.groupby("order", sort=False)["value"].mean().to_numpy()
    low, high = widened(found["value"], found["low"], found["high"], by_order, settings.level)
    if scale == SHARE:
        low, high = max(low, 0.0), min(high, 1.0)
    figures = {name: found[name] for name in ("value", "low", "high", "n", "clusters")}
    return {**figures, "low_with_orders": low, "high_with_orders": high, "orders": len(by_order)}


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
