"""Answers to the items of a task: what they hold that says how a model comes by its score."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from aftershock.metrics.abilities.settings import TaskInfo
from aftershock.metrics.intervals import FEW
from aftershock.tables.abilities import ITEM_ANSWERS

NGRAM = 3
"""Words of the n-grams whose repetition is counted; characters in a text of fewer words."""


def answers(
    task: TaskInfo,
    items: pd.DataFrame,
    outputs: pd.DataFrame,
    scores: pd.DataFrame,
    about_edit: Sequence[bool] | np.ndarray,
) -> pd.DataFrame:
    """Return ITEM_ANSWERS of one task at the checkpoints of `outputs`.

    `items` are TASK_ITEMS, `outputs` TASK_OUTPUTS and `scores` TASK_SCORES; `about_edit` says of each item
    that it asks about a fact that the sequence edits.
    """
    of_item = pd.DataFrame(
        {
            "cluster": item_clusters(items),
            "about_edit": np.asarray(about_edit, bool),
            "n_choices": items["choices"].map(len).to_numpy(),
            "choices": items["choices"].to_numpy(),
        },
        index=items["item_id"].to_numpy(),
    )
    headline = scores[scores["metric"] == task.headline]
    rows = headline.join(of_item, on="item_id").merge(
        outputs[["checkpoint", "item_id", "text", "truncated"]], on=["checkpoint", "item_id"]
    )
    shared = len({tuple(choices) for choices in items["choices"]}) == 1
    for name in ("gold", "prediction"):
        rows[name] = [
            _class(text, choices, shared) for text, choices in zip(rows[name], rows["choices"], strict=True)
        ]
    if not shared and (of_item["n_choices"] > 0).any():
        rows["gold"] = None  # which place is right says nothing: some data have the right choice always first
    rows["repetition"] = [repetition(text) if isinstance(text, str) else np.nan for text in rows["text"]]
    return rows.assign(task=task.name)[list(ITEM_ANSWERS.columns)]


def _class(text: str, choices: Sequence[str], shared: bool) -> str | None:
    """Return an answer as a class: a choice that all items share, or its place among an item's own ones."""
    if not text:
        return None
    if shared or not len(choices):
        return " ".join(text.lower().split())
    places = [place for place, choice in enumerate(choices) if choice.strip() == text]
    return str(places[0]) if places else None


def item_clusters(items: pd.DataFrame) -> list[str]:
    """Return the cluster of each item: its group, or itself where groups are fewer than intervals need.

    Few groups are the parts of a benchmark, not a sample of parts.
    """
    groups = items["group"]
    if groups.nunique() < FEW:
        return list(items["item_id"])
    return [
        group if isinstance(group, str) else one for group, one in zip(groups, items["item_id"], strict=True)
    ]


def repetition(text: str | None) -> float:
    """Return the share of the n-grams of a text that repeat an earlier one; empty for a text without any.

    1 - different n-grams / n-grams, as Welleck et al. (2020) have it.
    """
    tokens: Sequence[str] = re.findall(r"\w+|[^\w\s]", text or "")
    if len(tokens) < NGRAM:
        tokens = "".join((text or "").split())
    grams = [tuple(tokens[i : i + NGRAM]) for i in range(len(tokens) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else np.nan


def entropy(given: pd.Series) -> float:
    """Return the entropy of what was answered, in bits: 0 when it is always the same; empty for no answer.

    An answer that could not be read is one like any other.
    """
    shares = given.fillna("").value_counts(normalize=True).to_numpy()
    return float(-(shares * np.log2(shares)).sum()) if len(shares) else np.nan
