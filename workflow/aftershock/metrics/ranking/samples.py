"""Values of all methods for each question: by case, by edit of a sequence, by item of a task, and by job."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from aftershock.metrics.abilities.many_items import OF_MANY, base_of
from aftershock.metrics.abilities.settings import ALL, TaskInfo, asked_twice
from aftershock.metrics.ranking.questions import ABILITIES, BY_NAME, COST, HOLD, QUESTIONS, Question, span
from aftershock.metrics.ranking.ranks import Measured
from aftershock.metrics.resampling import cluster_codes
from aftershock.metrics.study import Block
from aftershock.metrics.timings import seconds_per_case
from aftershock.tables.abilities import ABILITIES as ABILITIES_TABLE

Run = Mapping[str, Any]


@dataclass(frozen=True)
class Sample:
    """Measures of a question for all methods of a model; `place` names the datasets or the plan they are of.

    `notes` says of a method why it may have no value.
    """

    question: Question
    model: str
    place: str
    metrics: tuple[str, ...]
    methods: tuple[str, ...]
    measures: tuple[Measured, ...]
    notes: Mapping[str, str]


# --- cases ------------------------------------------------------------------------------------------------


def of_cases(blocks: Sequence[Block]) -> Iterator[Sample]:
    """Yield a sample for each model and question that scores of cases answer."""
    for model in dict.fromkeys(block.model for block in blocks):
        mine = {block.dataset: block for block in blocks if block.model == model}
        methods = tuple(dict.fromkeys(editor for block in mine.values() for editor in block.editors))
        for question in QUESTIONS:
            chosen = _first_answered(question, mine)
            if not chosen:
                continue
            measures = _measures(mine, methods, chosen)
            places = " + ".join(dict.fromkeys(dataset for dataset, _ in chosen))
            names = tuple(dict.fromkeys(name for _, name in chosen))
            yield Sample(question, model, places, names, methods, tuple(measures), {})


def _measures(
    blocks: Mapping[str, Block], methods: Sequence[str], chosen: Sequence[tuple[str, str]]
) -> list[Measured]:
    """Return metrics of datasets. The cases of several datasets are one population, in which clusters are one
    where they share a subject.
    """
    datasets = list(dict.fromkeys(dataset for dataset, _ in chosen))
    own = [blocks[name].about("cluster") for name in datasets]
    subjects = [blocks[name].about("subject_id") for name in datasets] if len(datasets) > 1 else []
    clusters = joined_clusters(own, subjects) if subjects else own[0]
    ends = np.cumsum([0, *map(len, own)])
    places = {name: slice(*ends[i : i + 2]) for i, name in enumerate(datasets)}
    measures = []
    for dataset, name in chosen:
        values = np.full((len(clusters), len(methods)), np.nan)
        values[places[dataset]] = _values(blocks[dataset], methods, name)
        measures.append(Measured(" + ".join(datasets), clusters, values, span(name)))
    return measures


def joined_clusters(clusters: Sequence[np.ndarray], subjects: Sequence[np.ndarray]) -> np.ndarray:
    """Return the cluster of every case of some datasets, one dataset after the other.

    Of each dataset, its cases have `clusters`, which are one where a subject is in both.
    """
    own = [f"{i}/{cluster}" for i, part in enumerate(clusters) for cluster in part]
    rows, columns = cluster_codes(own), cluster_codes(np.concatenate(subjects).astype(str))
    n = rows.max() + 1
    links = coo_array((np.ones(len(rows)), (rows, columns + n)), shape=(n + len(columns),) * 2)
    return connected_components(links, directed=False)[1][rows]


def _first_answered(question: Question, blocks: Mapping[str, Block]) -> list[tuple[str, str]]:
    """Return the first of the question's alternatives that has a value, without metrics that have none."""
    for alternative in question.measures:
        found = [
            (dataset, name)
            for dataset, name in alternative
            if dataset in blocks and _has_value(blocks[dataset], name)
        ]
        if found:
            return found
    return []


