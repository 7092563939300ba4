"""All statistical tables of a study, from sound runs and from runs with holes."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from aftershock.datasets.table import DATASETS
from aftershock.metrics.analysis import analyse
from aftershock.metrics.settings import Statistics
from aftershock.metrics.stability import BASE
from aftershock.metrics.summary import summarise
from benchmarks import certainty
from simulate import EDITORS, cases_of, failed, run_of, score, scores_of, simulate
from tiers import repeated, some

QUICK = Statistics(resamples=200, permutations=199)
PART = ("ft", "rome", "memit")


@cache
def scored_of(dataset, n, editor, broken):
    """CASES, SCORES, FACETS and VARIANTS of one simulated editor, which may fail on every case."""
    sim = simulate(dataset, n, 0, {editor: EDITORS[editor]})
    edits = sim.cases[["case_id"]].assign(edit="e1", relation_id="R7", subject_id="E1")
    rows, telemetry = failed(sim) if broken else (None, sim.telemetry[editor])
    found = score(sim, rows, [f"00000-{max(n - 1, 0):05d}"], editor, telemetry=telemetry)
    tables = {"scores": found.scores, "facets": found.facets(edits), "variants": found.variants()}
    return {"cases": sim.cases, **tables}


def study_of(dataset, n=20, editors=PART, broken=(), seeds=(0,)):
    """Arguments of `analyse` for simulated runs; the editors in `broken` fail on every case."""
    study = {"runs": [], "cases": [], "scores": [], "facets": [], "variants": []}
    for editor in editors:
        scored = scored_of(dataset, n, editor, editor in broken)
        for seed in seeds:
            study["runs"].append(run_of(dataset, editor, seed))
            for name, table in scored.items():
                study[name].append(table)
    return study


def tables_of(**study):
    """The tables, each checked against its schema, and every interval against its mean."""
    found = analyse(**study, settings=QUICK)
    for name, (schema, table) in found.items():
        schema.check(table)
        if {"low", "n"} <= set(table.columns):
            mean = table["difference" if name == "comparisons" else "value"]
            some = table["n"] > 0
            assert np.isfinite(table.loc[some, ["low", "high"]]).all(axis=None), name
            assert (table["high"] - table["low"])[some].gt(1e-9).all(), name
            assert (table["low"] - 1e-9 <= mean)[some].all(), name
            assert (mean <= table["high"] + 1e-9)[some].all(), name
            assert pd.concat([mean, table["low"]], axis=1)[~some].isna().all(axis=None), name
    return {name: table for name, (_, table) in found.items()}


@cache
def sound(dataset):
    """The tables of a dataset's sound runs; not to be changed."""
    return tables_of(**study_of(dataset))


@pytest.mark.parametrize("dataset", some(DATASETS, ["reverse", "round_easy"]))
def test_a_study_has_all_tables(dataset):
    found = sound(dataset)
    summary, comparisons, stable = (found[name] for name in ("summary", "comparisons", "stability"))
    assert (summary["n"] + summary["empty"]).groupby(summary["subset"]).nunique().eq(1).all()
    pairs = set(zip(comparisons["editor"], comparisons["other"], strict=True))
    assert pairs == {("ft", "rome"), ("ft", "memit"), ("rome", "memit")}
    assert {"rule", "strict", "equal_tokens", "e1_success"} <= set(found["breakdowns"]["facet"])
    assert set(found["seeds"]["seeds"]) == {1}
    base = stable.set_index(["scoring", "prompts", "pairs"]).loc[BASE]
    assert np.allclose(base["tau"].dropna(), 1)
    assert base["same_best"].astype(bool).all()
    assert len(stable) == 18 * stable["metric"].nunique()
    assert (stable["n"] > 0).all()


def test_the_strict_level_of_a_breakdown_is_the_strict_subset():
    found = sound("reverse")
    rows = found["breakdowns"].query("facet == 'strict' and level == 'yes'")
    key = ["editor", "metric"]
    subset = found["summary"][found["summary"]["subset"] == "strict"]
    both = rows.merge(subset, on=key, suffixes=("", "_summary"))
    assert len(both) == len(rows)
    assert (both["interval"] == both["interval_summary"]).all()
    for column in ("value", "n", "clusters", "empty", "n_effective", "kish", "low", "high"):
        assert both[column].to_numpy() == pytest.approx(both[f"{column}_summary"].to_numpy(), nan_ok=True)


