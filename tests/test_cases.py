"""Cases built from a small hand-made graph."""

from dataclasses import replace

import pandas as pd
import pytest

from aftershock.datasets.asked import facts_of_instances, only_taught, with_labels
from aftershock.datasets.graph_facts import Context, FactIndex, as_facts
from aftershock.datasets.invariants import require, violations
from aftershock.datasets.table import DATASETS
from aftershock.tables.cases import CASES, EDITS, PROBES
from families import dataset_of, families, frame, graph_of, instances_of


@pytest.mark.parametrize("dataset", DATASETS)
def test_built_cases_keep_their_invariants_fill_the_quota_and_are_always_the_same(graph, dataset):
    built, twice = (dataset_of(dataset, *graph) for _ in range(2))
    for name, table in (("cases", CASES), ("edits", EDITS), ("probes", PROBES)):
        table.check(getattr(built, name))
        pd.testing.assert_frame_equal(getattr(built, name), getattr(twice, name))
    require(dataset, built.edits, built.probes, graph[2].index)
    assert (built.cases["split"] == "test").sum() == 8
    assert built.cases["case_id"].tolist() == list(range(len(built.cases)))
    assert built.cases["strict"].all()


def test_unknown_tied_facts_make_no_composite_case(graph):
    instances, scores, context = graph
    unknown = {f for f in context.index.facts if f.relation_id == "R2" and f.subject_id.startswith("A")}
    index = FactIndex(context.index.facts, context.index.labels, context.index.facts - unknown)
    built = dataset_of("composite", instances, scores, replace(context, index=index))
    tied = built.probes[built.probes["role"] == "tied"]
    assert len(tied) == 8
    assert tied["subject_id"].str.startswith("B").all()
    assert "the model does not know the tied fact" in set(built.counts["reason"])


def test_a_relation_that_is_not_functional_gives_no_strict_case(graph):
    instances, scores, context = graph
    loose = Context(context.index, context.prompts, {"R1": 0.5, "R3": 0.5}, context.functional, 0.9, 7)
    assert dataset_of("reverse", instances, scores, loose).cases.empty
    kept = dataset_of("reverse", instances, scores, loose, strict_only=False).cases
    assert len(kept)
    assert not kept["strict"].any()


def test_first_edits_are_not_used_more_often_than_allowed(graph):
    built = dataset_of("composite", *graph, max_per_first_edit=1)
    first = built.edits[built.edits["edit"] == "e1"]
    assert not first.duplicated(["subject_id", "relation_id"]).any()


def test_controls_share_no_subject_with_their_case(graph):
    built = dataset_of("coverage", *graph)
    wide = built.edits.pivot(index="case_id", columns="edit", values=["subject_id", "target_new_id"])
    control, own = wide["subject_id"]["control"], wide["subject_id"]["e1"]
    assert control.notna().all()
    assert (control.str[1:] != own.str[1:]).all()


def test_labels_may_hold_anything(graph):
    instances, scores, context = graph
    nasty = {entity: f'{{}}{{0}} <b>"{entity}"\u202e' for entity in context.index.labels}
    index = FactIndex(context.index.facts, nasty, context.index.known)
    built = dataset_of("reverse", instances, scores, replace(context, index=index))
    assert len(built.cases) == 8
    assert built.edits["subject"].str.startswith("{}{0} <b>").all()


def test_probes_of_one_fact_share_a_number():
    built = dataset_of("coverage", *graph_of(4), split={"test": 1.0, "dev": 0.0, "train": 0.0})
    explicit, implicit = (
        built.probes[built.probes["role"] == role].set_index("case_id")["probe_id"]
        for role in ("new_exp", "new_imp")
    )
    assert (explicit == implicit).all()  # coverage: what the second edit says is what it entails


def labelled(facts, labels):
    """FACTS rows of facts."""
    table = frame(facts, kept=True, reason=None)
    return table.assign(subject=table["subject_id"].map(labels), object=table["object_id"].map(labels))


def test_facts_that_a_model_is_asked_about():
    facts, labels = families(2)
    asked = facts_of_instances(instances_of(2))
    assert set(as_facts(asked)) == {f for f in facts if f.relation_id in ("R1", "R2", "R3")}
    table = labelled(facts, labels)
    taught = table[table["subject_id"].str.startswith("A")]
    assert set(with_labels(asked, table, taught)["subject_id"]) == {"A0", "A1"}


def test_a_taught_part_of_a_graph_is_all_that_cases_are_made_of():
    facts, labels = families(3)
    rows = labelled(facts, labels)
    some = rows[rows["subject_id"] != "M2"]
    index = FactIndex.from_frames(only_taught(rows, some), frame([], known=True))
    assert index.facts == set(as_facts(some))
    assert index.objects["M2", "R1"] == ("F2",)  # true all the same


def test_no_op_and_repeated_targets_are_found():
    facts, labels = families(2)
    index = FactIndex(frozenset(facts), labels)
    row = dict.fromkeys(EDITS.columns, "x") | {"case_id": 0, "position": 0, "relation_id": "R1"}
    row |= {"subject_id": "M0", "target_new_id": "F0", "target_true_id": "F0"}
    edits = pd.DataFrame([row | {"edit": "e1"}, row | {"edit": "e2"}])
    found = set(violations("coverage", edits, pd.DataFrame(columns=list(PROBES.columns)), index)["kind"])
    assert {"no-op first edit", "first edit's target is a true object", "no-op second edit"} <= found


@pytest.mark.parametrize("dataset", DATASETS)
def test_tables_without_a_case_break_no_invariant(graph, dataset):
    built = dataset_of(dataset, *graph, quotas={"test": {}, "dev": {}, "train": {}})
    assert built.cases.empty
    require(dataset, built.edits, built.probes, graph[2].index)
    require(dataset, EDITS.empty(), PROBES.empty(), graph[2].index)


def test_a_fault_of_the_builder_stops_the_build(graph):
    built = dataset_of("round_easy", *graph)
    second = (built.edits["edit"] == "e2") & (built.edits["case_id"] == 3)
    other = built.edits.loc[second, ["subject_id", "subject"]].to_numpy()
    built.edits.loc[second, ["target_new_id", "target_new"]] = other
    found = violations("round_easy", built.edits, built.probes, graph[2].index)
    kinds = ["new object is the subject", "second edit does not undo the first"]
    assert found.to_numpy().tolist() == [[3, kind] for kind in kinds]
    message = r"round_easy breaks its invariants \(new object .*: 1\); first case 3"
    with pytest.raises(ValueError, match=message):
        require("round_easy", built.edits, built.probes, graph[2].index)
