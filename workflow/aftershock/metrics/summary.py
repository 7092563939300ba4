"""Means of metrics with intervals: over all cases, strict ones, and by facet."""

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from aftershock.metrics.catalogue import metric
from aftershock.metrics.intervals import estimates
from aftershock.metrics.settings import DEFAULTS, Statistics
from aftershock.seeds import generator
from aftershock.tables.report import BREAKDOWNS, SUMMARY

SUBSETS = ("all", "strict")


def by_case(scores: pd.DataFrame) -> pd.DataFrame:
    """SCORES as a row per case and a column per metric, both in order."""
    return scores.pivot(index="case_id", columns="metric", values="value").astype(float)


def about_cases(cases: pd.DataFrame, case_ids: pd.Index, column: str) -> np.ndarray:
    """A column of CASES for each of `case_ids`; ValueError when a case is not among `cases`."""
    if len(unknown := case_ids.difference(cases["case_id"])):
        raise ValueError(
            f"case {unknown[0]} has scores but is no case of this dataset; score its runs again, as they are "
            "older than the cases"
        )
    return cases.set_index("case_id")[column].reindex(case_ids).to_numpy()


def summarise(
    scores: pd.DataFrame,
    cases: pd.DataFrame,
    run: Mapping[str, object],
    settings: Statistics = DEFAULTS,
) -> pd.DataFrame:
    """SUMMARY rows of one run: the mean of each metric over all cases and over the strict ones.

    A case is strict when the old and the new fact cannot both hold. `run` names the model, dataset, editor
    and seed. A metric that no case has a value for keeps its row, with n = 0.
    """
    values = by_case(scores)
    strict = about_cases(cases, values.index, "strict").astype(bool)
    parts: dict[tuple[str, ...], np.ndarray] = {
        ("all",): np.ones(len(values), dtype=bool),
        ("strict",): strict,
    }
    rows = _masked(values, cases, run, parts, ["subset"], settings)
    return rows[list(SUMMARY.columns)]


def breakdown(
    scores: pd.DataFrame,
    cases: pd.DataFrame,
    facets: pd.DataFrame,
    run: Mapping[str, object],
    metrics: Sequence[str],
    settings: Statistics = DEFAULTS,
) -> pd.DataFrame:
    """BREAKDOWNS rows of one run: the mean of each of `metrics` over the cases of each level in FACETS.

    A level whose cases have no value of a metric keeps its row, with n = 0; a metric that the run does not
    have has none. Levels that are numbers come in their order.
    """
    values = by_case(scores)
    values = values[[name for name in metrics if name in values]]
    levels = sorted(facets.groupby(["facet", "level"])["case_id"], key=lambda part: _natural(part[0]))
    parts = {name: values.index.isin(part) for name, part in levels if values.index.isin(part).any()}
    rows = _masked(values, cases, run, parts, ["facet", "level"], settings)
    return rows[list(BREAKDOWNS.columns)]


def _natural(names: Sequence[str]) -> list[tuple[int, str]]:
    """A key that puts numbers in order of size, before other names in order of the alphabet."""
    return [(int(name) if name.isdecimal() else sys.maxsize, name) for name in names]


def _masked(
    values: pd.DataFrame,
    cases: pd.DataFrame,
    run: Mapping[str, object],
    parts: Mapping[tuple[str, ...], np.ndarray],
    names: Sequence[str],
    settings: Statistics,
) -> pd.DataFrame:
    """Estimates of every column of `values` over the cases of each part, whose key fills the columns `names`.

    All see the same resamples of a dataset's clusters, whatever the editor.
    """
    clusters = about_cases(cases, values.index, "cluster")
    keys = [(*part, name) for part in parts for name in values.columns]
    columns = [np.where(mask[:, None], values.to_numpy(), np.nan) for mask in parts.values()]
    wide = np.concatenate(columns, axis=1) if columns else np.empty((len(values), 0))
    rng = generator(settings.seed, "resamples", run["model"], run["dataset"])
    scales = [metric(key[-1]).scale for key in keys]
    rows = estimates(wide, clusters, scales, rng, settings)
    size = np.repeat([mask.sum() for mask in parts.values()], len(values.columns)).astype(int)
    about = pd.DataFrame(keys, columns=[*names, "metric"])
    return pd.concat([about, rows], axis=1).assign(**run, empty=size - rows["n"])
