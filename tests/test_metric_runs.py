"""Whole simulated runs against a slow, obvious implementation of every metric."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from aftershock.datasets.table import DATASETS
from aftershock.metrics.catalogue import metric
from aftershock.metrics.definitions import BASE
from aftershock.metrics.summary import summarise
from aftershock.tables.cases import EDITS
from aftershock.tables.models import OBJECT_SCORES
from aftershock.tables.report import SUMMARY
from aftershock.tables.runs import FACETS, PROBABILITIES, SCORES, VARIANTS
from simulate import Behaviour, one_editor, run_of, score, simulate, summary_of, values
from slow_cases import Case
from slow_metrics import metrics_of, variants_of
from tiers import some


@pytest.mark.parametrize("dataset", DATASETS)
def test_tables_are_valid_and_every_metric_is_described(dataset):
    sim = one_editor(dataset)
    found = score(sim)
    PROBABILITIES.check(found.facts.table)
    SCORES.check(found.scores)
    variants = found.variants()
    VARIANTS.check(variants)
    plain = variants[(variants["scoring"] == "geometric_mean") & (variants["prompts"] == "all")]
    both = plain.merge(found.scores, on=["case_id", "metric"])
    assert len(both) == len(plain)
    pd.testing.assert_series_equal(both["value_x"], both["value_y"], check_names=False)
    summary = summarise(found.scores, sim.cases, run_of(dataset))
    SUMMARY.check(summary)
    assert set(summary["metric"]) == set(found.scores["metric"])
    for name in summary["metric"]:
        assert metric(name).about.endswith(".")
    full = summary[(summary["subset"] == "all") & (summary["n"] > 0)]
    assert (full["low"] < full["high"]).all()
    assert full["low"].le(full["value"] + 1e-9).all()
    assert full["high"].ge(full["value"] - 1e-9).all()


def known_and_given(sim, rng):
    """OBJECT_SCORES that know some of the objects, and EDITS rows that write some of them."""
    rows = sim.probes[sim.probes["role"] == "object"]
    scored = rows[["subject_id", "relation_id", "object_id"]].assign(
        probability=0.5, rank=1, known=rng.random(len(rows)) < 0.7, similarity=None
    )
    written = rows[rng.random(len(rows)) < 0.4]
    second = pd.DataFrame({"case_id": written["case_id"], "target_new": written["object"]})
    return scored[list(OBJECT_SCORES.columns)], second.reindex(columns=list(EDITS.columns))


def slow_cases(sim, scored, second):
    """The cases of a simulated run for the slow implementation."""
    rows = pd.concat([sim.unedited, sim.observations["editor"]])
    known = {row["object_id"]: row["known"] for row in scored.to_dict("records")}
    for about in sim.cases.to_dict("records"):
        case = about["case_id"]
        probes = sim.probes[sim.probes["case_id"] == case].to_dict("records")
        observed = rows[rows["case_id"] == case].to_dict("records")
        knows = {q["position"]: known.get(q["object_id"]) for q in probes if q["role"] == "object"}
        written = set(second.loc[second["case_id"] == case, "target_new"])
        yield case, Case(about, probes, observed, knows, written)


def steps(least: int, most: int) -> st.SearchStrategy[float]:
    """Thousandths: whether a move in the last bit of a sum is one depends on the order of the summands."""
    return st.integers(1000 * least, 1000 * most).map(lambda number: number / 1000)


moves = steps(-6, 8) | st.sampled_from([0.0, -60.0])
behaviours = st.builds(
    Behaviour, write=moves, erase=moves, spill=moves, others=moves, noise=steps(0, 2) | st.just(0.0)
)


# A case is as small as it gets: shrinking would only repeat it.
@pytest.mark.parametrize("dataset", some(DATASETS, ["coverage", "composite", "round_hard"]))
@settings(max_examples=3, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(seed=st.integers(0, 10**6), n=st.integers(1, 5), behaviour=behaviours, texts=st.sampled_from([0, 3]))
def test_every_metric_equals_its_slow_twin(dataset, seed, n, behaviour, texts):
    sim = simulate(dataset, n, seed, {"editor": behaviour}, texts=texts)
    scored, second = known_and_given(sim, np.random.default_rng(seed))
    fast = score(sim, objects=scored, second=second)
    variants = fast.variants().set_index(["metric", "scoring", "prompts", "case_id"])["value"]
    for case, slow in slow_cases(sim, scored, second):
        expected = {name: math.nan if v is None else v for name, v in metrics_of(slow, dataset).items()}
        got = values(fast.scores, case).to_dict()
        assert set(got) == set(expected)
        for name, value in expected.items():
            assert got[name] == pytest.approx(value, rel=1e-7, abs=1e-9, nan_ok=True), name
        for key, value in variants_of(slow, dataset).items():
            value = math.nan if value is None else value
            assert variants[(*key, case)] == pytest.approx(value, rel=1e-7, abs=1e-9, nan_ok=True), key


def test_every_entry_of_the_catalogue_has_a_slow_twin():
    twins = set()
    for dataset in DATASETS:
        sim = simulate(dataset, 1, editors={"editor": Behaviour()}, texts=1)
        for _, slow in slow_cases(sim, *known_and_given(sim, np.random.default_rng(0))):
            twins |= set(metrics_of(slow, dataset))
    assert {entry.name for entry in BASE} <= twins


def test_a_run_says_which_objects_are_known_and_which_the_second_edit_was_not_given():
    sim = one_editor("round_easy", 3)
    objects = sim.probes.loc[sim.probes["role"] == "object", ["subject_id", "relation_id", "object_id"]]
    scored = objects.assign(probability=0.5, rank=1, known=True, similarity=None)
    found = score(sim, objects=scored[list(OBJECT_SCORES.columns)], second=EDITS.empty()).scores
    wide = found.pivot(index="case_id", columns="metric", values="value")
    for name in ("ignore_rate", "distortion", "others_log_ratio"):
        assert wide[f"{name}_known"].to_list() == wide[f"{name}_held_out"].to_list() == wide[name].to_list()


def test_headlines_are_scored_under_every_scoring_and_choice_of_prompts():
    sim = one_editor("coverage", 4, noise=2.0)
    found = score(sim)
    variants = found.variants().set_index(["scoring", "prompts", "metric", "case_id"])["value"].sort_index()
    table = found.facts.table.query("role == 'old'").set_index(["state", "case_id"])
    for scoring, first in {"geometric_mean": "", "joint": "joint_", "first_token": "first_"}.items():
        for prompts, then in {"all": "", "edit": "edit_", "paraphrases": "paraphrase_"}.items():
            p = table[f"{first}{then}probability"]
            wanted = (p["1"] - p["2"]) / p["1"]
            assert variants[scoring, prompts, "conflict_magnitude"].to_list() == pytest.approx(list(wanted))


def test_every_entry_of_the_catalogue_is_a_metric_of_some_dataset():
    found = set()
    for dataset in DATASETS:
        sim = simulate(dataset, 1, editors={"editor": Behaviour()}, texts=1)
        found |= set(score(sim).scores["metric"])
    assert {entry.name for entry in BASE} <= found


# --- facets ------------------------------------------------------------------------------------------------
def test_facets_by_hand():
    sim = one_editor("composite", 6, write=4.0, noise=0.0)
    found = score(sim)
    edits = pd.DataFrame(
        {"case_id": range(6), "edit": "e1", "subject_id": list("AABCDE"), "relation_id": "R1"}
    )
    graph = pd.DataFrame({"subject_id": list("AABBCCCDE"), "object_id": list("XXXXXXXBX")})
    facets = found.facets(edits, graph)
    FACETS.check(facets)
    wide = facets.pivot(index="case_id", columns="facet", values="level")
    # A and D, E occur in 2, 1 and 1 facts, B and C in 3: a third of the cases has at most 1 fact.
    assert wide["popularity"].tolist() == ["middle", "middle", "high", "high", "low", "low"]
    assert wide["relation"].tolist() == ["R1"] * 6
    assert wide["strict"].map({"yes": True, "no": False}).tolist() == sim.cases["strict"].tolist()
    assert set(wide["e1_success"]) == {"yes"}
    by_role = sim.probes.set_index(["role", "case_id"])["probe_id"]
    first = sim.unedited[sim.unedited["prompt_id"] == 0].set_index(["case_id", "probe_id"])
    for case in range(6):
        tokens = [first.loc[(case, by_role[role, case]), "n_tokens"] for role in ("old", "new_exp")]
        assert wide.loc[case, "target_tokens"] == ("single" if tokens == [1, 1] else "multi")
        assert wide.loc[case, "equal_tokens"] == ("yes" if tokens[0] == tokens[1] else "no")
        facets_of = {"knows_head": "e2_true", "knows_first": "e1_true", "in_context": "in_context"}
        for facet, role in facets_of.items():
            said = first.loc[(case, by_role[role, case]), "argmax_match"]
            assert wide.loc[case, facet] == ("yes" if said else "no")
    assert "n_objects" not in wide


def test_equally_popular_cases_are_not_divided():
    sim = one_editor("round_easy", 3)
    found = score(sim)
    edits = pd.DataFrame({"case_id": range(3), "edit": "e1", "subject_id": list("ABC"), "relation_id": "R1"})
    facets = found.facets(edits, pd.DataFrame({"subject_id": list("ABC"), "object_id": list("XYZ")}))
    assert "popularity" not in set(facets["facet"])
    sizes = facets[facets["facet"] == "n_objects"]["level"]
    assert sizes.tolist() == sim.cases["n_objects"].astype(str).tolist()


# --- summaries ---------------------------------------------------------------------------------------------
def test_strict_cases_are_summarised_apart():
    values_of = {"success": [1.0, 0.0, 0.0, None], "conflict_magnitude": [0.5, 0.25, None, 0.75]}
    by_name = summary_of(values_of, run_of(), [True, True, False, False]).set_index(["subset", "metric"])
    assert by_name.loc[("all", "success"), "value"] == pytest.approx(1 / 3)
    assert by_name.loc[("strict", "success"), "value"] == 0.5
    assert by_name.loc[("all", "conflict_magnitude"), "value"] == 0.5
    assert by_name.loc[("strict", "conflict_magnitude"), ["n", "clusters"]].tolist() == [2, 2]


def test_an_undescribed_metric_is_an_error():
    with pytest.raises(ValueError, match="metric 'charm' is in no catalogue"):
        metric("charm")
