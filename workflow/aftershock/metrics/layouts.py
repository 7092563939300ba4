"""SUMMARY rows arranged as tables: those of the paper, single edits, controls, and the unedited model's
recall.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd

from aftershock.metrics.intervals import LEVEL, estimate
from aftershock.metrics.scales import SHARE
from aftershock.seeds import generator
from aftershock.tables import Table
from aftershock.tables.report import CONTROLS, FIGURES, RECALL_SUMMARY

RUN = ["model", "editor", "seed", "subset"]
ALL = "all relations"
NO_FIGURES = tuple(math.nan if kind.endswith("?") else 0 for kind in FIGURES.values())
"""Those of a run without a value."""


@dataclass(frozen=True)
class Column:
    """One metric of one dataset, under a short header in a group of columns."""

    group: str
    header: str
    dataset: str
    metric: str

    @property
    def name(self) -> str:
        """The column's name in files."""
        return f"{self.dataset}.{self.metric}"


@dataclass(frozen=True)
class Layout:
    """A table: its title and its columns, as the paper defines them and as its code computes them."""

    title: str
    columns: Mapping[str, tuple[Column, ...]]

    def schema(self, name: str, definition: str) -> Table:
        """The schema of the parquet file that `table` makes under one definition."""
        run = {"model": "string", "editor": "string", "seed": "int64", "subset": "string"}
        return Table(
            name,
            tuple(run),
            run | {f"{c.name}.{f}": k for c in self.columns[definition] for f, k in FIGURES.items()},
        )


def _conflict_columns(success: str, magnitude: str, damage: str) -> tuple[Column, ...]:
    explicit, implicit = "conflict_score_exp", "conflict_score_imp"
    return (
        Column("Single", "Succ", "coverage", success),
        Column("Coverage", "CS", "coverage", explicit),
        Column("Coverage", "CM", "coverage", magnitude),
        Column("Reverse", "CS exp", "reverse", explicit),
        Column("Reverse", "CS imp", "reverse", implicit),
        Column("Reverse", "CM", "reverse", magnitude),
        Column("Composite", "CS exp", "composite", explicit),
        Column("Composite", "CS imp", "composite", implicit),
        Column("Composite", "CM", "composite", magnitude),
        Column("Composite", "TFD", "composite", damage),
    )


def _round_columns(success: str, distortion: str) -> tuple[Column, ...]:
    return tuple(
        Column(group, header, dataset, name)
        for group, dataset in (("Easy", "round_easy"), ("Hard", "round_hard"))
        for header, name in (
            ("Succ", success),
            ("D", distortion),
            ("IR", "ignore_rate"),
            ("FR", "failure_rate"),
        )
    )


PAPER, RELEASED = "paper", "released"
SINGLE = tuple(
    Column(group, header, "coverage", name)
    for group, header, name in (
        ("Written", "Exact", "single_exact"),
        ("Written", "Paraphrases", "single_paraphrase"),
        ("Written", "Held-out", "single_held_out"),
        ("Written", "Answered", "single_paraphrase_answered"),
        ("Kept", "Neighbours", "single_neighbours_kept"),
        ("Kept", "Same subject", "single_same_subject_kept"),
        ("Second edit", "Exact", "e2_exact"),
        ("Second edit", "Held-out", "e2_held_out"),
    )
)
LAYOUTS = {
    "single": Layout("Single edits", {PAPER: SINGLE}),
    "table1": Layout(
        "Table 1: knowledge conflict",
        {
            PAPER: _conflict_columns("single_success", "conflict_magnitude", "tied_fact_damage"),
            RELEASED: _conflict_columns(
                "success_released", "conflict_magnitude_released", "tied_fact_damage_released"
            ),
        },
    ),
    "table2": Layout(
        "Table 2: knowledge distortion",
        {
            PAPER: _round_columns("success", "distortion"),
            RELEASED: _round_columns("success_released", "distortion_released"),
        },
    ),
}
"""Single edits, and the paper's two tables in its columns and order."""

CONTROLLED = (
    ("conflict_magnitude", "conflict_magnitude_control", "the second edit of another case"),
    ("tied_fact_damage", "tied_fact_damage_control", "the second edit of another case"),
    ("tied_fact_damage", "tied_fact_damage_same", "other facts of the same subject"),
    ("tied_fact_damage", "tied_fact_damage_unrelated", "tied facts of unrelated cases"),
    ("conflict_score_exp", "conflict_score_exp_before", "the unedited model"),
    ("conflict_score_imp", "conflict_score_imp_before", "the unedited model"),
    ("conflict_score_exp", "conflict_score_exp_control", "the second edit of another case"),
    ("conflict_score_imp", "conflict_score_imp_control", "the second edit of another case"),
    ("distortion", "distortion_random", "a random change of equal size"),
    ("distortion", "distortion_control", "the objects of another subject and relation"),
    ("ignore_rate", "ignore_rate_random", "a random change of equal size"),
    ("ignore_rate", "ignore_rate_control", "the objects of another subject and relation"),
    ("failure_rate", "failure_rate_random", "a random change of equal size"),
    ("ignore_rate", "ignore_rate_by_chance", "even chance"),
    ("failure_rate", "failure_rate_by_chance", "even chance"),
)
"""Metrics, the control of each, and its description."""


