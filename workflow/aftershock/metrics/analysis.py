"""The tables of means, comparisons, seeds, stability and ranks of a study, from the scores of its runs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from aftershock.metrics.comparisons import compare
from aftershock.metrics.ranking.ranking import ranking
from aftershock.metrics.ranking.samples import Sample, of_cases
from aftershock.metrics.settings import DEFAULTS, Statistics
from aftershock.metrics.spread import spread
from aftershock.metrics.stability import EQUAL, stability, variant_blocks
from aftershock.metrics.study import score_blocks, shown
from aftershock.metrics.summary import breakdown, summarise
from aftershock.tables import Table
from aftershock.tables.report import BREAKDOWNS, COMPARISONS, RANKS, SEEDS, STABILITY, SUMMARY


def analyse(
    runs: Sequence[Mapping[str, Any]],
    cases: Sequence[pd.DataFrame],
    scores: Sequence[pd.DataFrame],
    facets: Sequence[pd.DataFrame],
    variants: Sequence[pd.DataFrame],
    settings: Statistics = DEFAULTS,
    beside: Iterable[Sample] = (),
) -> dict[str, tuple[Table, pd.DataFrame]]:
    """By name SUMMARY, BREAKDOWNS, COMPARISONS, SEEDS, STABILITY and RANKS, each with its schema.

    `cases` (CASES, with the `subject_id` of each), `scores`, `facets` and `variants` belong to `runs` one by
    one; a run names the model, dataset, editor and seed. What a run lacks is missing from its own rows alone.
    Methods are ranked by the scores and by the samples `beside` them.
    """
    summaries, breakdowns = [], []
    equal: dict[Any, Any] = {}
    for run, about, rows, levels in zip(runs, cases, scores, facets, strict=True):
        summaries.append(summarise(rows, about, run, settings))
        metrics = shown(run["dataset"], rows["metric"].unique())
        breakdowns.append(breakdown(rows, about, levels, run, metrics, settings))
        alike = levels.loc[(levels["facet"] == EQUAL) & (levels["level"] == "yes"), "case_id"]
        equal.setdefault((run["model"], run["dataset"]), set()).update(alike)
    blocks = score_blocks(runs, cases, scores)
    return {
        "summary": (SUMMARY, pd.concat(summaries or [SUMMARY.empty()], ignore_index=True)),
        "breakdowns": (BREAKDOWNS, pd.concat(breakdowns or [BREAKDOWNS.empty()], ignore_index=True)),
        "comparisons": (COMPARISONS, compare(blocks, settings)),
        "seeds": (SEEDS, spread(blocks, settings)),
        "ranks": (RANKS, ranking([*of_cases(blocks), *beside], settings)),
        "stability": (STABILITY, stability(variant_blocks(runs, cases, variants), equal, settings)),
    }