@pytest.mark.parametrize("dataset", ["composite", repeated("round_easy")])
def test_an_editor_that_failed_on_all_cases_is_shown_as_that(dataset):
    found = tables_of(**study_of(dataset, broken=["rome"]))
    name = "conflict_magnitude" if dataset == "composite" else "distortion"
    summary = found["summary"].set_index(["editor", "subset", "metric"])
    assert summary.loc[("rome", "all", name), ["n", "empty"]].tolist() == [0, 20]
    assert summary.loc[("rome", "all", "edit_failed"), "value"] == 1
    comparisons = found["comparisons"]
    comparisons = comparisons[(comparisons["metric"] == name) & (comparisons["subset"] == "all")]
    notes = comparisons.drop_duplicates(["editor", "other"]).set_index(["editor", "other"])["note"]
    assert notes["ft", "rome"] == "rome has no value"
    assert pd.isna(notes["ft", "memit"])
    stable = found["stability"]
    assert stable.loc[stable["metric"] == name, "note"].eq("without rome, which has no value").all()
    seeds = found["seeds"].set_index(["editor", "metric", "subset"])
    assert seeds.loc[("rome", name, "all"), "note"] == "no case has a value for every seed"


@pytest.mark.parametrize(
    ("dataset", "n"), [("coverage", 0), ("round_hard", 1), repeated("coverage", 1), repeated("round_hard", 0)]
)
def test_no_case_and_a_single_case(dataset, n):
    found = tables_of(**study_of(dataset, n, PART[:2]))
    assert (found["summary"]["n"] <= n).all()
    assert len(found["summary"]) > 0 or n == 0
    assert found["comparisons"]["note"].notna().all()


def test_no_runs():
    found = tables_of(runs=[], cases=[], scores=[], facets=[], variants=[])
    assert all(table.empty for table in found.values())


def test_a_run_with_other_cases_is_compared_on_those_in_common():
    study = study_of("reverse")
    study["scores"][0] = study["scores"][0][study["scores"][0]["case_id"] < 10]
    study["variants"][0] = study["variants"][0][study["variants"][0]["case_id"] < 10]
    found = tables_of(**study)
    rows = found["comparisons"][found["comparisons"]["metric"] == "conflict_score_exp"]
    rows = rows[rows["subset"] == "all"].drop_duplicates(["editor", "other"]).set_index(["editor", "other"])
    assert rows["n"].to_dict() == {("ft", "rome"): 10, ("ft", "memit"): 10, ("rome", "memit"): 20}
    assert found["stability"].loc[found["stability"]["pairs"] == "all", "n"].eq(10).all()


def test_scores_of_a_case_that_the_dataset_does_not_have_are_named():
    with pytest.raises(ValueError, match="case 1 has scores but is no case of this dataset"):
        summarise(scores_of({"success": [1.0, 0.0]}), cases_of(1), run_of())


def test_the_seed_decides_and_the_order_of_rows_does_not():
    study = study_of("composite", 40, PART[:2], seeds=(0, 1))
    first = tables_of(**study)
    rng = np.random.default_rng(0)
    shuffled = dict(study)
    for name in ("cases", "scores", "facets", "variants"):
        shuffled[name] = [rows.iloc[rng.permutation(len(rows))] for rows in study[name]]
    again = tables_of(**shuffled)
    for name in first:
        pd.testing.assert_frame_equal(first[name], again[name])
    assert set(first["seeds"]["seeds"]) == {2}
    other = analyse(**study, settings=Statistics(seed=1, resamples=200, permutations=199))
    for name, column in (("summary", "low"), ("comparisons", "low"), ("seeds", "low")):
        assert not other[name][1][column].equals(first[name][column]), (name, column)
    for name, column in (("summary", "value"), ("comparisons", "difference"), ("seeds", "value")):
        assert other[name][1][column].equals(first[name][column]), (name, column)


@pytest.mark.thorough
def test_the_benchmark_runs_to_its_end(capsys):
    certainty.main(["--cases", "12", "--datasets", "round_easy"])
    assert "5 runs" in capsys.readouterr().out
