"""Metrics of many items at once, which no mean over items is, for any number of weightings of the items.

A resample of clusters is a row of weights, so that intervals cost a few products of matrices. `many` has what
was answered to each item, `weights` is (weightings, items); each function returns a value per weighting.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Answered:
    """What was answered to some items and is right: classes as numbers, and margins of two-way items."""

    gold: np.ndarray
    prediction: np.ndarray  # -1 where no answer could be read
    margin: np.ndarray
    gold_second: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Answered":
        """Return the answers in TASK_ANSWERS rows of one checkpoint."""
        classes = pd.Index(rows["gold"].dropna().unique())
        return cls(
            classes.get_indexer(rows["gold"]),
            classes.get_indexer(rows["prediction"]),
            rows["margin"].to_numpy(float),
            rows["gold_second"].eq(True).to_numpy(),
        )


def auc(many: Answered, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve of the margins: how often an item whose second choice is right has
    the larger one, ties counted half.
    """
    known = np.flatnonzero(np.isfinite(many.margin))
    order = known[np.argsort(many.margin[known], kind="stable")]
    starts = np.flatnonzero(np.diff(many.margin[order], prepend=-np.inf))
    if not len(starts):
        return np.full(len(weights), np.nan)
    sides = (many.gold_second[order], ~many.gold_second[order])
    positive, negative = (np.add.reduceat(weights[:, order] * side, starts, axis=1) for side in sides)
    below = np.cumsum(negative, axis=1) - negative / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return (positive * below).sum(1) / (positive.sum(1) * negative.sum(1))


def _by_class(many: Answered, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weighted numbers of right, of given and of existing answers, (weightings, classes)."""
    classes = np.arange(many.gold.max(initial=-1) + 1)
    gold, given = many.gold[:, None] == classes, many.prediction[:, None] == classes
    return tuple(weights @ part.astype(float) for part in (gold & given, given, gold))  # type: ignore[return-value]


def balanced_accuracy(many: Answered, weights: np.ndarray) -> np.ndarray:
    """Return the mean over classes of the share of their items that is answered rightly."""
    right, _, existing = _by_class(many, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _mean(np.where(existing > 0, right / existing, np.nan))


def weighted_f1(many: Answered, weights: np.ndarray) -> np.ndarray:
    """Return the mean over classes of their F1, weighted by their number of items."""
    right, given, existing = _by_class(many, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = np.where(given + existing > 0, 2 * right / (given + existing), 0.0)
        return (f1 * existing).sum(1) / existing.sum(1)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row's filled entries."""
    filled = ~np.isnan(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(filled, values, 0.0).sum(1) / filled.sum(1)


OF_MANY: Mapping[str, Callable[[Answered, np.ndarray], np.ndarray]] = {
    "auc": auc,
    "balanced_acc": balanced_accuracy,
    "weighted_f1": weighted_f1,
}
"""The metrics of many items by name; any other one is a mean over items."""
