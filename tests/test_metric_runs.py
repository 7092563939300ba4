"""Whole simulated runs: against a slow, obvious implementation, and with holes and faults in what was
observed.
"""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftershock.metrics.catalogue import metric
from aftershock.metrics.run import DATASETS, score_run
from aftershock.metrics.summary import summarise
from aftershock.tables import PROBABILITIES, SCORES, SUMMARY
from simulate import Behaviour, failed, scores_of, simulate, values


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
    table = pd.DataFrame({"case_id": range(4), "cluster": range(4), "strict": [True, True, False, False]})
    summary = summarise(scores, table, {"model": "m", "dataset": "reverse", "editor": "e", "seed": 0})
    by_name = summary.set_index(["subset", "metric"])
    assert by_name.loc[("all", "success"), "value"] == pytest.approx(1 / 3)
    assert by_name.loc[("strict", "success"), "value"] == 0.5
    assert by_name.loc[("all", "conflict_magnitude"), "value"] == 0.5
    assert by_name.loc[("strict", "conflict_magnitude"), ["n", "clusters"]].tolist() == [2, 2]


def test_an_undescribed_metric_is_an_error():
    with pytest.raises(ValueError, match="metric 'charm' is in no catalogue"):
        metric("charm")
