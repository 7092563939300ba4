"""Metrics of many items at once, which no mean over items is, for any number of weightings of the items.

A resample of clusters is a row of weights, so that intervals cost a few products of matrices. `many` holds
what tasks note of each item; `weights` is (weightings, items), and each function returns a value per
weighting. With all weights 1 the values are those of `tasks.metrics`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

Weighted: TypeAlias = np.ndarray
LARGEST = 700.0
"""Surprise per token, in nats, beyond which a perplexity is no number that a computer has."""


@dataclass(frozen=True)
class Noted:
    """Observations of some items; classes and groups are numbers from 0, a prediction of no class is -1."""

    value: np.ndarray
    parsed: np.ndarray
    gold: np.ndarray
    prediction: np.ndarray
    group: np.ndarray
    hits: np.ndarray
    found: np.ndarray
    wanted: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Noted":
        """Return the columns of TASK_SCORES rows of one metric and checkpoint."""
        classes = pd.Index(rows["gold"].unique())
        sums = (rows[name].to_numpy(float) for name in ("hits", "found", "wanted"))
        return cls(
            rows["value"].to_numpy(float),
            rows["parsed"].to_numpy(bool),
            classes.get_indexer(rows["gold"]),
            np.where(rows["parsed"], classes.get_indexer(rows["prediction"]), -1),
            pd.factorize(rows["group"].fillna(""))[0],
            *sums,
        )


def divided(over: Weighted, under: Weighted) -> Weighted:
    """Return a quotient, empty where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(under > 0, over / under, np.nan)


def mean_of_parsed(many: Noted, weights: Weighted) -> Weighted:
    """Return the mean over the items whose answer could be read; 0 where none could, as of a model that
    says nothing any more.
    """
    right = weights @ np.where(many.parsed, many.value, 0.0)
    return np.nan_to_num(divided(right, weights @ many.parsed.astype(float)))


def mean_of_classes(many: Noted, weights: Weighted) -> Weighted:
    """Return the mean over classes of the mean over their items."""
    own = _columns(many.gold)
    return _mean(divided(weights @ (own * many.value[:, None]), weights @ own))


def area(many: Noted, weights: Weighted) -> Weighted:
    """Return the area under the ROC curve: how often an item of the second class is above one of the first,
    ties counted half.
    """
    known = np.flatnonzero(np.isfinite(many.value))
    order = known[np.argsort(many.value[known], kind="stable")]
    starts = np.flatnonzero(np.diff(many.value[order], prepend=-np.inf))
    if not len(starts):
        return np.full(len(weights), np.nan)
    second = many.hits[order] > 0
    above, below = (np.add.reduceat(weights[:, order] * side, starts, axis=1) for side in (second, ~second))
    lower = np.cumsum(below, axis=1) - below / 2
    return divided((above * lower).sum(1), above.sum(1) * below.sum(1))


def weighted_f1(many: Noted, weights: Weighted) -> Weighted:
    """Return the mean over classes of their F1, weighted by their number of items."""
    gold = _columns(many.gold)
    given = many.prediction[:, None] == np.arange(gold.shape[1])
    right, named, existing = (weights @ part.astype(float) for part in (gold * given, given, gold))
    f1 = np.nan_to_num(divided(2 * right, named + existing))
    return divided((f1 * existing).sum(1), existing.sum(1))


def micro_f1(many: Noted, weights: Weighted) -> Weighted:
    """Return the F1 of the entities of all items together."""
    hits, found, wanted = (weights @ np.nan_to_num(x) for x in (many.hits, many.found, many.wanted))
    return np.nan_to_num(divided(2 * hits, found + wanted))


def recall_of_groups(many: Noted, weights: Weighted) -> Weighted:
    """Return the mean over groups of the share of what is wanted that is there."""
    groups = _columns(many.group)
    hits, wanted = (weights @ (groups * np.nan_to_num(x)[:, None]) for x in (many.hits, many.wanted))
    return _mean(divided(hits, wanted))


def per_found(many: Noted, weights: Weighted) -> Weighted:
    """Return the surprise per token, or per byte, of all texts together."""
    return divided(weights @ many.hits, weights @ many.found)


def perplexity(many: Noted, weights: Weighted) -> Weighted:
    """Return the perplexity of all texts together, at most e to the power of LARGEST."""
    return np.exp(np.minimum(per_found(many, weights), LARGEST))


def _columns(code: np.ndarray) -> np.ndarray:
    """Return a column of 0 and 1 for each class or group, (items, classes)."""
    return (code[:, None] == np.arange(code.max(initial=-1) + 1)).astype(float)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row's filled entries."""
    filled = ~np.isnan(values)
    return divided(np.where(filled, values, 0.0).sum(1), filled.sum(1))


OF_MANY: Mapping[str, Callable[[Noted, Weighted], Weighted]] = {
    "auc": area,
    "balanced_acc": mean_of_classes,
    "balanced_exact_match": mean_of_classes,
    "bits_per_byte": per_found,
    "entity_f1": micro_f1,
    "entity_recall_released": recall_of_groups,
    "exact_match_of_parsed": mean_of_parsed,
    "instructions_followed_each": per_found,
    "nll": per_found,
    "perplexity": perplexity,
    "weighted_f1": weighted_f1,
    "weighted_f1_of_words": weighted_f1,
}
"""The metrics of many items by name; any other one is a mean over items."""

RATIOS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "perplexity": lambda value: value,
    "nll": np.exp,
    "bits_per_byte": np.exp2,
}
"""Metrics of texts scored whole, lower ones better, each as a perplexity."""

LENGTHS = ("_per_token", "_per_character")
"""Endings of metrics that compare choices by their length."""


def base_of(metric: str) -> str:
    """Return the name of a metric without what the log-probabilities of choices are divided by."""
    return next((metric.removesuffix(end) for end in LENGTHS if metric.endswith(end)), metric)
