"""The paper's claims: each verdict follows from an interval, and what cannot be decided stays open."""

from pathlib import Path

import pandas as pd
import pytest

from aftershock.metrics.catalogue import find_metric
from aftershock.metrics.differences import between
from aftershock.paper.claims import OPEN, REFUTED, SUPPORTED, WHOLE, claims, decide, read_claims
from aftershock.paper.reported import Study
from aftershock.tables.report import CLAIMS, SUMMARY
from simulated import simulated_run

PAPER = Path(__file__).parents[1] / "resources" / "paper"
STUDY = Study.read(PAPER)
STATED = read_claims(PAPER / "claims.yaml")
EDITORS = {
    "ft": {"method": "ft"},
    "rome": {"method": "rome"},
    "memit": {"method": "memit"},
    "memit_mle": {"method": "memit", "second_edit": "multi_label"},
}


def row(dataset, editor, metric, value, low, high, n=50, seed=0, model="demo"):
    run = {"model": model, "dataset": dataset, "editor": editor, "seed": seed, "subset": "all"}
    figures = {"metric": metric, "value": value, "low": low, "high": high, "n": n, "clusters": n}
    filler = {name: None for name in SUMMARY.columns}
    return {**filler, **run, **figures, "n_effective": float(n)}


def asked(rows, part, editors=EDITORS, comparisons=None):
    """The answers to a claim with one part, and the verdict on the whole."""
    stated = [{"claim": "c", "statement": "s", "source": "here", "parts": [part]}]
    table = claims(pd.DataFrame(rows), editors, stated, STUDY, comparisons)
    CLAIMS.check(table)
    whole = table[table["part"] == WHOLE]
    return table[table["part"] != WHOLE].reset_index(drop=True), whole["verdict"].item()


# --- what is asked ----------------------------------------------------------------------------------------
def test_every_claim_asks_about_known_methods_datasets_and_one_thing():
    questions = {"within", "above", "below", "above_dataset", "not_above_dataset"}
    names = [claim["claim"] for claim in STATED]
    assert len(names) == len(set(names)) == 8
    for claim in STATED:
        assert {"claim", "statement", "source", "parts"} == set(claim)
        for part in claim["parts"]:
            assert len(questions & set(part)) == 1
            named = [*part["methods"], *part.get("above", ()), *part.get("below", ())]
            assert set(named) <= set(STUDY.methods)
            assert find_metric(part["metric"].removesuffix("_held_out"))
            assert {"metric", "dataset", "methods"} <= set(part)


@pytest.mark.parametrize(
    ("interval", "ends", "verdict"),
    [
        ((-0.01, 0.02), {"least": -0.05, "most": 0.05}, SUPPORTED),
        ((-0.06, 0.02), {"least": -0.05, "most": 0.05}, OPEN),
        ((0.06, 0.2), {"least": -0.05, "most": 0.05}, REFUTED),
        ((-0.3, -0.2), {"least": -0.05, "most": 0.05}, REFUTED),
        ((0.01, 0.2), {"least": 0.0}, SUPPORTED),
        ((0.0, 0.2), {"least": 0.0}, OPEN),
        ((-0.2, -0.1), {"least": 0.0}, REFUTED),
        ((-0.2, -0.1), {"most": 0.0}, SUPPORTED),
        ((float("nan"), float("nan")), {"least": 0.0}, OPEN),
    ],
)
def test_an_interval_decides_or_leaves_open(interval, ends, verdict):
    assert decide(*interval, **ends) == verdict


# --- how it is answered -----------------------------------------------------------------------------------
NEAR = {"metric": "conflict_score_imp", "dataset": "reverse", "methods": ["ROME", "MEMIT"], "within": 0.05}
ROME_NEAR = {**NEAR, "methods": ["ROME"]}


def near(editor="rome", value=0.01, low=0.0, high=0.04, **more):
    return row("reverse", editor, NEAR["metric"], value, low, high, **more)


def test_about_zero():
    rows = [near(), near("memit", 0.02, high=0.03)]
    answers, whole = asked(rows, NEAR)
    assert (list(answers["verdict"]), whole) == ([SUPPORTED] * 2, SUPPORTED)
    assert answers.loc[0, "part"] == "conflict score, implicit (reverse): rome within 5.0\xa0% of zero"
    assert answers.loc[0, "evidence"] == "1.0\xa0% (0.0\xa0% to 4.0\xa0%, n = 50)"
    for interval, verdict in (
        (dict(value=0.2, low=0.1, high=0.3), REFUTED),
        (dict(value=0.04, high=0.2), OPEN),
    ):
        answers, whole = asked([rows[0], near("memit", **interval)], NEAR)
        assert (list(answers["verdict"]), whole) == ([SUPPORTED, verdict], verdict)


def test_a_missing_method_or_value_leaves_a_claim_open():
    rows = [near()]
    answers, whole = asked(rows, NEAR)
    assert (list(answers["verdict"]), whole) == ([SUPPORTED, OPEN], OPEN)
    assert answers.loc[1, "evidence"] == "MEMIT was not run"
    rows.append(near("memit", None, None, None, n=0))
    assert asked(rows, NEAR)[0].loc[1, "evidence"] == "memit has no value for reverse"


