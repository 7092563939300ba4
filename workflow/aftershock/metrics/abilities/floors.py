"""Scores that a model reaches on a task by accident: by guessing, or by always giving one answer.

The floor is the chance of a guess, or the share of the commonest answer where that is higher: with two
classes always, with more where it is so beyond sampling noise, as the commonest of many places is a matter of
luck. What a model retains of an ability is counted from there: by accuracy alone, a model that comes to say
one class and no other may look better than before.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from aftershock.metrics.abilities.many_items import base_of
from aftershock.metrics.abilities.settings import PERPLEXITY, TaskInfo
from aftershock.metrics.intervals import wilson

EXACT = ("acc", "exact_match", "exact_match_of_parsed", "contains")
"""Metrics that always giving the commonest answer scores its share on."""

WEIGHTED_F1 = ("weighted_f1", "weighted_f1_of_words")
"""Means over classes of their F1, weighted by their size; a constant answer has that of its own class."""

HALF = ("auc", "balanced_acc", "balanced_exact_match")
"""Metrics that any constant answer and any random one has the same value of, half for two classes."""


@dataclass(frozen=True)
class Floor:
    """The chance of a guess, the share of the commonest answer, and what counts of them."""

    chance: float
    majority: float
    floor: float


def floor_of(task: TaskInfo, metric: str, items: pd.DataFrame, level: float) -> Floor:
    """Return what is reached by accident; `items` has `gold`, a class, and `n_choices` of the counted
    items.
    """
    base, classes = base_of(metric), items["gold"].dropna()
    if task.kind == PERPLEXITY:
        return Floor(np.nan, np.nan, np.nan)
    if base in HALF:
        chance = 0.5 if base == "auc" else 1 / max(1, classes.nunique())
        return Floor(chance, np.nan, chance)
    choices = items["n_choices"].to_numpy(float)
    guess = _guess(base, choices[choices > 0])
    chance = task.chance if task.chance is not None and metric == task.headline else guess
    if base not in (*EXACT, *WEIGHTED_F1) or classes.empty:
        return Floor(chance, np.nan, chance)
    share = float(classes.value_counts(normalize=True).iloc[0])
    majority = 2 * share**2 / (1 + share) if base in WEIGHTED_F1 else share
    noted = classes.nunique() == 2 or wilson(share, len(classes), level)[0] > chance
    return Floor(chance, majority, max(majority, chance) if noted else chance)


def _guess(base: str, choices: np.ndarray) -> float:
    """Return the mean score of a guess among so many choices of each item; 0 where there are none."""
    if not len(choices):
        return 0.0
    if base == "mrr":  # of all places alike
        return float(np.mean([np.mean(1 / np.arange(1, n + 1)) for n in choices]))
    places = 2 if base == "recall_at_2" else 1
    return float(np.minimum(1, places / choices).mean())
