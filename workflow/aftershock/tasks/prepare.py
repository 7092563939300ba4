"""Rows of a benchmark as the items of a task, with the examples before them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pandas as pd

from aftershock.seeds import derive
from aftershock.tables.sequences import TASK_ITEMS
from aftershock.tasks.definition import Task
from aftershock.tasks.templates import evaluate, render, texts

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Prepared:
    """The items of a task, and how many there could have been."""

    items: pd.DataFrame
    counts: Mapping[str, int]
    """Items that were asked for, that could be made, and that have fewer examples than the task's shots."""


def prepare_items(
    task: Task, rows: Sequence[Row], example_rows: Sequence[Row], n_items: int | None, seed: int
) -> Prepared:
    """Return up to `n_items` items of a task (None: all), in the order of the source.

    They are drawn by a hash of the rows' places and the seed alone: tasks over the same rows ask about the
    same ones, and a smaller number of items is part of a larger one. Items out of one row stay together.
    ValueError names a row that does not fit the task's templates, and a source without any item.
    """
    found = list(_fields(task, rows))
    chosen = _drawn(found, n_items, seed)
    if not chosen:
        raise ValueError(f"task {task.name}: {len(rows)} rows make no item; look at its item.where and data")
    pool = _pool(task, found, example_rows, seed)
    items, wanting = [], 0
    for fields in chosen:
        with _naming(task, fields["number"]):
            item = _item(task, fields)
            shown = _shown(task, fields, pool)
            before = render(task.item["before"], fields)
            examples = "".join(text + task.examples["between"] for text in shown)
            item["prompt"] = "" if task.kind == "perplexity" else before + examples + item["question"]
            items.append(item)
            wanting += len(shown) < _rows_shown(task)
    frame = pd.DataFrame(items, columns=list(TASK_ITEMS.columns)).astype({"gold": "Int64"})
    counts = {"asked": n_items or len(found), "items": len(frame), "possible": len(found)}
    return Prepared(frame, {**counts, "fewer_examples": wanting})


def account(prepared: Prepared) -> Iterator[str]:
    """Yield that there are fewer items than asked for, or fewer examples than a task's shots."""
    counts = prepared.counts
    if counts["items"] == counts["possible"] < counts["asked"]:
        yield f"{counts['items']} items, of {counts['asked']} that were asked for: its files have no more"
    if counts["fewer_examples"]:
        of = f"{counts['fewer_examples']} of {counts['items']}"
        yield f"{of} items have fewer examples than the task's shots"


def _fields(task: Task, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yield the fields of what rows ask, where the task takes it; `prepare` may make several of one row."""
    for number, row in enumerate(rows):
        with _naming(task, number):
            for part in _expanded(task, row):
                fields = {**part, "row": part, "number": number}
                if evaluate(task.item["where"], fields):
                    yield fields


def _expanded(task: Task, row: Row) -> Sequence[Row]:
    """Return what the task's function `prepare` makes of a row of files; the row itself without one."""
    if not task.prepare or task.source != "files":
        return [row]
    module, _, name = task.prepare.partition(":")
    return getattr(import_module(module), name)(row)


@contextmanager
def _naming(task: Task, number: int) -> Iterator[None]:
    """Name the task and the row in an error about a row's contents."""
    try:
        yield
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"task {task.name}, row {number}: {error}") from error


def _drawn(found: Sequence[Mapping[str, Any]], n_items: int | None, seed: int) -> Sequence[Mapping[str, Any]]:
    """Return the items of rows with the smallest hashes, as long as all of a row's are within the number."""
    if n_items is None:
        return found
    by_row: dict[int, list[Mapping[str, Any]]] = {}
    for fields in found:
        by_row.setdefault(fields["number"], []).append(fields)
    taken: set[int] = set()
    free = n_items
    for number in sorted(by_row, key=lambda number: derive(seed, "items", number)):
        if taken and len(by_row[number]) > free:
            break
        taken.add(number)
        free -= len(by_row[number])
    return [fields for fields in found if fields["number"] in taken]