def _has_value(block: Block, name: str) -> bool:
    frames = [frame for seeds in block.editors.values() for frame in seeds.values() if name in frame]
    return any(frame[name].notna().any() for frame in frames)


def _values(block: Block, methods: Sequence[str], name: str) -> np.ndarray:
    """Return (cases, methods): means over seeds, empty for a method that does not run on the dataset."""
    absent = np.full(len(block.case_ids), np.nan)
    return np.column_stack(
        [block.averaged(m, [name])[:, 0] if m in block.editors else absent for m in methods]
    )


# --- sequences --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SequenceRuns:
    """Sequences of edits: runs, which name model, plan, editor and order, and what was found of each.

    `edits` has SEQUENCE_SCORES, `health` SEQUENCE_HEALTH, `answers` and `scores` ITEM_ANSWERS and ITEM_SCORES
    (both empty where no task was run); `abilities` is ABILITIES of all.
    """

    runs: Sequence[Run] = ()
    edits: Sequence[pd.DataFrame] = ()
    health: Sequence[pd.DataFrame] = ()
    answers: Sequence[pd.DataFrame] = ()
    scores: Sequence[pd.DataFrame] = ()
    tasks: Sequence[TaskInfo] = ()
    abilities: pd.DataFrame = field(default_factory=ABILITIES_TABLE.empty)

    def at(self, model: str, plan: str, tables: Sequence[pd.DataFrame]) -> list[tuple[Run, pd.DataFrame]]:
        """Return the runs of one model and plan with their tables."""
        pairs = zip(self.runs, tables, strict=True) if len(tables) else ()
        return [(run, table) for run, table in pairs if (run["model"], run["plan"]) == (model, plan)]


def of_sequences(sequences: SequenceRuns) -> Iterator[Sample]:
    """Yield samples of the edits that hold, and of the abilities that are left, at the end of each plan."""
    for model, plan in dict.fromkeys((run["model"], run["plan"]) for run in sequences.runs):
        edits = sequences.at(model, plan, sequences.edits)
        last = max((int(rows["checkpoint"].max()) for _, rows in edits if len(rows)), default=0)
        if not last:
            continue
        methods = tuple(dict.fromkeys(run["editor"] for run, _ in edits))
        place = f"{plan}, {last} edits"
        notes = _ended(sequences.at(model, plan, sequences.health))
        parts = [_of_order(run, rows[rows["measure"] == "edited"], "edit_id", last) for run, rows in edits]
        if held := _measured("edits", pd.concat(parts), methods):
            yield Sample(BY_NAME[HOLD], model, place, ("edited",), methods, (held,), notes)
        names, measures = [], []
        for task, floor, unedited in _able(sequences, model, plan):
            items = _items(sequences, model, plan, task, last)
            items = items.assign(value=(items["value"] - floor) / (unedited - floor))
            if measure := _measured(task.name, items, methods):
                names.append(f"{task.name} {task.headline}")
                measures.append(measure)
        if measures:
            yield Sample(BY_NAME[ABILITIES], model, place, tuple(names), methods, tuple(measures), notes)


def _ended(health: Sequence[tuple[Run, pd.DataFrame]]) -> dict[str, str]:
    """Return a note on each method of which a sequence ended early."""
    found = {}
    for run, rows in health:
        ended = rows.dropna(subset="ended_at")
        if len(ended):
            found[run["editor"]] = f"a sequence ended after {int(ended['ended_at'].iloc[0])} edits"
    return found


def _of_order(run: Run, rows: pd.DataFrame, unit: str, checkpoint: int) -> pd.DataFrame:
    """Return cluster, unit and value of one order of a method at a checkpoint."""
    rows = rows[rows["checkpoint"] == checkpoint]
    units = [f"{run['order']}/{name}" for name in rows[unit]]
    return pd.DataFrame(
        {
            "editor": run["editor"],
            "unit": units,
            "cluster": rows["cluster"].to_numpy(),
            "value": rows["value"].to_numpy(float),
        }
    )


