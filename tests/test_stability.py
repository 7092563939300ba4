"""The order of editors under another scoring: by hand, against loops, and with holes."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from aftershock.metrics.settings import Statistics
from aftershock.metrics.stability import resampled_tau, stability, variant_blocks
from aftershock.tables.report import STABILITY
from simulate import cases_of, run_of

QUICK = Statistics(resamples=200)
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
    table = stability(blocks, {("demo", dataset): set(equal)}, QUICK)
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
