"""Metrics against numbers worked out by hand and against a slow, obvious implementation."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from aftershock.metrics.catalogue import metric
from aftershock.metrics.conflict import score_conflict
from aftershock.metrics.observed import probabilities
from aftershock.metrics.released import released_metrics
from aftershock.metrics.rounds import known_objects, score_round
from aftershock.metrics.run import DATASETS, score_run
from aftershock.metrics.summary import summarise
from aftershock.tables import OBJECT_SCORES, OBSERVATIONS, PROBABILITIES, PROBES, SCORES, SUMMARY
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate import Behaviour, failed, scores_of, simulate

GOLDEN = Path(__file__).parents[1].parent / "shared/golden/cases/metrics"


# --- helpers -----------------------------------------------------------------------------------------------
def observed(facts, case=0):
    """PROBABILITIES of one case from {(role, position): {state: p}}."""
    rows = [
        (
            case,
            role,
            position,
            state,
            "s",
            "R1",
            f"o{position}",
            "all",
            p,
            p,
            p > 0.5,
            float(p > 0.5),
            float(p > 0.5),
        )
        for (role, position), by_state in facts.items()
        for state, p in by_state.items()
    ]
    return pd.DataFrame(rows, columns=list(PROBABILITIES.columns))


def cases(n=1):
    frame = pd.DataFrame({"case_id": range(n), "split": "test", "rule": "R1>R2", "strict": True})
    return frame.assign(functionality=1.0, cluster=range(n), tied_known=True, n_objects=0, n_known=0)


def values(scores, case=0):
    """{metric: value} of one case."""
    return scores[scores["case_id"] == case].set_index("metric")["value"]


# --- p(k) --------------------------------------------------------------------------------------------------
def test_probability_is_a_mean_over_prompts_of_geometric_means_over_tokens():
    # Prompt 0: tokens .5 and .125, geometric mean .25; prompts 8 and 9: .5 and 1.
    logprobs = {0: (math.log(0.5 * 0.125), 2), 8: (math.log(0.5), 1), 9: (0.0, 3)}
    observations = pd.DataFrame(
        [(0, "1", 0, prompt, lp, n, [], prompt == 8) for prompt, (lp, n) in logprobs.items()],
        columns=list(OBSERVATIONS.columns),
    )
    probes = pd.DataFrame([(0, "old", 0, 0, "E1", "s", "R1", "E2", "o", "all")], columns=list(PROBES.columns))
    row = probabilities(probes, observations).iloc[0]
    assert row["probability"] == pytest.approx((0.25 + 0.5 + 1) / 3)
    assert row["edit_probability"] == pytest.approx(0.25)
    assert (row["exact"], row["paraphrase"], row["held_out"]) == (False, 0.5, 0.5)


# --- conflict ----------------------------------------------------------------------------------------------
CONFLICT = {
    ("old", 0): {"0": 0.1, "1": 0.8, "2": 0.2, "e2_only": 0.1, "control": 0.4},
    ("new_exp", 0): {"0": 0.05, "1": 0.05, "2": 0.6, "e2_only": 0.7, "control": 0.05},
    ("new_imp", 0): {"0": 0.2, "1": 0.2, "2": 0.2, "e2_only": 0.1, "control": 0.1},
    ("e2_true", 0): {"0": 0.9, "1": 0.9, "2": 0.6, "e2_only": 0.5, "control": 0.9},
    ("tied", 0): {"0": 0.5, "1": 0.4, "2": 0.1, "e2_only": 0.25, "control": 0.3},
    ("control_same", 0): {"0": 0.5, "1": 0.5, "2": 0.4, "e2_only": 0.5, "control": 0.5},
    ("control_same", 1): {"0": 0.5, "1": 0.5, "2": 0.3, "e2_only": 0.5, "control": 0.5},
    ("control_unrelated", 0): {"0": 0.8, "1": 0.8, "2": 0.9, "e2_only": 0.8, "control": 0.8},
}


def test_conflict_metrics_by_hand():
    got = values(score_conflict(cases(), observed(CONFLICT), "composite"))
    expected = {
        "success": 1,  # .6 > .05
        "success_released": 0,  # .6 against .6: a tie
        "success_released_tie": 1,
        "conflict_score_exp": 1,  # .6 > .2
        "conflict_score_exp_before": 0,  # .05 < .1
        "conflict_score_exp_after_first": 0,
        "conflict_score_exp_change": 1,
        "conflict_score_imp": 0,  # .2 against .2
        "conflict_score_imp_tie": 1,
        "conflict_score_imp_before": 1,  # .2 > .1
        "conflict_score_imp_change": -1,
        "conflict_magnitude": 0.75,  # (.8 - .2) / .8
        "conflict_magnitude_released": 0.75,
        "conflict_magnitude_log_ratio": math.log(4),
        "conflict_magnitude_control": 0.5,  # (.8 - .4) / .8
        "conflict_magnitude_control_difference": 0.25,
        "conflict_magnitude_log_ratio_control": math.log(2),
        "tied_fact_damage": 0.75,  # (.4 - .1) / .4
        "tied_fact_damage_known": 0.75,
        "tied_fact_damage_released": 0.8,  # (.5 - .1) / .5
        "tied_fact_damage_e2_only": 0.5,
        "tied_fact_damage_log_ratio": math.log(4),
        "tied_fact_damage_control": 0.25,  # (.4 - .3) / .4
        "tied_fact_damage_control_difference": 0.5,
        "tied_fact_damage_same": 0.3,  # mean of .2 and .4
        "tied_fact_damage_same_difference": 0.45,
        "tied_fact_damage_unrelated": -0.125,
        "tied_fact_damage_unrelated_difference": 0.875,
        "e1_exact": 1,
        "e2_exact": 1,
        "e1_failed": 0,
        "known": 1,
        "probability_old_before": 0.1,
        "probability_tied": 0.1,
    }
    assert got[list(expected)].to_dict() == pytest.approx(expected)
    assert "single_exact" not in got


def test_magnitude_is_unbounded_and_its_released_form_stops_at_minus_one():
    facts = CONFLICT | {("old", 0): {"0": 0.3, "1": 0.1, "2": 0.5, "e2_only": 0.1, "control": 0.1}}
    got = values(score_conflict(cases(), observed(facts), "reverse"))
    assert got["conflict_magnitude"] == pytest.approx(-4)
    assert got["conflict_magnitude_released"] == -1
    assert got["conflict_magnitude_log_ratio"] == pytest.approx(math.log(0.2))
    assert got["e1_failed"] == 1


def test_nothing_to_divide_by_is_empty_but_minus_one_where_the_released_code_clamps():
    facts = CONFLICT | {("old", 0): {"0": 0.3, "1": 0.0, "2": 0.5, "e2_only": 0.1, "control": 0.0}}
    got = values(score_conflict(cases(), observed(facts), "reverse"))
    assert got["conflict_magnitude_released"] == -1
    assert (
        got[["conflict_magnitude", "conflict_magnitude_control", "conflict_magnitude_log_ratio"]].isna().all()
    )


def test_a_control_scored_on_the_edit_prompt_is_compared_on_it():
    rows = observed(CONFLICT)
    rows.loc[rows["role"] == "control_same", "prompts"] = "edit"
    tied = rows["role"] == "tied"
    rows.loc[tied, "edit_probability"] = rows.loc[tied, "state"].map({"1": 0.5, "2": 0.4}).fillna(0.5)
    got = values(score_conflict(cases(), rows, "composite"))
    assert got["tied_fact_damage_same_difference"] == pytest.approx(
        0.2 - 0.3
    )  # (.5 - .4) / .5 on that prompt
    assert got["tied_fact_damage_unrelated_difference"] == pytest.approx(0.875)


def test_damage_to_tied_facts_that_the_model_knew_is_told_apart():
    got = values(score_conflict(cases().assign(tied_known=False), observed(CONFLICT), "composite"))
    assert got["tied_fact_damage"] == pytest.approx(0.75)
    assert np.isnan(got["tied_fact_damage_known"])


def test_single_by_hand():
    facts = {key: CONFLICT[key] for key in [("old", 0), ("new_exp", 0), ("new_imp", 0)]} | {
        ("neighbour", 0): {"0": 0.9, "1": 0.9, "2": 0.9, "e2_only": 0.9},
        ("neighbour", 1): {"0": 0.9, "1": 0.9, "2": 0.9, "e2_only": 0.2},
        ("neighbour", 2): {"0": 0.2, "1": 0.9, "2": 0.9, "e2_only": 0.9},  # unknown before: does not count
        ("same_subject", 0): {"0": 0.1, "1": 0.1, "2": 0.1, "e2_only": 0.1},
    }
    got = values(score_conflict(cases(), observed(facts), "coverage"))
    expected = {
        "success_released": 1,  # e2 alone: .7 > .1
        "single_success": 1,
        "single_exact": 1,
        "single_held_out": 1,
        "single_neighbours_kept": 0.5,
    }
    assert got[list(expected)].to_dict() == pytest.approx(expected)
    assert np.isnan(got["single_same_subject_kept"])


# --- round -------------------------------------------------------------------------------------------------
ROUND = {
    ("target", 0): {"0": 0.1, "1": 0.9, "2": 0.2, "random": 0.1},
    ("original", 0): {"0": 0.4, "1": 0.1, "2": 0.6, "random": 0.4},
    ("object", 0): {"0": 0.2, "1": 0.1, "2": 0.15, "random": 0.1},
    ("object", 1): {"0": 0.2, "1": 0.1, "2": 0.25, "random": 0.2},
    ("control_object", 0): {"0": 0.3, "1": 0.3, "2": 0.3, "random": 0.3},
    ("control_object", 1): {"0": 0.1, "1": 0.1, "2": 0.09, "random": 0.1},
}


def test_round_metrics_by_hand():
    table = cases().assign(n_objects=3, n_known=2)
    got = values(score_round(table, observed(ROUND)))
    # Unedited (.5, .25, .25), after both (.6, .15, .25): mean (.55, .2, .25).
    edited = (0.6 * math.log(0.6 / 0.55) + 0.5 * math.log(0.5 / 0.55)) / 2
    lost = (0.15 * math.log(0.15 / 0.2) + 0.25 * math.log(0.25 / 0.2)) / 2
    expected = {
        "success": 1,  # .9 > .1 and .6 > .1
        "success_released": 1,  # .9 > .1 and .6 > .2
        "distortion": edited + lost,
        "distortion_released": (edited + lost) / 3,
        "distortion_overshoot": edited,
        "distortion_loss": lost,
        "ignore_rate": 0.5,
        "failure_rate": 0,  # exactly half is no failure
        "ignore_rate_margin": 0.5,
        "others_log_ratio": (math.log(0.75) + math.log(1.25)) / 2,
        "ignore_rate_after_first": 1,
        "failure_rate_after_first": 1,
        "ignore_rate_random": 0.5,
        "ignore_rate_random_difference": 0,
        "ignore_rate_control": 0.5,
        "ignore_rate_margin_control": 0.5,  # ln .9 is below -.1
        "failure_rate_by_chance": 0.25,  # two objects: both must lose
        "e1_exact": 1,
        "e2_exact": 1,
        "any_exact": 1,
        "any_exact_before": 0,
        "known": 2 / 3,
        "probability_others_before": 0.2,
    }
    assert got[list(expected)].to_dict() == pytest.approx(expected)


def test_round_success_counts_each_edit_half():
    facts = ROUND | {("original", 0): {"0": 0.4, "1": 0.1, "2": 0.15, "random": 0.4}}
    got = values(score_round(cases(), observed(facts)))
    assert got["success"] == 1  # .15 > .1
    assert got["success_released"] == 0.5  # .15 < .2


def test_known_objects_restrict_the_metrics():
    known = pd.Series(
        [False, True], index=pd.MultiIndex.from_tuples([(0, 0), (0, 1)], names=["case_id", "position"])
    )
    got = values(score_round(cases(), observed(ROUND), known))
    assert got["ignore_rate_known"] == 0  # only .2 -> .25 is left
    # (.4, .2) and (.6, .25) as distributions
    p, q = np.array([2 / 3, 1 / 3]), np.array([0.6, 0.25]) / 0.85
    middle = (p + q) / 2
    divergence = (p * np.log(p / middle) + q * np.log(q / middle)).sum() / 2
    assert got["distortion_known"] == pytest.approx(divergence)
    nothing = values(score_round(cases(), observed(ROUND), ~known & False))
    assert nothing[["ignore_rate_known", "distortion_known", "failure_rate_known"]].isna().all()


def test_objects_that_are_not_listed_are_not_known():
    probes = pd.DataFrame(
        [(0, "object", i, i, "E1", "s", "R1", f"E{i}", "o", "all") for i in range(3)],
        columns=list(PROBES.columns),
    )
    scored = pd.DataFrame(
        [("E1", "R1", "E0", 0.5, 1, True, None), ("E1", "R1", "E1", 0.1, 9, False, None)],
        columns=list(OBJECT_SCORES.columns),
    )
    assert known_objects(probes, scored).tolist() == [True, False, False]


def test_a_case_without_other_objects_has_no_distortion():
    facts = {key: value for key, value in ROUND.items() if key[0] in ("target", "original")}
    got = values(score_round(cases(), observed(facts)))
    assert got[["distortion", "distortion_released", "ignore_rate", "failure_rate_by_chance"]].isna().all()
    assert got["success"] == 1


# --- whole runs --------------------------------------------------------------------------------------------
def run(dataset, n=12, seed=0, behaviour=None, shards=("00000-00007", "00008-00015"), **changed):
    """Probabilities and scores of a simulated run, cut into shards."""
    sim = simulate(dataset, n, seed, {"editor": behaviour or Behaviour()})
    rows = changed.pop("observations", sim.observations["editor"])
    cut = {}
    for shard in shards:
        first, last = map(int, shard.split("-"))
        cut[shard] = rows[rows["case_id"].between(first, last)]
    arguments = {
        "cases": sim.cases,
        "probes": sim.probes,
        "unedited": sim.unedited,
        "shards": cut,
        "telemetry": sim.telemetry["editor"],
        "dataset": dataset,
        "ranges": list(shards),
    }
    return sim, *score_run(**arguments | changed)


@pytest.mark.parametrize("dataset", DATASETS)
def test_tables_are_valid_and_every_metric_is_described(dataset):
    sim, readings, scores = run(dataset)
    PROBABILITIES.check(readings)
    SCORES.check(scores)
    summary = summarise(scores, sim.cases, {"model": "m", "dataset": dataset, "editor": "e", "seed": 0})
    SUMMARY.check(summary)
    assert set(summary["metric"]) == set(scores["metric"])
    for name in summary["metric"]:
        assert metric(name).about.endswith(".")
    full = summary[(summary["subset"] == "all") & (summary["n"] > 0)]
    assert (full["low"] < full["high"]).all()
    assert full["low"].le(full["value"] + 1e-9).all()
    assert full["high"].ge(full["value"] - 1e-9).all()


def slow_conflict(case, probes, rows, dataset):
    """A few conflict metrics of one case, with loops and dictionaries."""

    def p(role, state, position=0):
        (probe,) = [q for q in probes if q["role"] == role and q["position"] == position]
        seen = [r for r in rows if r["probe_id"] == probe["probe_id"] and r["state"] == state]
        return sum(math.exp(r["logprob"] / r["n_tokens"]) for r in seen) / len(seen)

    def exact(role, state, position):
        (probe,) = [q for q in probes if q["role"] == role and q["position"] == position]
        return any(
            r["argmax_match"]
            for r in rows
            if r["probe_id"] == probe["probe_id"] and r["state"] == state and r["prompt_id"] == 0
        )

    roles = [q["role"] for q in probes]
    result = {
        "success": float(p("new_exp", "2") > p("new_exp", "0")),
        "conflict_score_exp": float(p("new_exp", "2") > p("old", "2")),
        "conflict_score_imp_before": float(p("new_imp", "0") > p("old", "0")),
        "conflict_magnitude": (p("old", "1") - p("old", "2")) / p("old", "1"),
        "conflict_magnitude_control_difference": (p("old", "control") - p("old", "2")) / p("old", "1"),
    }
    if dataset == "coverage":
        result["success_released"] = float(p("new_exp", "e2_only") > p("old", "e2_only"))
        right = [i for i in range(roles.count("neighbour")) if exact("neighbour", "0", i)]
        kept = [i for i in right if exact("neighbour", "e2_only", i)]
        result["single_neighbours_kept"] = len(kept) / len(right) if right else math.nan
    if dataset == "composite":
        result["tied_fact_damage_released"] = (p("tied", "0") - p("tied", "2")) / p("tied", "0")
        unrelated = [p("control_unrelated", state) for state in ("1", "2")]
        result["tied_fact_damage_unrelated"] = (unrelated[0] - unrelated[1]) / unrelated[0]
    return result


def slow_round(case, probes, rows, dataset):
    """A few round metrics of one case, with loops and dictionaries."""

    def p(probe, state):
        seen = [r for r in rows if r["probe_id"] == probe["probe_id"] and r["state"] == state]
        return sum(math.exp(r["logprob"] / r["n_tokens"]) for r in seen) / len(seen)

    by_role = {role: [q for q in probes if q["role"] == role] for role in {q["role"] for q in probes}}
    target, original, others = by_role["target"][0], by_role["original"][0], by_role["object"]
    objects = [original, *others]
    before = [p(o, "0") / sum(p(q, "0") for q in objects) for o in objects]
    after = [p(o, "2") / sum(p(q, "2") for q in objects) for o in objects]
    divergence = 0.0
    for a, b in zip(after, before, strict=True):
        divergence += 0.5 * a * math.log(2 * a / (a + b)) + 0.5 * b * math.log(2 * b / (a + b))
    lost = sum(p(o, "2") < p(o, "0") for o in others)
    return {
        "success_released": (int(p(target, "1") > p(original, "1")) + int(p(original, "2") > p(target, "2")))
        / 2,
        "distortion": divergence,
        "distortion_released": divergence / len(objects),
        "ignore_rate": lost / len(others),
        "failure_rate": float(lost / len(others) > 0.5),
        "ignore_rate_margin": sum(math.log(p(o, "2") / p(o, "0")) < -0.1 for o in others) / len(others),
        "others_log_ratio": sum(math.log(p(o, "2") / p(o, "0")) for o in others) / len(others),
        "ignore_rate_control": sum(p(o, "2") < p(o, "0") for o in by_role["control_object"]) / 2,
    }


@settings(max_examples=15, deadline=None)
@given(
    dataset=st.sampled_from(DATASETS),
    seed=st.integers(0, 10**6),
    n=st.integers(1, 5),
    behaviour=st.builds(
        Behaviour,
        write=st.floats(-2, 8),
        erase=st.floats(-2, 6),
        spill=st.floats(-3, 3),
        others=st.floats(-3, 3),
        noise=st.floats(0, 2),
    ),
)
def test_scores_equal_a_slow_implementation(dataset, seed, n, behaviour):
    sim, _, scores = run(dataset, n, seed, behaviour)
    rows = pd.concat([sim.unedited, sim.observations["editor"]])
    slow = slow_round if dataset.startswith("round") else slow_conflict
    for case in range(n):
        probes = sim.probes[sim.probes["case_id"] == case].to_dict("records")
        expected = slow(case, probes, rows[rows["case_id"] == case].to_dict("records"), dataset)
        got = values(scores, case)[list(expected)].to_dict()
        assert got == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_parts_of_the_distortion_never_exceed_it():
    _, _, scores = run("round_easy", 16)
    wide = scores.pivot(index="case_id", columns="metric", values="value")
    assert (wide["distortion_overshoot"] + wide["distortion_loss"] <= wide["distortion"] + 1e-12).all()
    assert (wide["distortion"] <= math.log(2)).all()


# --- holes and faults --------------------------------------------------------------------------------------
def test_a_missing_case_names_its_shard():
    sim = simulate("reverse", 12, editors={"editor": Behaviour()})
    rows = sim.observations["editor"]
    with pytest.raises(ValueError, match="shard 00008-00015 lacks case 9 in state 1"):
        run("reverse", observations=rows[rows["case_id"] != 9])


def test_a_case_in_two_shards_names_both():
    with pytest.raises(ValueError, match="case 4 is in the shards 00000-00007 and 00004-00011"):
        run("reverse", shards=("00000-00007", "00004-00011"))


def test_a_missing_shard_is_named():
    with pytest.raises(ValueError, match="shard 00016-00023 is missing"):
        run("reverse", ranges=["00000-00007", "00008-00015", "00016-00023"])


def test_an_incomplete_state_is_named():
    sim = simulate("reverse", 12, editors={"editor": Behaviour()})
    rows = sim.observations["editor"]
    with pytest.raises(ValueError, match=r"case 3 has \d+ observations in state 2"):
        run(
            "reverse", observations=rows.drop(rows[(rows["case_id"] == 3) & (rows["state"] == "2")].index[:2])
        )


def test_an_observation_that_is_there_twice_or_not_a_number_is_named():
    rows = simulate("reverse", 12, editors={"editor": Behaviour()}).observations["editor"]
    with pytest.raises(ValueError, match=r"there twice: .*'case_id': 0"):
        run("reverse", observations=pd.concat([rows, rows.head(1)]))
    with pytest.raises(ValueError, match="no log-probability: {'case_id': 0"):
        run("reverse", observations=rows.assign(logprob=rows["logprob"].where(rows.index > 0)))


def test_only_test_cases_are_scored():
    sim = simulate("reverse", 12, editors={"editor": Behaviour()})
    cases = sim.cases.assign(split=["test"] * 8 + ["dev"] * 4)
    with pytest.raises(ValueError, match="shard 00008-00015 holds case 8, which is no test case"):
        run("reverse", cases=cases)
    rows = sim.observations["editor"]
    _, _, scores = run("reverse", cases=cases, observations=rows[rows["case_id"] < 8])
    assert scores["case_id"].nunique() == 8


def test_a_failed_edit_leaves_empty_values_and_is_counted():
    sim = simulate("composite", 12, editors={"editor": Behaviour()})
    rows, telemetry = sim.observations["editor"], sim.telemetry["editor"]
    telemetry = telemetry.astype({"reason": object})
    telemetry.loc[(telemetry["case_id"] == 5) & (telemetry["state"] == "1"), "reason"] = "diverged"
    gone = (rows["case_id"] == 5) & rows["state"].isin(["1", "2", "control"])
    _, _, scores = run("composite", observations=rows[~gone], telemetry=telemetry)
    got = values(scores, 5)
    assert got["edit_failed"] == 1
    assert np.isnan(got["conflict_magnitude"])
    assert got["tied_fact_damage_e2_only"] < 1
    assert values(scores, 6)["edit_failed"] == 0


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_method_that_failed_on_all_cases_has_rows_without_values(dataset):
    sim = simulate(dataset, 12, editors={"editor": Behaviour()})
    rows, telemetry = failed(sim)
    _, _, scores = run(dataset, observations=rows, telemetry=telemetry)
    summary = summarise(scores, sim.cases, {"model": "m", "dataset": dataset, "editor": "e", "seed": 0})
    SUMMARY.check(summary)
    name = "conflict_magnitude" if not dataset.startswith("round") else "distortion"
    rows = summary[(summary["metric"] == name) & (summary["subset"] == "all")]
    assert (rows["n"] == 0).all()
    assert rows["value"].isna().all()
    assert summary.set_index(["subset", "metric"]).loc[("all", "edit_failed"), "value"] == 1


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("n", [0, 1])
def test_no_case_and_a_single_case(dataset, n):
    sim, readings, scores = run(dataset, n)
    PROBABILITIES.check(readings)
    SCORES.check(scores)
    summary = summarise(scores, sim.cases, {"model": "m", "dataset": dataset, "editor": "e", "seed": 0})
    SUMMARY.check(summary)
    assert (summary.loc[summary["subset"] == "all", "n"] <= n).all()
    assert (len(summary) > 0) == (n > 0)


@pytest.mark.parametrize(("dataset", "state"), [("composite", "control"), ("round_easy", "random")])
def test_missing_controls_leave_their_metrics_empty(dataset, state):
    sim = simulate(dataset, 12, editors={"editor": Behaviour()})
    rows = sim.observations["editor"]
    _, _, scores = run(dataset, observations=rows[rows["state"] != state])
    wide = scores.pivot(index="case_id", columns="metric", values="value")
    name = "conflict_magnitude_control" if state == "control" else "distortion_random"
    assert wide[[name, f"{name}_difference"]].isna().all(axis=None)
    assert wide[name.removesuffix(f"_{state}")].notna().all()


def test_strict_cases_are_summarised_apart():
    scores = scores_of({"success": [1.0, 0.0, 0.0, None], "conflict_magnitude": [0.5, 0.25, None, 0.75]})
    table = cases(4).assign(strict=[True, True, False, False])
    summary = summarise(scores, table, {"model": "m", "dataset": "reverse", "editor": "e", "seed": 0})
    by_name = summary.set_index(["subset", "metric"])
    assert by_name.loc[("all", "success"), "value"] == pytest.approx(1 / 3)
    assert by_name.loc[("strict", "success"), "value"] == 0.5
    assert by_name.loc[("all", "conflict_magnitude"), "value"] == 0.5
    assert by_name.loc[("strict", "conflict_magnitude"), ["n", "clusters"]].tolist() == [2, 2]


def test_an_undescribed_metric_is_an_error():
    with pytest.raises(ValueError, match="metric 'charm' is in no catalogue"):
        metric("charm")


# --- the released code -------------------------------------------------------------------------------------
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the recorded metrics in ../shared/golden are not here")
def test_released_numbers_are_reproduced():
    folders = [path for path in GOLDEN.iterdir() if (path / "expected.json").is_file()]
    assert folders
    for folder in folders:
        expected = json.loads((folder / "expected.json").read_text())
        got = released_metrics(folder)
        assert set(got.rows) == set(expected["rows"])
        for name, rows in expected["rows"].items():
            for number, row in enumerate(rows):
                for column, value in row.items():
                    tolerance = 1e-7 if column in ("D", "JS") else 1e-12
                    assert got.rows[name].loc[number, column] == pytest.approx(value, rel=0, abs=tolerance)
        for name, row in expected["summary"].items():
            for column, value in row.items():
                assert got.summary[name][column] == pytest.approx(
                    value, rel=0, abs=1e-7 if column == "D" else 1e-12
                )


def test_released_round_results_need_the_unedited_model(tmp_path):
    (tmp_path / "ROME_easy.json").write_text(json.dumps([{"edit1": {}, "edit2": {}}]))
    with pytest.raises(ValueError, match=r"needs the unedited model's probabilities: easy_model.json"):
        released_metrics(tmp_path)