def test_a_model_that_knows_too_little_tests_nothing():
    rows = [near(), row("reverse", "rome", "known", 0.1, 0.05, 0.2)]
    answers, whole = asked(rows, ROME_NEAR)
    assert whole == OPEN
    assert answers.loc[0, "evidence"].startswith("format check only: demo knows 10.0")


ABOVE = {"metric": "conflict_score_exp", "dataset": "composite", "methods": ["FT"], "above": ["ROME"]}


def test_methods_are_compared_on_the_same_cases_where_that_was_done():
    sides = [
        row("composite", "ft", ABOVE["metric"], 0.6, 0.45, 0.75),
        row("composite", "rome", ABOVE["metric"], 0.5, 0.35, 0.65),
    ]
    answers, whole = asked(sides, ABOVE)
    assert whole == OPEN  # each alone is too unsure
    low, high = between(0.6, 0.45, 0.75, 0.5, 0.35, 0.65)
    assert answers.loc[0, ["value", "low", "high"]].tolist() == pytest.approx([0.1, low, high])
    pair = {"model": "demo", "subset": "all", "dataset": "composite", "metric": ABOVE["metric"], "n": 48}
    paired = {**pair, "editor": "rome", "other": "ft", "difference": -0.1, "low": -0.15, "high": -0.05}
    paired |= {"seeds": 1, "value": 0.5, "other_value": 0.6}
    answers, whole = asked(sides, ABOVE, comparisons=pd.DataFrame([paired]))
    assert whole == SUPPORTED
    assert answers.loc[0, ["value", "low", "high", "n"]].tolist() == [0.1, 0.05, 0.15, 48]
    said = "paired difference 10.0\xa0points (5.0\xa0points to 15.0\xa0points, n = 48)"
    assert said in answers.loc[0, "evidence"]
    seeds = {**paired, "seeds": 2, "value": 0.42, "other_value": 0.52}
    answers, _ = asked(sides, ABOVE, comparisons=pd.DataFrame([seeds]))
    assert answers.loc[0, "evidence"].startswith(
        "52.0\xa0% against 42.0\xa0%; paired difference, mean over 2 seeds 10.0\xa0points"
    )
    below = {**{key: ABOVE[key] for key in ("metric", "dataset", "methods")}, "below": ABOVE["above"]}
    assert asked(sides, below, comparisons=pd.DataFrame([paired]))[1] == REFUTED
    strict = pd.DataFrame([{**paired, "subset": "strict"}])
    assert asked(sides, ABOVE, comparisons=strict)[1] == OPEN


def test_datasets_are_compared_by_their_intervals():
    about = {"metric": "ignore_rate", "dataset": "round_hard", "methods": ["ROME"]}
    above = {**about, "above_dataset": "round_easy"}
    same = {**about, "not_above_dataset": "round_easy", "margin": 0.05}

    def verdicts(hard, easy):
        rows = [
            row(f"round_{name}", "rome", "ignore_rate", *of) for name, of in (("hard", hard), ("easy", easy))
        ]
        return asked(rows, above)[1], asked(rows, same)[1]

    assert verdicts((0.8, 0.75, 0.85), (0.5, 0.45, 0.55)) == (SUPPORTED, REFUTED)
    assert verdicts((0.5, 0.48, 0.52), (0.5, 0.48, 0.52)) == (OPEN, SUPPORTED)


def test_every_label_of_a_method_is_asked_and_numbers_of_labels_count_as_some():
    three = {"method": "memit", "second_edit": "multi_label", "labels": 3}
    editors = {**EDITORS, "rome_slow": {"method": "rome"}, "three": three}
    rows = [near(label) for label in ("rome", "rome_slow", "three")]
    assert len(asked(rows, ROME_NEAR, editors)[0]) == 2
    assert len(asked(rows, {**NEAR, "methods": ["MLE of some labels"]}, editors)[0]) == 1


def test_only_the_lowest_seed_speaks():
    rows = [near(), near("rome", 0.9, 0.8, 0.95, seed=1)]
    assert asked(rows, ROME_NEAR)[1] == SUPPORTED


# --- a whole run ------------------------------------------------------------------------------------------
def test_a_simulated_run_is_asked_everything():
    made = simulated_run(fails=[("ft", "reverse")])
    table = claims(made.summary, EDITORS, STATED, STUDY)
    CLAIMS.check(table)
    whole = table[table["part"] == WHOLE].set_index("claim")["verdict"]
    assert list(whole.index) == [claim["claim"] for claim in STATED]
    # memit_mle is simulated to give the other objects back; all other methods take them away.
    assert whole["writing all labels lowers distortion"] == SUPPORTED
    assert whole["MEND keeps the contradicted fact too"] == OPEN
    counted = table[table["part"] != WHOLE].groupby("claim")["verdict"].value_counts()
    assert counted["writing all labels lowers distortion", SUPPORTED] == 6


def test_no_run_asks_nothing():
    table = claims(SUMMARY.empty(), {}, STATED, STUDY)
    CLAIMS.check(table)
    assert table.empty
