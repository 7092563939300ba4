"""The section of a page about sequences of edits: sentences, a map of methods and tasks, single items."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from aftershock.metrics.abilities.collapse import ABRUPT, GRADUAL, NONE, TOGETHER, UNCLEAR
from aftershock.metrics.abilities.settings import ALL, TaskInfo
from aftershock.page.embed import Words, numbers
from aftershock.page.figures import Picture
from aftershock.page.ranking import percent
from aftershock.words import listed

BUDGET = 300_000
"""Characters of items and outputs that a page holds; fewer items of each task where there are more."""

LONGEST = 400
"""Characters of one output on the page."""

MOMENTS = 4
"""Checkpoints at which single items are shown, the unedited model and the last one among them."""

KINDS = {
    ABRUPT: "lost at once",
    GRADUAL: "lost little by little",
    UNCLEAR: "lost, between checkpoints that are missing",
}


SEQUENCE_TABLES = ("abilities", "curves", "collapses")
"""Tables of which the page shows the means over orders."""


def over_orders(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are means over orders, with yes, no and neither as such."""
    rows = table[table["order"] == ALL].reset_index(drop=True)
    return rows.astype({name: "boolean" for name in ("significant", "above_chance") if name in rows})


@dataclass(frozen=True)
class SequenceResults:
    """Input of the section: tables by name, pictures, tasks, and ITEM_EXAMPLES by run."""

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    tasks: Sequence[TaskInfo] = ()
    pictures: Sequence[Picture] = ()
    runs: Sequence[Mapping[str, Any]] = ()
    examples: Sequence[pd.DataFrame] = ()


def told_of_sequences(results: SequenceResults) -> list[str]:
    """Return the changes of abilities, as sentences for each model and plan."""
    if "abilities" not in results.tables:
        return []
    alike: dict[tuple[str, str], list[str]] = {}
    for model, plan in _places(results):
        alike.setdefault((model, _what_can_be_lost(results, model, plan)), []).append(plan)
    lines = []
    for (model, said), plans in alike.items():
        lines.append(f"{model}, {listed(plans)}: {said}")
        for plan in plans:
            about = f"{plan}: " if len(plans) > 1 else ""
            lines += [f"{about}{line}" for line in _sentences(results, model, plan)]
    return lines


def _places(results: SequenceResults) -> list[tuple[str, str]]:
    rows = results.tables["abilities"]
    return [(str(m), str(p)) for m, p in rows[["model", "plan"]].drop_duplicates().itertuples(index=False)]


def _what_can_be_lost(results: SequenceResults, model: str, plan: str) -> str:
    rows = _of(results.tables["abilities"], model, plan)
    names = {task.name: task.words for task in results.tasks}
    first = rows[rows["headline"]].drop_duplicates("task")
    weak = [names.get(t, t) for t in first.loc[first["above_chance"].eq(False), "task"]]
    able = int(first["above_chance"].eq(True).sum())
    guessed = int(first["above_chance"].notna().sum())  # a perplexity has no value by accident
    text = f"of {guessed} tasks the unedited model does {able} better than by accident"
    return text + (
        f"; at {listed(weak)} it is no better, so that nothing can be lost there." if weak else "."
    )


def _sentences(results: SequenceResults, model: str, plan: str) -> Iterator[str]:
    rows = _of(results.tables["abilities"], model, plan)
    lost = _of(results.tables["collapses"], model, plan)
    together = lost[lost["task"] == TOGETHER]
    for kind, words in KINDS.items():
        part = together[together["kind"] == kind]
        if len(part):
            where = [f"{row.editor} after {_edits(row.checkpoint)}" for row in part.itertuples()]
            yield f"All tasks together, {words}: {listed(where)}."
    kept = together[together["kind"] == NONE].sort_values("retained", ascending=False)
    if len(kept):
        last = int(rows["checkpoint"].max())
        remaining = listed([_remaining(row) for row in kept.itertuples()])
        yield (
            f"Not lost up to {_edits(last)}, or to where the sequence ended; what remains of abilities: "
            f"{remaining}."
        )
    yield from _lost_alone(results, lost[lost["editor"].isin(kept["editor"]) & (lost["task"] != TOGETHER)])
    yield from _holding(results, model, plan)
    for row in together.dropna(subset="ended_at").itertuples():
        yield f"{row.editor}: the sequence ended after {_edits(row.ended_at)}: {row.reason}."


def _edits(number: float) -> str:
    return f"{number:.0f} edit" + ("" if number == 1 else "s")


def _remaining(row: Any) -> str:
    """Return a method with the share of abilities that it leaves, its interval, and a doubt about it."""
    low, high = (f"{100 * end:.0f}".replace("-", "−") for end in (row.retained_low, row.retained_high))
    doubt = "; lost, but for the interval" if isinstance(row.note, str) else ""
    return f"{row.editor} {percent(row.retained)} ({low} to {high}{doubt})"


def _lost_alone(results: SequenceResults, lost: pd.DataFrame) -> Iterator[str]:
    """Yield what a method loses though it does not lose all tasks together."""
    names = {task.name: task.words for task in results.tasks}
    for editor, rows in lost[lost["kind"].isin(KINDS)].groupby("editor", sort=False):
        where = [f"{names.get(r.task, r.task)} after {_edits(r.checkpoint)}" for r in rows.itertuples()]
        yield f"{editor} loses single tasks: {listed(where)}."


