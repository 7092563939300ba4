"""The runs of a study, joined by model and dataset, and the metrics that its tables show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from aftershock.metrics.layouts import CONTROLLED, LAYOUTS, PAPER, difference
from aftershock.metrics.summary import about_cases, by_case

CONTROLS = "controls"
"""The family of paired differences from controls."""


@dataclass(frozen=True)
class Block:
    """Results of all editors on one dataset: by editor and seed a frame with a row per case.

    `cases` are CASES with the `subject_id` of each; the frames need not have the same cases or columns.
    """

    model: str
    dataset: str
    cases: pd.DataFrame
    editors: dict[str, dict[int, pd.DataFrame]]

    @property
    def case_ids(self) -> pd.Index:
        """Every case that a frame has, in order."""
        frames = [frame.index for seeds in self.editors.values() for frame in seeds.values()]
        return pd.Index(np.unique(np.concatenate([*frames, []])).astype("int64"), name="case_id")

    @property
    def columns(self) -> list[Any]:
        """Every column that a frame has, in order."""
        frames = [frame.columns for seeds in self.editors.values() for frame in seeds.values()]
        return sorted({column for columns in frames for column in columns})

    def about(self, column: str) -> np.ndarray:
        """A column of CASES by case."""
        return about_cases(self.cases, self.case_ids, column)

    def values(self, editor: str, columns: Sequence[Any], seeds: Iterable[int] | None = None) -> np.ndarray:
        """(seeds, cases, columns) of one editor, empty where it has no value."""
        frames = self.editors[editor]
        chosen = [frames[seed] for seed in (sorted(frames) if seeds is None else seeds)]
        found = [f.reindex(index=self.case_ids, columns=list(columns)).to_numpy(float) for f in chosen]
        return np.stack(found) if found else np.empty((0, len(self.case_ids), len(columns)))

    def averaged(self, editor: str, columns: Sequence[Any], seeds: Iterable[int] | None = None) -> np.ndarray:
        """(cases, columns): the mean over seeds, empty where one has no value."""
        found = self.values(editor, columns, seeds)
        return found.mean(0) if len(found) else np.full(found.shape[1:], np.nan)


def with_subjects(cases: pd.DataFrame, edits: pd.DataFrame) -> pd.DataFrame:
    """CASES with the `subject_id` of each case's first edit."""
    first = edits[edits["edit"] == "e1"].drop_duplicates("case_id").set_index("case_id")["subject_id"]
    return cases.assign(subject_id=cases["case_id"].map(first))


def blocks(
    runs: Sequence[Mapping[str, Any]], cases: Sequence[pd.DataFrame], frames: Sequence[pd.DataFrame]
) -> list[Block]:
    """A Block per model and dataset, in the order of `runs`; `cases` and `frames` belong to these one by
    one.
    """
    found: dict[tuple[str, str], Block] = {}
    for run, about, frame in zip(runs, cases, frames, strict=True):
        key = run["model"], run["dataset"]
        block = found.setdefault(key, Block(*key, about, {}))
        block.editors.setdefault(run["editor"], {})[run["seed"]] = frame
    return list(found.values())


def score_blocks(
    runs: Sequence[Mapping[str, Any]], cases: Sequence[pd.DataFrame], scores: Sequence[pd.DataFrame]
) -> list[Block]:
    """`blocks` of the SCORES of each run, with a column per metric."""
    return blocks(runs, cases, [by_case(rows) for rows in scores])


def families(dataset: str, available: Iterable[str]) -> dict[str, list[str]]:
    """The metrics of one dataset by the table that shows them, each table one family of comparisons.

    A paired difference from a control belongs to the family `controls`, if it is among those `available`.
    """
    found: dict[str, list[str]] = {}
    for name, layout in LAYOUTS.items():
        for definition, columns in layout.columns.items():
            title = name if definition == PAPER else f"{name}_{definition}"
            metrics = [column.metric for column in columns if column.dataset == dataset]
            if metrics:
                found[title] = list(dict.fromkeys(metrics))
    available = set(available)
    controlled = [difference(metric, control) for metric, control, _ in CONTROLLED]
    found[CONTROLS] = [name for name in controlled if name in available]
    return {title: metrics for title, metrics in found.items() if metrics}


def shown(dataset: str, available: Iterable[str]) -> list[str]:
    """The metrics that tables show of a dataset, those over known facts, and the shares of known facts."""
    available = set(available)
    listed = list(dict.fromkeys(m for metrics in families(dataset, available).values() for m in metrics))
    return [name for base in [*listed, "known"] for name in (base, f"{base}_known") if name in available]
