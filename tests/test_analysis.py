"""All statistical tables of a study, from sound runs and runs with holes; the order under other scorings."""

from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from aftershock.datasets.table import DATASETS
from aftershock.metrics.analysis import analyse
from aftershock.metrics.settings import Statistics
from aftershock.metrics.stability import BASE, resampled_tau, stability, variant_blocks
from aftershock.metrics.summary import summarise
from aftershock.tables.report import STABILITY
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


FEW = Statistics(resamples=200)
NAME = "conflict_magnitude"
SCORINGS, PROMPTS = ("geometric_mean", "joint", "first_token"), ("all", "edit", "paraphrases")


def variants_of(means, n=8, metric=NAME, noise=0.0, seed=0):
    """VARIANTS of one editor: its mean under each scoring, the same for all prompts."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        [
            (case, metric, scoring, prompts, mean if mean is None else mean + noise * rng.normal())
            for scoring, mean in zip(SCORINGS, means, strict=True)
            for prompts in PROMPTS
            for case in range(n)
        ],
        columns=["case_id", "metric", "scoring", "prompts", "value"],
    ).astype({"value": float})


def ranked(editors, n=8, equal=(), dataset="reverse", clusters=None):
    runs = [run_of(dataset, name) for name in editors]
    blocks = variant_blocks(runs, [cases_of(n, clusters)] * len(runs), list(editors.values()))
    table = stability(blocks, {("demo", dataset): set(equal)}, FEW)
    STABILITY.check(table)
    return table.set_index(["scoring", "prompts", "pairs"])


def test_tau_by_hand():
    means = {"a": [0.9, 0.9, 0.5], "b": [0.6, 0.2, 0.5], "c": [0.3, 0.4, 0.1]}
    table = ranked({name: variants_of(of) for name, of in means.items()})
    base = table.loc["geometric_mean", "all", "all"]
    assert (base["order"], base["tau"], base["best"], base["methods"]) == ("a > b > c", 1, "a", 3)
    joint = table.loc["joint", "edit", "all"]
    # Of three pairs two keep their order and one turns: (2 - 1) / 3.
    assert (joint["order"], joint["tau"]) == ("a > c > b", pytest.approx(1 / 3))
    assert (joint["best"], joint["base_best"], joint["same_best"]) == ("a", "a", True)
    first = table.loc["first_token", "all", "all"]
    # One tie: 2 / sqrt(3 * 2).
    assert (first["order"], first["tau"]) == ("a = b > c", pytest.approx(2 / np.sqrt(6)))
    assert (first["best"], first["same_best"]) == ("a, b", False)


def test_less_is_better_where_the_catalogue_says_so():
    editors = {name: variants_of([mean] * 3, metric="distortion") for name, mean in (("a", 0.6), ("b", 0.1))}
    assert ranked(editors, dataset="round_easy").loc["joint", "all", "all"]["order"] == "b > a"


def test_pairs_of_equal_token_counts_are_ranked_apart():
    b = variants_of([0.2] * 3)
    b.loc[b["case_id"] < 3, "value"] = 0.9
    table = ranked({"a": variants_of([0.5] * 3), "b": b}, equal=range(3))
    whole, equal = (table.loc["geometric_mean", "all", pairs] for pairs in ("all", "equal_tokens"))
    assert (whole["order"], whole["n"]) == ("a > b", 8)
    assert (equal["order"], equal["n"], equal["clusters"], equal["tau"]) == ("b > a", 3, 3, -1)
    none = ranked({"a": variants_of([0.5] * 3), "b": b}).loc["joint", "all", "equal_tokens"]
    assert (none["n"], none["note"], none["methods"]) == (0, "no case that the editors have in common", 0)


def test_editors_are_ranked_on_the_cases_that_all_have():
    a, b = variants_of([0.5] * 3), variants_of([0.4] * 3)
    b.loc[b["case_id"] == 0, "value"] = np.nan
    a.loc[a["case_id"] == 0, "value"] = -100.0
    nothing = variants_of([None] * 3)
    found = ranked({"a": a, "b": b, "void": nothing}).loc["joint", "all", "all"]
    assert (found["order"], found["n"], found["methods"]) == ("a > b", 7, 2)
    assert found["note"] == "without void, which has no value"
    alone = ranked({"a": a, "void": nothing}).loc["joint", "all", "all"]
    assert alone["note"] == "without void, which has no value; one editor has no order"
    assert np.isnan([alone["tau"], alone["tau_resampled"]]).all()


def test_ties_of_all_are_no_order():
    found = ranked({"a": variants_of([0.5, 0.5, 0.1]), "b": variants_of([0.5, 0.5, 0.2])})
    for scoring in ("joint", "first_token"):
        row = found.loc[scoring, "all", "all"]
        assert np.isnan(row["tau"])
        assert row["note"] == "all are tied, here or in the base"
    assert found.loc["joint", "all", "all"]["order"] == "a = b"


def test_resampled_tau_is_that_of_a_loop():
    rng = np.random.default_rng(2)
    means, drawn = rng.normal(size=4), rng.integers(0, 3, (50, 4)).astype(float)
    taus = [kendalltau(means, row).statistic for row in drawn if np.ptp(row)]
    assert resampled_tau(means, drawn) == pytest.approx(np.mean(taus))
    assert np.isnan(resampled_tau(np.ones(3), drawn[:, :3]))


def test_chance_reorders_editors_that_are_close():
    def both(gap):
        editors = {
            name: variants_of([0.5 + gap * i] * 3, 30, noise=0.3, seed=i) for i, name in enumerate("abc")
        }
        return ranked(editors, 30).loc["joint", "all", "all"]["tau_resampled"]

    assert both(0.01) < 0.7 < 0.99 < both(2.0) <= 1


def test_taus_of_all_variants():
    rng = np.random.default_rng(5)
    editors = {name: variants_of(rng.random(3), 20, noise=0.2, seed=i) for i, name in enumerate("abcd")}
    table = ranked(editors, 20, range(0, 20, 2))
    for (scoring, prompts, pairs), row in table.iterrows():
        means, base = [], []
        for rows in editors.values():
            mine = rows[rows["case_id"] % 2 == 0] if pairs == "equal_tokens" else rows
            kind = mine.groupby(["scoring", "prompts"])["value"].mean()
            means.append(kind[scoring, prompts])
            base.append(rows.groupby(["scoring", "prompts"])["value"].mean()["geometric_mean", "all"])
        agree = [
            np.sign(means[i] - means[j]) * np.sign(base[i] - base[j]) for i, j in combinations(range(4), 2)
        ]
        assert row["tau"] == pytest.approx(np.mean(agree))
