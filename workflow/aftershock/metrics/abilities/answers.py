"""Answers to the items of a task: what they hold that says how a model comes by its score."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from aftershock.metrics.abilities.settings import TaskInfo
from aftershock.metrics.intervals import FEW
from aftershock.tables.abilities import TASK_ANSWERS, TASK_SCORES

NGRAM = 3
"""Words of the n-grams whose repetition is counted; characters in a text of fewer words."""


def answers(
    task: TaskInfo,
    items: pd.DataFrame,
    outputs: pd.DataFrame,
    scored: pd.DataFrame,
    about_edit: Sequence[bool] | np.ndarray,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return TASK_ANSWERS and TASK_SCORES of one task.

    `items` are TASK_ITEMS and `outputs` TASK_OUTPUTS of any checkpoints; `scored` has the value, `parsed` and
    `prediction` of every (checkpoint, item_id, metric); `about_edit` says of each item that it asks about a
    fact that the sequence edits.
    """
    labels, clusters = gold_labels(items), item_clusters(items)
    of_item = pd.DataFrame(
        {"cluster": clusters, "about_edit": np.asarray(about_edit, bool), "gold": labels,
         "n_choices": items["choices"].map(len).to_numpy(),
         "gold_second": items["gold"].eq(1).fillna(False) if task.two_way else None},
    ).set_axis(items["item_id"].to_numpy())  # fmt: skip
    told = scored.groupby(["checkpoint", "item_id"], sort=False)[["parsed", "prediction"]].first()
    rows = outputs[["checkpoint", "item_id", "truncated"]].join(of_item, on="item_id")
    rows = rows.join(told, on=["checkpoint", "item_id"])
    generated = task.kind == "generate"
    rows["margin"] = [_margin(each) if task.two_way else np.nan for each in outputs["logprobs"]]
    rows["repetition"] = [repetition(text) if generated else np.nan for text in outputs["text"]]
    rows["parsed"] = rows["parsed"].eq(True)
    made = rows.assign(task=task.name)[list(TASK_ANSWERS.columns)]
    return made, scored.assign(task=task.name)[list(TASK_SCORES.columns)].reset_index(drop=True)


def _margin(logprobs: Sequence[float]) -> float:
    """Return how much likelier the second of two choices is, in nats."""
    return float(logprobs[1] - logprobs[0]) if logprobs is not None and len(logprobs) == 2 else np.nan


def gold_labels(items: pd.DataFrame) -> list[str | None]:
    """Return the right class of each item: the choice where all items share theirs, else its place; the first
    answer of an item without choices.
    """
    shared = len({tuple(choices) for choices in items["choices"]}) == 1
    found: list[str | None] = []
    for item in items.itertuples():
        if len(item.choices) and pd.notna(item.gold):
            found.append(str(item.choices[int(item.gold)]) if shared else str(int(item.gold)))
        else:
            found.append(normalised(item.answers[0]) if len(item.answers) else None)
    return found


def normalised(text: str) -> str:
    """Return `text` in lower case with single spaces."""
    return " ".join(str(text).lower().split())


def item_clusters(items: pd.DataFrame) -> list[str]:
    """Return the cluster of each item: its group, or itself where groups are fewer than intervals need.

    Few groups are the parts of a benchmark, not a sample of parts.
    """
    groups = items["group"]
    if groups.nunique() < FEW:
        return list(items["item_id"])
    return [group if isinstance(group, str) else one for group, one in zip(groups, items["item_id"])]


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
