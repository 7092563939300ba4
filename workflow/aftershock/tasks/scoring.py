"""Outputs of an engine as values of metrics, item by item. Nothing here loads torch."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from aftershock.matching import names, normal
from aftershock.tables.sequences import TASK_SCORES
from aftershock.tasks.definition import Task
from aftershock.tasks.metrics import METRICS, Outcome


def score_items(task: Task, items: pd.DataFrame, outputs: pd.DataFrame) -> pd.DataFrame:
    """Return TASK_SCORES: a row for each checkpoint, item and metric of a task.

    `items` is TASK_ITEMS and `outputs` TASK_OUTPUTS of them. ValueError when an output is of no item, or an
    item has no output at a checkpoint.
    """
    by_id = {item["item_id"]: item for item in items.to_dict("records")}
    if unknown := sorted(set(outputs["item_id"]) - set(by_id)):
        raise ValueError(f"task {task.name}: outputs of unknown items: {', '.join(unknown[:5])}")
    rows: list[dict[str, Any]] = []
    for checkpoint, of_checkpoint in outputs.groupby("checkpoint", sort=True):
        said = {output["item_id"]: output for output in of_checkpoint.to_dict("records")}
        if missing := [item for item in by_id if item not in said]:
            raise ValueError(
                f"task {task.name}: {len(missing)} items have no output after {checkpoint} edits, "
                f"the first is {missing[0]}"
            )
        outcomes = [_outcome(item, said[item_id]) for item_id, item in by_id.items()]
        for metric in task.metrics:
            for item, score in zip(by_id.values(), METRICS[metric].score(outcomes, task.parse), strict=True):
                key = {"checkpoint": checkpoint, "item_id": item["item_id"], "metric": metric}
                rows.append({**key, "group": item["group"], **vars(score)})
    return pd.DataFrame(rows, columns=list(TASK_SCORES.columns))


def combine(metric: str, scores: pd.DataFrame) -> float:
    """Return a metric's value of many items, from rows of TASK_SCORES of this metric at one checkpoint."""
    return METRICS[metric].combine(scores)


def _outcome(item: dict[str, Any], output: dict[str, Any]) -> Outcome:
    return Outcome(
        prompt=item["prompt"],
        group=item["group"] or "",
        choices=list(item["choices"]),
        gold=None if pd.isna(item["gold"]) else int(item["gold"]),
        answers=list(item["answers"]),
        logprobs=list(output["logprobs"]),
        n_tokens=list(output["n_tokens"]),
        text="" if pd.isna(output["text"]) else output["text"],
        finished=False if pd.isna(output["finished"]) else bool(output["finished"]),
    )


# --- items that ask about an edited fact --------------------------------------------------------------------


def asks_about(items: pd.DataFrame, edits: pd.DataFrame) -> pd.Series:
    """Return which items ask about a fact that is edited; see `edits_asked_about`."""
    return edits_asked_about(items, edits).map(bool)


def edits_asked_about(items: pd.DataFrame, edits: pd.DataFrame) -> pd.Series:
    """Return for each item the ids of the edits whose facts it asks about, as a list.

    An item asks about an edit when its `about` names the subject, or when its question names the subject and
    the true or the new object is one of its answers or choices, or stands in the question too, where options
    are listed under letters. Names are whole words, whatever their case.
    """
    subjects = [
        (int(edit.edit_id), normal(edit.subject), [normal(edit.target_true), normal(edit.target_new)])
        for edit in edits.itertuples()
    ]
    found = []
    for item in items.itertuples():
        question = normal(item.question)
        about = {normal(name) for name in item.about}
        answers = {normal(text) for text in [*item.answers, *item.choices]}
        asked = _asked(subjects, question, about, answers)
        found.append(list(asked))
    return pd.Series(found, index=items.index, dtype=object)


def _asked(
    edits: list[tuple[int, str, list[str]]], question: str, about: set[str], answers: set[str]
) -> Iterator[int]:
    for edit_id, subject, objects in edits:
        asked = subject in question and names(question, subject) and _named(objects, question, answers)
        if subject and (asked or subject in about):
            yield edit_id


def _named(objects: list[str], question: str, answers: set[str]) -> bool:
    return any(name and (name in answers or names(question, name)) for name in objects)
