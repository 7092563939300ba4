"""Means over the cases of each level of a facet."""

import pandas as pd

from aftershock.metrics.settings import Statistics
from aftershock.metrics.study import shown
from aftershock.metrics.summary import breakdown
from aftershock.tables.report import BREAKDOWNS
from simulate import cases_of, run_of, scores_of

RUN = run_of()
QUICK = Statistics(resamples=200)


def facets_of(**levels):
    rows = [(case, facet, level) for facet, by_case in levels.items() for case, level in enumerate(by_case)
            if level is not None]  # fmt: skip
    return pd.DataFrame(rows, columns=["case_id", "facet", "level"])


def broken_down(scores, facets, metrics=("conflict_score_exp", "conflict_magnitude"), cases=None):
    cases = cases_of(scores["case_id"].max() + 1 if len(scores) else 0) if cases is None else cases
    table = breakdown(scores, cases, facets, RUN, metrics, QUICK)
    BREAKDOWNS.check(table)
    return table.set_index(["facet", "level", "metric"])


def test_levels_by_hand():
    scores = scores_of(
        {"conflict_score_exp": [1.0, 0.0, 1.0, 1.0], "conflict_magnitude": [0.5, None, 0.25, None]}
    )
    table = broken_down(scores, facets_of(rule=["x", "x", "y", "y"], popularity=["low", None, None, "high"]))
    assert table.loc[("rule", "x", "conflict_score_exp"), "value"] == 0.5
    assert table.loc[("rule", "y", "conflict_score_exp"), "value"] == 1
    some = table.loc["rule", "x", "conflict_magnitude"]
    assert (some["value"], some["n"], some["empty"]) == (0.5, 1, 1)
    none = table.loc["popularity", "high", "conflict_magnitude"]
    assert (none["n"], none["empty"], none["clusters"]) == (0, 1, 0)
    assert pd.isna(none["value"])
    assert set(table.loc["popularity"].index.get_level_values("level")) == {"low", "high"}


def test_cases_of_other_runs_and_no_case():
    scores = scores_of({"conflict_score_exp": [1.0, 0.0]})
    table = broken_down(scores, facets_of(rule=["x", "x", "z"]))
    assert table.index.get_level_values("level").unique().tolist() == ["x"]
    assert broken_down(scores_of({}), facets_of(rule=["x"])).empty
    assert broken_down(scores, facets_of()).empty


def test_numbers_come_in_the_order_of_their_size():
    scores = scores_of({"conflict_score_exp": [1.0, 0.0, 1.0, 1.0]})
    table = broken_down(scores, facets_of(n_objects=["10", "9", "100", "2"], rule=["z", "b", "10x", "a"]))
    levels = table.index.to_frame(index=False).groupby("facet", sort=False)["level"].agg(list).to_dict()
    assert levels == {"n_objects": ["2", "9", "10", "100"], "rule": ["10x", "a", "b", "z"]}


def test_what_is_shown_is_what_tables_have():
    known = shown("reverse", ["conflict_magnitude", "known", "conflict_score_exp", "e1_exact"])
    assert known == ["conflict_score_exp", "conflict_magnitude", "known"]
    assert "tied_fact_damage_known" in shown("composite", ["tied_fact_damage", "tied_fact_damage_known"])
    assert shown("reverse", []) == []