def _item(task: Task, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return one item without its prompt; ValueError when it contradicts itself."""
    form = task.item
    choices = texts(form["choices"], fields)
    gold = None if form["gold"] is None else evaluate(form["gold"], fields)
    answers = texts(form["answers"], fields)
    if task.kind == "choice" and (type(gold) is not int or not 0 <= gold < len(choices)):
        raise ValueError(
            f"item.gold is {gold!r}; expected the place of one of {len(choices)} choices, from 0"
        )
    if task.kind == "perplexity" and not any(answer.strip() for answer in answers[:1]):
        raise ValueError(f"item.answers are {answers!r}; expected a text that is not empty")
    if task.kind == "generate" and not any(map(str.strip, answers)) and not _may_be_none(task):
        raise ValueError(f"item.answers are {answers!r}; expected an answer that is not empty")
    if task.kind == "choice" and len(choices) < 2:
        raise ValueError(f"item.choices are {choices!r}; expected two or more")
    if any(not choice.strip() for choice in choices):
        raise ValueError(f"item.choices are {choices!r}; expected texts that are not empty")
    return {
        "item_id": render(form["id"], fields),
        "group": render(form["group"], fields) or None,
        "question": render(form["question"], fields),
        "choices": choices,
        "gold": gold,
        "answers": answers,
        "about": texts(form["about"], fields),
    }


def _may_be_none(task: Task) -> bool:
    """True if an item may ask for nothing: for entities, or for what a function of the task finds in rows."""
    return bool(task.prepare) or any(metric.startswith("entity_") for metric in task.metrics)


# --- examples ---------------------------------------------------------------------------------------------


def _rows_shown(task: Task) -> int:
    return (task.examples["rows"] or task.shots) if task.shots else 0


def _pool(
    task: Task, found: Sequence[Mapping[str, Any]], example_rows: Sequence[Row], seed: int
) -> dict[Any, list[str]]:
    """Return the texts of examples by the value that they share with items, those to be shown first in front.

    More than are shown are kept, for items that are among them.
    """
    if not task.shots:
        return {}
    rows = list(found if task.examples["part"] == "items" else _example_fields(task, example_rows))
    if task.examples["draw"] == "seeded":
        rows.sort(key=lambda fields: derive(seed, "examples", fields["number"]))
    pool: dict[Any, list[str]] = {}
    for fields in rows:
        with _naming(task, fields["number"]):
            if evaluate(task.examples["where"], fields):
                group = pool.setdefault(_shared(task, fields), [])
                if len(group) < 2 * _rows_shown(task):
                    group.append(_example(task, fields))
    if not pool:
        raise ValueError(f"task {task.name}: none of {len(rows)} rows is an example; look at examples.where")
    return pool


def _example_fields(task: Task, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        for part in _expanded(task, row):
            yield {**part, "row": part, "number": number}


def _shared(task: Task, fields: Mapping[str, Any]) -> Any:
    """Return the value that an item and its examples have in common."""
    value = evaluate(task.examples["same"], fields)
    return tuple(value) if isinstance(value, list) else value


def _example(task: Task, fields: Mapping[str, Any]) -> str:
    """Return a row as it is shown: by the task's own text of examples, or the question and its answer."""
    if task.examples["text"] is not None:
        return render(task.examples["text"], fields)
    item = _item(task, fields)
    answer = item["choices"][item["gold"]] if task.kind == "choice" else f" {item['answers'][0]}"
    return item["question"] + answer


def _shown(task: Task, fields: Mapping[str, Any], pool: Mapping[Any, Sequence[str]]) -> list[str]:
    """Return the examples before an item, none of which holds its question."""
    if not task.shots:
        return []
    question = render(task.item["question"], fields).strip()
    others = [text for text in pool.get(_shared(task, fields), ()) if question not in text]
    return others[: _rows_shown(task)]
