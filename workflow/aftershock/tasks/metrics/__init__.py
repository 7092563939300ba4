"""Metrics of tasks by name: their value for one item, and their value for many.

    outcome     an item with its output, and a metric's value for it
    choices, generated, released    values of one item: of choices, of texts, as published code computes them
    many        values of many items

A metric of one item is a Score. Of many it is the mean of values unless the metric says otherwise; what this
needs beside values (counts, classes) is in the Score too, so that items can be drawn again, paired and left
out without asking a model anything.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from aftershock.tasks.agreement import rouge_l, rouge_n, token_f1
from aftershock.tasks.metrics import choices, generated, many, released
from aftershock.tasks.metrics.outcome import Outcome, Score

__all__ = ["METRICS", "Outcome", "Score", "TaskMetric"]

Scorer = Callable[[Sequence[Outcome], Mapping[str, Any]], list[Score]]
Combine = Callable[[pd.DataFrame], float]


@dataclass(frozen=True)
class TaskMetric:
    """A metric of one kind of task."""

    kind: str
    score: Scorer
    """Scores of all items of a task at one checkpoint, in the order of the items."""
    combine: Combine = many.mean
    """Value of many items, from a table with the fields of Score and `group` as columns."""


def _each(function: Callable[..., Score], *arguments: Any, **settings: Any) -> Scorer:
    def score(outcomes: Sequence[Outcome], how: Mapping[str, Any]) -> list[Score]:
        return [function(outcome, how, *arguments, **settings) for outcome in outcomes]

    return score


def _one_by_one(function: Callable[[Outcome], Score]) -> Scorer:
    return lambda outcomes, how: [function(outcome) for outcome in outcomes]


def _of_choices(value: Callable[[np.ndarray, Outcome], float], per: str) -> Scorer:
    return _one_by_one(partial(choices.score_choice, per=per, value=value))


def _agreeing(agreement: Callable[[str, str], float]) -> Scorer:
    return _each(generated.score_text, partial(generated.best, agreement=agreement))


def _choice_metrics() -> dict[str, TaskMetric]:
    found: dict[str, TaskMetric] = {}
    for per in choices.LENGTHS:
        right = _of_choices(choices.correct, per)
        found |= {
            f"acc{per}": TaskMetric("choice", right),
            f"balanced_acc{per}": TaskMetric("choice", right, many.mean_of_classes),
            f"weighted_f1{per}": TaskMetric("choice", right, many.weighted_f1),
            f"mrr{per}": TaskMetric("choice", _of_choices(choices.reciprocal_rank, per)),
            f"recall_at_2{per}": TaskMetric("choice", _of_choices(partial(choices.within, k=2), per)),
        }
    found["mc2"] = TaskMetric("choice", _of_choices(choices.mass_of_true, ""))
    found["auc"] = TaskMetric("choice", _one_by_one(choices.log_odds), many.area)
    return found


_EXACT = _each(generated.score_text, generated.equal)

METRICS: dict[str, TaskMetric] = {
    **_choice_metrics(),
    "exact_match": TaskMetric("generate", _EXACT),
    "exact_match_of_parsed": TaskMetric("generate", _EXACT, many.mean_of_parsed),
    "balanced_exact_match": TaskMetric("generate", _each(generated.classified), many.mean_of_classes),
    "weighted_f1_of_words": TaskMetric("generate", _each(generated.classified), many.weighted_f1),
    "f1": TaskMetric("generate", _agreeing(token_f1)),
    "contains": TaskMetric("generate", _each(generated.contains)),
    "rouge1": TaskMetric("generate", _agreeing(partial(rouge_n, n=1))),
    "rouge2": TaskMetric("generate", _agreeing(partial(rouge_n, n=2))),
    "rougeL": TaskMetric("generate", _agreeing(rouge_l)),
    "entity_f1": TaskMetric("generate", _each(generated.entities), many.micro_f1),
    "instructions_followed": TaskMetric("generate", _each(generated.instructions)),
    "instructions_followed_each": TaskMetric("generate", _each(generated.instructions), many.per_found),
    "entity_recall_released": TaskMetric(
        "generate", _each(released.entities_released), many.recall_of_groups
    ),
    "rouge_released": TaskMetric("generate", _each(released.rouge_released)),
    "spans_released": TaskMetric("generate", released.spans_released),
    "perplexity": TaskMetric("perplexity", _each(generated.nll), many.perplexity),
    "nll": TaskMetric("perplexity", _each(generated.nll), many.per_found),
    "bits_per_byte": TaskMetric("perplexity", _each(generated.bits), many.per_found),
}
"""The metrics that a task's file may name."""