def _holding(results: SequenceResults, model: str, plan: str) -> Iterator[str]:
    """Yield what became of each method's latest edits at its last checkpoint.

    A method that hardly writes anything leaves abilities as they are.
    """
    rows = _of(results.tables["curves"], model, plan)
    rows = rows[(rows["measure"] == "latest") & (rows["age"] == ALL)].sort_values("checkpoint")
    last = rows.drop_duplicates("editor", keep="last").dropna(subset="value")
    if len(last):
        shares = [
            f"{r.editor} {percent(r.value)}" for r in last.sort_values("value", ascending=False).itertuples()
        ]
        yield f"Of the latest edits hold at the end: {listed(shares)}."


def _of(table: pd.DataFrame, model: str, plan: str) -> pd.DataFrame:
    return table[(table["model"] == model) & (table["plan"] == plan) & (table["order"] == ALL)]


# --- map of methods and tasks -----------------------------------------------------------------------------


def heat_maps(results: SequenceResults) -> list[dict[str, Any]]:
    """Return a map for each model and plan: every task and method at every checkpoint, and health beside
    it.
    """
    return [_heat_map(results, *place) for place in _places(results)] if "abilities" in results.tables else []


def _heat_map(results: SequenceResults, model: str, plan: str) -> dict[str, Any]:
    rows = _of(results.tables["abilities"], model, plan)
    rows = rows[rows["headline"]]
    curves = _of(results.tables["curves"], model, plan)
    curves = curves[curves["age"] == ALL].set_index(["measure", "editor", "checkpoint"])["value"]
    names = {task.name: task for task in results.tasks}
    editors = list(dict.fromkeys(rows["editor"]))
    checkpoints = sorted({int(c) for c in rows["checkpoint"]})
    tasks = [
        {
            "name": task,
            "title": names[task].words if task in names else task,
            "metric": part["metric"].iloc[0].replace("_", " "),
            "weak": bool(part["above_chance"].eq(False).any()),
            "levels": numbers(part[["unedited", "floor"]].iloc[0]),
        }
        for task, part in rows.groupby("task", sort=False)
    ]
    cells = rows.set_index(["editor", "task", "checkpoint"])
    keys = [(editor, task["name"], c) for editor in editors for task in tasks for c in checkpoints]
    shown = cells.reindex(keys)
    beside = {
        measure: numbers(curves.reindex([(measure, editor, c) for editor in editors for c in checkpoints]))
        for measure in ("latest", "survival", "perplexity", "seconds")
        if measure in curves.index.get_level_values("measure")
    }
    return {
        "model": model,
        "plan": plan,
        "editors": editors,
        "tasks": tasks,
        "checkpoints": checkpoints,
        "values": {
            name: numbers(shown[name], 3)
            for name in ("retained", "value", "low", "high", "difference", "parsed", "entropy")
        },
        "significant": [bool(x) if pd.notna(x) else False for x in shown["significant"]],
        "beside": beside,
    }


# --- single items -----------------------------------------------------------------------------------------


def items(results: SequenceResults) -> dict[str, Any]:
    """Return sampled items with each method's answers at some checkpoints, each text once.

    Of each plan and model the first order is shown. Items are left out, the same for all methods, until the
    page holds no more than BUDGET characters.
    """
    first: dict[tuple[str, str, str], pd.DataFrame] = {}
    for run, rows in zip(results.runs, results.examples, strict=False):
        first.setdefault((run["model"], run["plan"], run["editor"]), rows)
    number = max(
        (rows.groupby("task")["item_id"].nunique().max() for rows in first.values() if len(rows)), default=0
    )
    for kept in range(int(number), 0, -1):
        words = Words()
        plans = _plans(results, first, kept, words)
        if sum(map(len, words.texts)) <= BUDGET or kept == 1:
            return {"plans": plans, "words": words.texts, "items": kept}
    return {"plans": [], "words": [], "items": 0}


def _plans(
    results: SequenceResults, first: Mapping[tuple[str, str, str], pd.DataFrame], kept: int, words: Words
) -> list[dict[str, Any]]:
    made = []
    names = {task.name: task.words for task in results.tasks}
    for model, plan in dict.fromkeys(key[:2] for key in first):
        mine = {key[2]: rows for key, rows in first.items() if key[:2] == (model, plan) and len(rows)}
        if not mine:
            continue
        all_rows = pd.concat(mine.values())
        moments = _moments(sorted({int(c) for c in all_rows["checkpoint"]}))
        tasks = []
        for task, rows in all_rows.groupby("task", sort=False):
            chosen = rows.drop_duplicates("item_id").head(kept)
            said = {
                editor: frame.set_index(["task", "item_id", "checkpoint"]) for editor, frame in mine.items()
            }
            entries = [
                {
                    "question": words.place(item.question),
                    "gold": words.place(item.gold),
                    "said": [
                        [_answer(said[editor], (task, item.item_id, c), words) for c in moments]
                        for editor in mine
                    ],
                }
                for item in chosen.itertuples()
            ]
            tasks.append({"title": names.get(str(task), str(task)), "items": entries})
        made.append(
            {"model": model, "plan": plan, "editors": list(mine), "checkpoints": moments, "tasks": tasks}
        )
    return made


def _answer(rows: pd.DataFrame, key: tuple[Any, ...], words: Words) -> list[Any] | None:
    """Return the index of the text and the value of an answer, None where the sequence did not reach it."""
    if key not in rows.index:
        return None
    row = rows.loc[key]
    value = numbers([row["value"]], 3)[0]
    return [words.place(row["text"][:LONGEST]), value]


def _moments(checkpoints: Sequence[int]) -> list[int]:
    """Return at most MOMENTS checkpoints, evenly among all, the first and the last among them."""
    if len(checkpoints) <= MOMENTS:
        return list(checkpoints)
    step = (len(checkpoints) - 1) / (MOMENTS - 1)
    return [checkpoints[round(i * step)] for i in range(MOMENTS)]
