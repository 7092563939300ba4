"""Properties of cases that the explorer filters by, and metrics that it sorts them by."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from aftershock.metrics.catalogue import metric
from aftershock.page.embed import Words, numbers

SORTED = (
    "conflict_magnitude_released",
    "tied_fact_damage_clamped",
    "distortion",
    "single_neighbours_kept",
    "single_held_out",
    "ignore_rate",
    "conflict_score_imp",
)
"""Metrics that cases can be sorted by; the first that tells methods apart chooses the first case."""

FACETS = {
    "relation": "relation",
    "n_objects": "true objects",
    "target_tokens": "tokens of objects",
    "popularity": "facts about the subject",
    "tied_known": "tied fact known before",
    "knows_first": "first fact known before",
    "knows_head": "second fact known before",
    "in_context": "known from its context",
}
"""Facets of cases that do not depend on a method, in words."""


def facet_codes(
    facets: pd.DataFrame | None, cases: Sequence[int], words: Words, labels: Mapping[str, str]
) -> dict[str, list[int]]:
    """Return each facet in which `cases` differ, as places in `words`, -1 where a case has no level."""
    if facets is None:
        return {}
    wide = facets.drop_duplicates(["case_id", "facet"]).pivot(
        index="case_id", columns="facet", values="level"
    )
    wide = wide.reindex(cases)
    return {
        name: [
            words.place(labels.get(level, level)) if isinstance(level, str) else -1 for level in wide[name]
        ]
        for name in FACETS
        if name in wide and wide[name].nunique() > 1
    }


def sortable(scores: pd.DataFrame, cases: Sequence[int]) -> dict[str, list[Any]]:
    """Return the values of each of SORTED that one run has, by case."""
    mine = scores[scores["metric"].isin(SORTED)]
    wide = mine.pivot(index="case_id", columns="metric", values="value").reindex(cases)
    return {name: numbers(wide[name], 3) for name in SORTED if name in wide and wide[name].notna().any()}


def sorted_metrics(names: Sequence[str]) -> list[dict[str, str]]:
    """Return those of SORTED among `names`, with their titles."""
    return [{"name": name, "title": metric(name).title} for name in SORTED if name in names]
