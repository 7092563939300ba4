"""Runs with holes and faults in what was observed: refused, or scored as far as they go and listed."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from aftershock.datasets.table import DATASETS
from aftershock.metrics.summary import summarise
from aftershock.tables.cases import EDITS
from aftershock.tables.report import SUMMARY
from aftershock.tables.runs import FACETS, HOLES, PROBABILITIES, SCORES, VARIANTS
from simulate import one_editor, run_of, score, values
from tiers import some

BOTH = ("00000-00007", "00008-00015")


def refused(sim, message, rows=None, **changed):
    """The run is refused with `message`."""
    with pytest.raises(ValueError, match=message):
        score(sim, rows, **changed)


def scored(sim, rows=None, **changed):
    """The incomplete run, scored."""
    return score(sim, rows, **changed, incomplete=True)


def holes_of(found):
    HOLES.check(found.holes)
    return found.holes.set_index(["case_id", "state"])


def is_marked(found, case):
    """The case is missing and has no value that needs an edited state; others are as in a whole run."""
    flags = found.scores[found.scores["metric"] == "missing"].set_index("case_id")["value"]
    assert flags[case] == 1
    return np.isnan(values(found.scores, case)["success"])


@pytest.fixture(scope="module")
def sim():
    return one_editor("reverse")


# --- holes and faults --------------------------------------------------------------------------------------
def test_a_missing_case_is_named_with_its_shard(sim):
    rows = sim.observations["editor"]
    rows = rows[rows["case_id"] != 9]
    refused(sim, "shard 00008-00015, case 9, state 1: not observed; delete that file", rows)
    found = scored(sim, rows)
    holes = holes_of(found)
    assert holes.index.tolist() == [(9, "1"), (9, "2"), (9, "e2_only")]
    assert set(holes["reason"]) == {"not observed"}
    assert is_marked(found, 9)
    part, whole = (scores[scores["case_id"] != 9] for scores in (found.scores, score(sim).scores))
    pd.testing.assert_frame_equal(part.reset_index(drop=True), whole.reset_index(drop=True))


def test_a_case_in_two_shards_names_both(sim):
    shards = ("00000-00007", "00004-00011")
    refused(sim, "case 4, state 1: the case is in the shards 00000-00007 and 00004-00011", shards=shards)
    found = scored(sim, shards=shards)
    assert is_marked(found, 4)
    reasons = holes_of(found).loc[4, "reason"]
    assert set(reasons) == {"the case is in the shards 00000-00007 and 00004-00011"}
    assert set(found.holes["case_id"]) == {4, 5, 6, 7}


def test_a_missing_shard_is_named(sim):
    refused(sim, "shard 00016-00023 is missing", ranges=[*BOTH, "00016-00023"])
    found = scored(sim, shards=BOTH[:1], ranges=BOTH)
    holes = holes_of(found)
    assert set(found.holes["case_id"]) == {8, 9, 10, 11}
    assert holes.loc[(8, "2"), ["shard", "reason"]].tolist() == ["00008-00015", "the shard is missing"]
    assert is_marked(found, 11)
    assert found.scores["case_id"].nunique() == 12
    assert is_marked(scored(sim, shards=(), ranges=BOTH), 0)


def test_an_incomplete_state_is_named(sim):
    rows = sim.observations["editor"]
    of_case = (rows["case_id"] == 3) & (rows["state"] == "2")
    fewer = rows.drop(rows[of_case].index[:2])
    refused(sim, "case 3, state 2: 53 observations, 55 in the unedited model", fewer)
    other = rows.assign(prompt_id=rows["prompt_id"].mask(of_case & (rows["prompt_id"] == 4), 11))
    refused(sim, "case 3, state 2: other facts than in the unedited model", other)
    for faulty in (fewer, other):
        found = scored(sim, faulty)
        assert holes_of(found).index.tolist() == [(3, "2")]
        assert is_marked(found, 3)
        assert values(found.scores, 3)["e1_exact"] in (0, 1)


def test_an_observation_that_is_there_twice_is_named(sim):
    rows = sim.observations["editor"]
    twice = pd.concat([rows, rows.head(1)])
    refused(sim, "case 0, state 1: an observation is there twice", twice)
    found = scored(sim, twice)
    assert holes_of(found).loc[(0, "1"), "reason"] == "an observation is there twice"
    assert values(found.scores)["missing"] == 1
    assert np.isnan(values(found.scores)["conflict_magnitude"])
    assert not np.isnan(values(found.scores)["success"])


@pytest.mark.parametrize("wrong", [np.nan, 0.5, np.inf])
def test_an_observation_that_is_no_log_probability_is_named(sim, wrong):
    rows = sim.observations["editor"]
    rows = rows.assign(logprob=rows["logprob"].where(rows.index > 0, wrong))
    refused(sim, "case 0, state 1: an observation has no log-probability", rows)
    assert set(holes_of(scored(sim, rows)).index) == {(0, "1")}


def test_a_fault_in_the_unedited_model_leaves_nothing_of_a_case(sim):
    unedited = sim.unedited.drop(sim.unedited.index[sim.unedited["case_id"] == 2])
    refused(sim, "shard unedited, case 2, state 0: not observed", unedited=unedited)
    found = scored(sim, unedited=unedited)
    assert is_marked(found, 2)
    assert set(found.holes["case_id"]) == {2}
    own = values(found.scores, 2).drop(["edit_failed", "missing"])
    assert own.isna().all()


def test_a_state_without_a_name_is_refused(sim):
    other = sim.observations["editor"].assign(state="3")
    refused(sim, "observations of state '3'; known states: 0, 1", other)


def test_only_test_cases_are_scored(sim):
    cases = sim.cases.assign(split=["test"] * 8 + ["dev"] * 4)
    refused(sim, "shard 00008-00015, case 8, state 1: no test case of this dataset", cases=cases)
    rows = sim.observations["editor"]
    assert score(sim, rows[rows["case_id"] < 8], cases=cases).scores["case_id"].nunique() == 8


def test_a_failed_edit_leaves_empty_values_and_is_counted():
    sim = one_editor("composite")
    rows, telemetry = sim.observations["editor"], sim.telemetry["editor"].astype({"reason": object})
    telemetry.loc[(telemetry["case_id"] == 5) & (telemetry["state"] == "1"), "reason"] = "diverged"
    gone = (rows["case_id"] == 5) & rows["state"].isin(["1", "2", "control"])
    found = score(sim, rows[~gone], telemetry=telemetry)
    got = values(found.scores, 5)
    assert got["edit_failed"] == 1
    assert np.isnan(got["conflict_magnitude"])
    assert got["tied_fact_damage_e2_only"] < 1
    assert values(found.scores, 6)["edit_failed"] == 0
    assert set(found.scores.loc[found.scores["metric"] == "missing", "value"]) == {0.0}
    (hole,) = holes_of(found).reset_index().to_dict("records")
    assert hole == {"case_id": 5, "state": "1", "shard": BOTH[0], "reason": "diverged", "failed": True}


@pytest.mark.parametrize(
    ("dataset", "n"), some(product(DATASETS, (0, 1)), [("composite", 1), ("round_hard", 0)])
)
def test_no_case_and_a_single_case(dataset, n):
    sim = one_editor(dataset, n)
    found = score(sim)
    PROBABILITIES.check(found.facts.table)
    SCORES.check(found.scores)
    VARIANTS.check(found.variants())
    FACETS.check(found.facets(EDITS.empty(), pd.DataFrame({"subject_id": ["A"], "object_id": ["B"]})))
    HOLES.check(found.holes)
    summary = summarise(found.scores, sim.cases, run_of(dataset))
    SUMMARY.check(summary)
    assert (summary.loc[summary["subset"] == "all", "n"] <= n).all()
    assert (len(summary) > 0) == (n > 0)


@pytest.mark.parametrize(("dataset", "state"), [("composite", "control"), ("round_easy", "random")])
def test_missing_controls_leave_their_metrics_empty(dataset, state):
    sim = one_editor(dataset)
    rows = sim.observations["editor"]
    scores = score(sim, rows[rows["state"] != state]).scores
    wide = scores.pivot(index="case_id", columns="metric", values="value")
    name = "conflict_magnitude_control" if state == "control" else "distortion_random"
    assert wide[[name, f"{name}_difference"]].isna().all(axis=None)
    assert wide[name.removesuffix(f"_{state}")].notna().all()