def difference(name: str, control: str) -> str:
    """The metric that holds a metric minus its control, case by case."""
    if control.endswith("_before"):
        return f"{name}_change"
    return f"{control}_difference"


def table(summary: pd.DataFrame, runs: Sequence[Mapping], layout: Layout, definition: str) -> pd.DataFrame:
    """Value, interval and n of every column of `layout`, a row per model, editor, seed and subset.

    `runs` names every model, dataset, editor and seed that was asked for; one without a value keeps an empty
    cell.
    """
    columns = layout.columns[definition]
    datasets = {column.dataset for column in columns}
    wanted = pd.DataFrame([run for run in runs if run["dataset"] in datasets], columns=["dataset", *RUN[:3]])
    rows = wanted[RUN[:3]].drop_duplicates().merge(pd.DataFrame({"subset": ["all", "strict"]}), how="cross")
    found = _figures(summary, {column.metric for column in columns})
    lines = list(rows[RUN].itertuples(index=False, name=None))
    cells = {}
    for column in columns:
        values = [found.get((column.dataset, column.metric, *line), NO_FIGURES) for line in lines]
        for figure, kind, each in zip(FIGURES, FIGURES.values(), _transposed(values), strict=True):
            cells[f"{column.name}.{figure}"] = np.array(each, kind.rstrip("?"))
    return pd.concat([rows, pd.DataFrame(cells, index=rows.index)], axis=1)


def _figures(summary: pd.DataFrame, metrics: Iterable[str]) -> dict[tuple, tuple]:
    """FIGURES by dataset, metric and run."""
    chosen = summary[summary["metric"].isin(list(metrics))]
    key = ["dataset", "metric", *RUN]
    lines = chosen[[*key, *FIGURES]].itertuples(index=False, name=None)
    return {line[: len(key)]: line[len(key) :] for line in lines}


def _transposed(values: Sequence[tuple]) -> Iterable[Sequence]:
    """The values of each of FIGURES."""
    return zip(*values, strict=True) if values else [()] * len(FIGURES)


def control_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Raw value, control and difference with intervals, a row per run, subset and controlled metric."""
    controls = {(name, control): difference(name, control) for name, control, _ in CONTROLLED}
    found = _figures(summary, {metric for pair, third in controls.items() for metric in (*pair, third)})
    rows = []
    for name, control, words in CONTROLLED:
        metrics = name, control, controls[name, control]
        for dataset, metric, *run in found:
            sides = [found[dataset, each, *run] for each in metrics if (dataset, each, *run) in found]
            if metric == name and len(sides) == len(metrics):
                rows.append((*run, dataset, name, control, words, *chain.from_iterable(sides)))
    figures = [prefix + figure for prefix in ("", "control_", "difference_") for figure in FIGURES]
    made = pd.DataFrame(rows, columns=[*RUN, "dataset", "metric", "control", "compared_with", *figures])
    kinds = {column: kind.rstrip("?").replace("string", "str") for column, kind in CONTROLS.columns.items()}
    return made[list(CONTROLS.columns)].astype(kinds)


def recall_table(
    recall: pd.DataFrame, labels: Mapping[str, str], model: str, seed: int = 0, level: float = LEVEL
) -> pd.DataFrame:
    """Share of facts that the unedited model gives greedily, by relation and group of templates, with
    intervals.

    Clusters are subjects: a model that has seen little of one knows few of its facts.
    """
    rows = []
    relations = [(ALL, recall)] + [(labels.get(r, r), part) for r, part in recall.groupby("relation_id")]
    for relation, part in relations:
        for group, facts in part.groupby("group", sort=False):
            values = facts[["correct"]].astype(float)
            rng = generator(seed, model, relation, group)
            found = estimate(values, facts["subject_id"], {"correct": SHARE}, rng, level=level)["correct"]
            rows.append({"model": model, "relation": relation, "group": group, **vars(found)})
    return pd.DataFrame(rows, columns=list(RECALL_SUMMARY.columns))


def all_tables(
    summary: pd.DataFrame, runs: Sequence[Mapping], recall: pd.DataFrame
) -> dict[str, tuple[Table, pd.DataFrame]]:
    """Every table of a report by file name, each with its schema; `recall` has RECALL_SUMMARY."""
    tables = {}
    for name, layout in LAYOUTS.items():
        for definition in layout.columns:
            title = name if definition == PAPER else f"{name}_{definition}"
            tables[title] = (layout.schema(title, definition), table(summary, runs, layout, definition))
    return tables | {"controls": (CONTROLS, control_table(summary)), "recall": (RECALL_SUMMARY, recall)}
