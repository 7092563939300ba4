"""Warnings to read before a table: missed bars, facts that were not known, missing observations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from aftershock.datasets.table import title_of
from aftershock.metrics.catalogue import find_metric
from aftershock.metrics.layouts import ALL
from aftershock.words import TEMPLATES, listed, percent

ENOUGH_KNOWN = 0.3
"""Below this share of known facts a table only shows that the files can be run, nothing about editing."""

ENOUGH_WRITTEN = 0.5
"""If even the best tried setting writes a smaller share of dev edits, a method is not tuned for the model."""

RECALL, UNEDITED = "recall", "unedited model"


@dataclass(frozen=True)
class Verdict:
    """A bar set in the configuration and what one editor reached."""

    who: str
    dataset: str
    title: str
    at_least: float
    value: float
    low: float
    high: float
    n: int

    @property
    def met(self) -> bool:
        """True if the value itself reaches the bar; a missing value does not."""
        return bool(self.value >= self.at_least)

    @property
    def what(self) -> str:
        """The metric in words."""
        return self.title if self.dataset == RECALL else f"{self.title} ({title_of(self.dataset)})"


def verdicts(
    summary: pd.DataFrame, recall: pd.DataFrame, bars: Sequence[Mapping], models: Sequence[str]
) -> list[Verdict]:
    """Every bar for each of its editors and models, over all cases and the lowest seed.

    A bar on the dataset `recall` names a group of templates and asks `recall` (RECALL_SUMMARY) about it.
    """
    key = ["model", "dataset", "editor", "metric"]
    of_model = recall[recall["relation"] == ALL].rename(columns={"group": "metric"})
    of_model = of_model.assign(dataset=RECALL, editor=UNEDITED)
    figures = ["value", "low", "high", "n"]
    rows = (
        pd.concat([first_seed(summary)[key + figures], of_model[key + figures]]).set_index(key).sort_index()
    )
    nothing = pd.Series({"value": float("nan"), "low": float("nan"), "high": float("nan"), "n": 0})
    results = []
    for bar, model in product(bars, models):
        title = _title(bar)
        for editor in bar.get("editors", [UNEDITED]):
            where = (model, bar["dataset"], editor, bar["metric"])
            reached = rows.loc[where] if where in rows.index else nothing
            who = model if editor == UNEDITED else _named(editor, model, len(models))
            results.append(Verdict(who, bar["dataset"], title, bar["at_least"], **reached.to_dict()))
    return results


def _title(bar: Mapping[str, Any]) -> str:
    """Title of a bar's metric. A misspelt metric is only named here: it must not end a run of hours."""
    entry = find_metric(bar["metric"])
    title = TEMPLATES.get(bar["metric"]) if bar["dataset"] == RECALL else entry and entry.title
    return title or f"{bar['metric']}, which is no metric here,"


def missed(summary: pd.DataFrame, bars: Sequence[Verdict], runs: Sequence[Mapping]) -> list[str]:
    """The warnings to read before a table, the most serious first."""
    rows = first_seed(summary)
    return [
        *_unknown(rows),
        *_empty(rows, runs),
        *_failed(summary[summary["subset"] == "all"]),
        *_below(bars),
    ]


def _unknown(rows: pd.DataFrame) -> list[str]:
    known = rows[(rows["metric"] == "known") & (rows["value"] < ENOUGH_KNOWN)]
    return [
        f"Format check only: {model} knows {percent(part['value'].iloc[0])} of what the {title_of(dataset)} "
        f"cases are built on, less than the {percent(ENOUGH_KNOWN)} that a finding needs. Its rows show that "
        "the files can be run; they say nothing about editing."
        for (model, dataset), part in known.groupby(["model", "dataset"], sort=False)
    ]


def _empty(rows: pd.DataFrame, runs: Sequence[Mapping]) -> list[str]:
    found = set(zip(rows["model"], rows["dataset"], rows["editor"], strict=True))
    lines = []
    for dataset in dict.fromkeys(run["dataset"] for run in runs):
        empty = {
            run["editor"]: None
            for run in runs
            if run["dataset"] == dataset and (run["model"], dataset, run["editor"]) not in found
        }
        if empty:
            lines.append(f"No cases: {title_of(dataset)} has no test case for {listed(list(empty))}.")
    return lines


def _failed(rows: pd.DataFrame) -> list[str]:
    """Sentences about methods with failed edits, each about the seed with most of them."""
    broken = rows[(rows["metric"] == "edit_failed") & (rows["value"] > 0)]
    broken = broken.sort_values("value", ascending=False, kind="stable")
    broken = broken.drop_duplicates(["model", "dataset", "editor"]).sort_index()
    models, seeds = rows["model"].nunique(), rows["seed"].nunique()
    return [
        f"{_named(row.editor, row.model, models)} broke off in {percent(row.value)} of the {row.n} "
        f"{title_of(row.dataset)} cases{f' of seed {row.seed}' if seeds > 1 else ''}"
        f"{' and has no value there' if row.value == 1 else '; its other values leave these out'}."
        for row in broken.itertuples()
    ]


def _named(editor: str, model: str, models: int) -> str:
    """An editor, with its model where there are several."""
    return editor if models == 1 else f"{editor} on {model}"


def _below(bars: Sequence[Verdict]) -> list[str]:
    lines = []
    for bar in bars:
        if bar.met:
            continue
        reached = "has no value"
        if bar.n:
            interval = f"{percent(bar.low)} to {percent(bar.high)}, n = {bar.n:.0f}"
            reached = f"reaches {percent(bar.value)} ({interval})"
        lines.append(f"{bar.who}: {bar.what} {reached}; the bar is {percent(bar.at_least)}.")
    return lines


def unwritten(model: str, editor: str, trials: pd.DataFrame) -> list[str]:
    """Return a line about an editor whose chosen trial leaves most dev edits unwritten, none about others."""
    success = float(trials.loc[trials["chosen"], "success"].iloc[0])
    if success >= ENOUGH_WRITTEN:
        return []
    most = trials["success"].max()
    better = f", and no setting more than {percent(most)}" if most < ENOUGH_WRITTEN else ""
    return [
        f"Not set up: {editor} on {model} writes {percent(success)} of the dev edits with the best of "
        f"{len(trials)} settings{better}; less than {percent(ENOUGH_WRITTEN)} says little about the method. "
        "Let `search` in the model's file hold other values, or other layers (see find_layers)."
    ]


def first_seed(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows over all cases of the lowest seed, which sentences are about."""
    rows = summary[summary["subset"] == "all"]
    return rows[rows["seed"] == rows["seed"].min()]
