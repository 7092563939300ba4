"""Health of edits: the size of changes and the model's perplexity, by method, dataset and state.

Two flags say that something broke. An edit is disabling, after Gupta et al. (2024), where the norm of its
change is far beyond the usual: here, a multiple of the median over the cases of the same run and state that
change the module at all. A model has collapsed, after Yang et al. (2024), where its perplexity on a text that
no edit is about is a multiple of that of the unedited model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from aftershock.datasets.table import SECOND, title_of
from aftershock.tables.report import HEALTH_SIZES, HEALTH_SUMMARY

MOST = 1e12
"""Largest ratio of perplexities, also given to a model whose scores are not finite."""


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of the flags: in perplexities of the unedited model, and in median norms."""

    collapse: float = 10.0
    disabling: float = 10.0


def summarise_health(
    runs: Sequence[Mapping[str, Any]], health: Sequence[pd.DataFrame], thresholds: Thresholds
) -> pd.DataFrame:
    """Return HEALTH_SUMMARY; `health` has HEALTH of each of `runs`."""
    rows = [
        {**run, "state": state, **_summary(part, thresholds)}
        for run, frame in zip(runs, health, strict=True)
        for state, part in frame.groupby("state", sort=False)
    ]
    frame = pd.DataFrame(rows, columns=list(HEALTH_SUMMARY.columns))
    return frame.astype({name: "int64" for name in ("seed", "cases", "measured", "collapsed", "disabling")})


def _summary(rows: pd.DataFrame, thresholds: Thresholds) -> dict[str, Any]:
    """Return the columns about one state of one run."""
    by_case = rows.groupby("case_id")
    found: dict[str, Any] = {"cases": len(by_case)}
    for name in HEALTH_SIZES:
        values = by_case[name].max().astype(float).dropna()  # of a case's modules the worst
        found[f"{name}_median"] = values.median() if len(values) else None
        found[f"{name}_worst"] = values.max() if len(values) else None
    measured = by_case[["nll", "unedited_nll"]].first().astype(float).dropna(subset="unedited_nll")
    ratios = ratio(measured["nll"], measured["unedited_nll"])
    found |= {"measured": len(ratios), "unedited": None, "perplexity_median": None, "perplexity_worst": None}
    if len(ratios):
        found["unedited"] = float(np.exp(measured["unedited_nll"].median()))
        found["perplexity_median"], found["perplexity_worst"] = ratios.median(), ratios.max()
    return found | {
        "collapsed": int((ratios > thresholds.collapse).sum()),
        "disabling": int(disabling(rows, thresholds.disabling).groupby(rows["case_id"]).any().sum()),
        "collapse_threshold": thresholds.collapse,
        "disabling_threshold": thresholds.disabling,
    }


def ratio(nll: pd.Series, unedited: pd.Series) -> pd.Series:
    """Return perplexity after by perplexity before, at most MOST."""
    return np.exp((nll - unedited).clip(upper=np.log(MOST)))


def disabling(rows: pd.DataFrame, threshold: float) -> pd.Series:
    """Return True for each of the HEALTH `rows` of one state whose norm is beyond `threshold` medians."""
    norms = rows["norm"].astype(float)
    norms = norms.where(norms > 0)  # a method may choose other modules in each case
    return norms > threshold * norms.groupby(rows["module"]).transform("median")


def flagged(summary: pd.DataFrame) -> list[str]:
    """Return a sentence for each method and flag that HEALTH_SUMMARY has after both edits of some case."""
    lines = []
    after = summary[summary["state"] == SECOND]
    for (model, editor), rows in after.groupby(["model", "editor"], sort=False):
        limits = rows.iloc[0]
        for flag, of, text in (
            (
                "collapsed",
                "measured",
                f"perplexity is more than {limits['collapse_threshold']:g} times the unedited model's",
            ),
            (
                "disabling",
                "cases",
                f"the norm of the change is more than {limits['disabling_threshold']:g} times the median",
            ),
        ):
            if rows[flag].sum():
                where = rows[rows[flag] > 0].groupby("dataset", sort=False)[[flag, of]].sum()
                counts = [f"{n} of {all_} ({title_of(name)})" for name, n, all_ in where.itertuples()]
                lines.append(f"{model}, {editor}: after both edits {text} in {', '.join(counts)}.")
    return lines