def _measured(population: str, rows: pd.DataFrame, methods: Sequence[str]) -> Measured | None:
    """Return the measure in `rows` (editor, unit, cluster, value); None without a value."""
    rows = rows.dropna(subset="value")
    if rows.empty:
        return None
    wide = rows.pivot(index="unit", columns="editor", values="value").reindex(columns=list(methods))
    clusters = rows.drop_duplicates("unit").set_index("unit")["cluster"].reindex(wide.index)
    return Measured(population, clusters.to_numpy(), wide.to_numpy(float))


def _able(sequences: SequenceRuns, model: str, plan: str) -> Iterator[tuple[TaskInfo, float, float]]:
    """Yield the tasks that the unedited model does better than by accident, with floor and unedited score.

    A headline metric that is no mean over items, such as an F1 of all of them, is left out, and so is what
    asks a benchmark a second time.
    """
    table = sequences.abilities
    mine = table[(table["model"] == model) & (table["plan"] == plan) & (table["order"] == ALL)]
    first = mine[mine["headline"].astype(bool)].drop_duplicates("task").set_index("task")
    aside = asked_twice(sequences.tasks)
    for task in sequences.tasks:
        if task.name not in first.index or task.name in aside or base_of(task.headline) in OF_MANY:
            continue
        row = first.loc[task.name]
        if not pd.isna(row["above_chance"]) and row["above_chance"]:
            yield task, float(row["floor"]), float(row["unedited"])


def _items(sequences: SequenceRuns, model: str, plan: str, task: TaskInfo, last: int) -> pd.DataFrame:
    """Return the scores of a task's items after the last edit, without items about edited facts."""
    parts = []
    answers = sequences.at(model, plan, sequences.answers)
    about = pd.concat([rows[rows["task"] == task.name] for _, rows in answers])
    about = about.groupby("item_id").agg(cluster=("cluster", "first"), edited=("about_edit", "any"))
    for run, rows in sequences.at(model, plan, sequences.scores):
        chosen = rows[(rows["task"] == task.name) & (rows["metric"] == task.headline)]
        chosen = chosen.join(about, on="item_id")
        parts.append(_of_order(run, chosen[chosen["edited"].eq(False)], "item_id", last))
    return pd.concat(parts)


# --- time -------------------------------------------------------------------------------------------------


def of_times(
    runs: Sequence[Run], timings: Sequence[Mapping[str, Any]], kg: str, sequences: SequenceRuns
) -> Iterator[Sample]:
    """Yield a sample of logarithms of seconds for each model: by case of each dataset, or else by edit of
    each sequence.
    """
    for model in dict.fromkeys(run["model"] for run in (*runs, *sequences.runs)):
        rows = [
            (run["editor"], f"{run['dataset']}/{run['seed']}", seconds_per_case(timings, run, kg))
            for run in runs
            if run["model"] == model
        ]
        metric = "seconds per case"
        if not any(seconds > 0 for *_, seconds in rows):
            rows, metric = list(_seconds_per_edit(sequences, model)), "seconds per edit"
        frame = pd.DataFrame(rows, columns=["editor", "unit", "seconds"])
        frame = frame[frame["seconds"] > 0]
        methods = tuple(dict.fromkeys(editor for editor, *_ in rows))
        logs = frame.assign(cluster=frame["unit"], value=np.log(frame["seconds"].to_numpy(float)))
        if measure := _measured("jobs", logs, methods):
            measure = Measured("jobs", measure.clusters, measure.values, float(np.ptp(logs["value"])))
            places = " + ".join(dict.fromkeys(unit.rpartition("/")[0] for unit in frame["unit"]))
            yield Sample(BY_NAME[COST], model, places, (metric,), methods, (measure,), {})


def _seconds_per_edit(sequences: SequenceRuns, model: str) -> Iterator[tuple[str, str, float]]:
    for run, rows in zip(sequences.runs, sequences.health, strict=True):
        made = rows[rows["edits"] > 0]
        if run["model"] == model and len(made):
            row = made.loc[made["checkpoint"].idxmax()]
            yield run["editor"], f"{run['plan']}/{run['order']}", float(row["seconds"] / row["edits"])
