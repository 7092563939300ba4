"""Cases built from a small hand-made graph."""

import pandas as pd
import pytest

from aftershock.cases import DATASETS
from aftershock.cases.asked import facts_of_instances, only_taught, with_labels
from aftershock.cases.build import build
from aftershock.cases.graph_facts import Context, Fact, FactIndex, as_facts
from aftershock.cases.invariants import require, violations
from aftershock.cases.split import components, split_entities, split_of
from aftershock.cases.targets import Targets
from aftershock.seeds import generator
from aftershock.tables import CASES, EDITS, FACT_KEY, PROBES

SETTINGS = {
    "split": {"test": 0.5, "dev": 0.25, "train": 0.25},
    "quotas": {"test": dict.fromkeys(DATASETS, 8), "dev": {"coverage": 4}, "train": {}},
    "strict_only": True,
    "max_per_first_edit": 3,
    "min_known_objects": 2,
}
PROMPTS_BY_RELATION = {"R1": "The spouse of {} is", "R2": "The mother of {} is", "R3": "The father of {} is"}
PROMPTS_BY_RELATION |= {"R4": "{} received the award", "R5": "{} lives in"}
SHEET = pd.DataFrame(
    [(r, p.split()[1], p, p + "?") for r, p in PROMPTS_BY_RELATION.items()],
    columns=["relation_id", "label", "prompt", "query"],
)
AWARDS = 7


def families(n: int) -> tuple[list[Fact], dict[str, str]]:
    """`n` couples with two children each, awards and towns: ids M0 F0 A0 B0 ..."""
    facts = []
    for i in range(n):
        facts += [Fact(f"M{i}", "R1", f"F{i}"), Fact(f"F{i}", "R1", f"M{i}")]
        for child in (f"A{i}", f"B{i}"):
            facts += [Fact(child, "R2", f"M{i}"), Fact(child, "R3", f"F{i}")]
        for j in range(2 + i % 3):
            facts += [Fact(f"M{i}", "R4", f"W{(i + j * (1 + i % 2)) % AWARDS}")]
        facts += [Fact(f"A{i}", "R5", f"T{i % 4}"), Fact(f"M{i}", "R5", f"T{(i + 1) % 4}")]
    ids = {e for f in facts for e in (f.subject_id, f.object_id)}
    return sorted(set(facts)), {entity: f"Label {entity}" for entity in ids}


def frame(facts: list[Fact], **columns) -> pd.DataFrame:
    rows = pd.DataFrame([(f.subject_id, f.relation_id, f.object_id) for f in facts], columns=list(FACT_KEY))
    return rows.assign(**columns)


def instances_of(n: int) -> pd.DataFrame:
    rows = []
    for i in range(n):
        rows += [("R1>R1", f"M{i}", f"F{i}", f"M{i}"), ("R1>R1", f"F{i}", f"M{i}", f"F{i}")]
        rows += [("R2&R1>R3", f"{child}{i}", f"M{i}", f"F{i}") for child in "AB"]
    found = pd.DataFrame(rows, columns=["rule", "x_id", "y_id", "z_id"])
    return found.assign(kept=True, reason=None)


def scores_of(facts: list[Fact], unknown: set[Fact] = frozenset()) -> pd.DataFrame:
    awards = [f for f in facts if f.relation_id == "R4"]
    rng = generator(1, "similarity")
    return frame(
        awards,
        probability=0.5,
        rank=1,
        known=[f not in unknown for f in awards],
        similarity=rng.random(len(awards)),
    )


@pytest.fixture
def graph():
    facts, labels = families(24)
    index = FactIndex(frozenset(facts), labels, frozenset(facts))
    functional = dict.fromkeys(["R1", "R2", "R3", "R5"], 1.0) | {"R4": 0.4}
    context = Context(index, PROMPTS_BY_RELATION, functional, frozenset(["R1", "R2", "R3"]), 0.9, 7)
    return instances_of(24), scores_of(facts), context


@pytest.mark.parametrize("dataset", DATASETS)
def test_built_cases_keep_their_invariants_and_fill_the_quota(graph, dataset):
    instances, scores, context = graph
    built = build(dataset, instances, scores, context, SETTINGS)
    CASES.check(built.cases), EDITS.check(built.edits), PROBES.check(built.probes)
    require(dataset, built.edits, built.probes, context.index)
    assert (built.cases["split"] == "test").sum() == 8
    assert built.cases["case_id"].tolist() == list(range(len(built.cases)))
    assert built.cases["strict"].all()


@pytest.mark.parametrize("dataset", DATASETS)
def test_building_twice_gives_the_same_tables(graph, dataset):
    once, twice = (build(dataset, graph[0], graph[1], graph[2], SETTINGS) for _ in range(2))
    for name in ("cases", "edits", "probes"):
        pd.testing.assert_frame_equal(getattr(once, name), getattr(twice, name))


def test_test_and_dev_cases_share_no_family(graph):
    built = build("coverage", *graph, SETTINGS)
    family = built.edits.assign(family=built.edits["subject_id"].str[1:])
    split = family.merge(built.cases[["case_id", "split"]], on="case_id")
    assert split[split["edit"] == "e1"].groupby("family")["split"].nunique().max() == 1
    targets = split[split["edit"].isin(["e1", "e2"])].assign(other=lambda f: f["target_new_id"].str[1:])
    tests = set(targets.loc[targets["split"] == "test", "family"])
    assert not tests & set(targets.loc[targets["split"] == "dev", "other"])


def test_unknown_tied_facts_make_no_composite_case(graph):
    instances, scores, context = graph
    unknown = {f for f in context.index.facts if f.relation_id == "R2" and f.subject_id.startswith("A")}
    index = FactIndex(context.index.facts, context.index.labels, context.index.facts - unknown)
    built = build("composite", instances, scores, Context(index, *list(vars(context).values())[1:]), SETTINGS)
    tied = built.probes[built.probes["role"] == "tied"]
    assert len(tied) == 8
    assert tied["subject_id"].str.startswith("B").all()
    assert "the model does not know the tied fact" in set(built.counts["reason"])


def test_a_relation_that_is_not_functional_gives_no_strict_case(graph):
    instances, scores, context = graph
    loose = Context(context.index, context.prompts, {"R1": 0.5, "R3": 0.5}, context.functional, 0.9, 7)
    assert build("reverse", instances, scores, loose, SETTINGS).cases.empty
    kept = build("reverse", instances, scores, loose, SETTINGS | {"strict_only": False}).cases
    assert len(kept)
    assert not kept["strict"].any()


def test_first_edits_are_not_used_more_often_than_allowed(graph):
    built = build("composite", *graph, SETTINGS | {"max_per_first_edit": 1})
    first = built.edits[built.edits["edit"] == "e1"]
    assert not first.duplicated(["subject_id", "relation_id"]).any()


def test_controls_share_no_subject_with_their_case(graph):
    built = build("coverage", *graph, SETTINGS)
    wide = built.edits.pivot(index="case_id", columns="edit", values=["subject_id", "target_new_id"])
    control, own = wide["subject_id"]["control"], wide["subject_id"]["e1"]
    assert control.notna().all()
    assert (control.str[1:] != own.str[1:]).all()


def test_easy_and_hard_choose_different_objects_and_share_the_target(graph):
    easy = build("round_easy", *graph, SETTINGS).edits
    hard = build("round_hard", *graph, SETTINGS).edits
    firsts = [e[e["edit"] == "e1"].set_index(["subject_id", "relation_id"]) for e in (easy, hard)]
    both = firsts[0].join(firsts[1], suffixes=("_easy", "_hard"), how="inner")
    assert (both["target_true_id_easy"] != both["target_true_id_hard"]).all()
    assert (both["target_new_id_easy"] == both["target_new_id_hard"]).all()
    similarity = graph[1].set_index(["subject_id", "relation_id", "object_id"])["similarity"]
    median = similarity.median()
    for first, sign in zip(firsts, (1, -1), strict=True):
        chosen = similarity[[(*key, o) for key, o in zip(first.index, first["target_true_id"], strict=True)]]
        assert (sign * (chosen - median) >= 0).all()


def test_keys_with_one_known_object_are_dropped_and_counted(graph):
    instances, scores, context = graph
    scores = scores.assign(known=~scores.duplicated(["subject_id", "relation_id"]))
    built = build("round_easy", instances, scores, context, SETTINGS)
    assert built.cases.empty
    dropped = built.counts.set_index(["split", "reason"])["candidates"]
    assert dropped["test", "fewer than 2 objects known to the model"] > 0


def test_labels_may_hold_anything(graph):
    instances, scores, context = graph
    nasty = {entity: f'{{}}{{0}} <b>"{entity}"\u202e' for entity in context.index.labels}
    index = FactIndex(context.index.facts, nasty, context.index.known)
    built = build("reverse", instances, scores, Context(index, *list(vars(context).values())[1:]), SETTINGS)
    assert len(built.cases) == 8
    assert built.edits["subject"].str.startswith("{}{0} <b>").all()


def test_a_fact_that_a_filter_dropped_is_never_a_target():
    facts, labels = families(3)
    rows = frame(facts, reason=None, kept=[f.relation_id != "R5" or f.subject_id != "A0" for f in facts])
    rows["subject"], rows["object"] = rows["subject_id"].map(labels), rows["object_id"].map(labels)
    index = FactIndex.from_frames(rows, frame([], known=True))
    assert Fact("A0", "R5", "T0") not in index.facts
    targets = Targets(index, {}, "test")
    drawn = {targets.draw("A0", "R5", (), generator(i, "draw")) for i in range(30)}
    assert drawn == {"T1", "T2", "T3"}


def test_probes_of_one_fact_share_a_number():
    facts, labels = families(4)
    index = FactIndex(frozenset(facts), labels, frozenset(facts))
    built = build(
        "coverage",
        instances_of(4),
        scores_of(facts),
        Context(index, PROMPTS_BY_RELATION, {"R1": 1.0}, frozenset(["R1"]), 0.9, 0),
        SETTINGS | {"split": {"test": 1.0, "dev": 0.0, "train": 0.0}},
    )
    explicit, implicit = (
        built.probes[built.probes["role"] == role].set_index("case_id")["probe_id"]
        for role in ("new_exp", "new_imp")
    )
    assert (explicit == implicit).all()  # coverage: what the second edit says is what it entails


def test_components_and_splits():
    assert components([("a", "b"), ("c", "c"), ("b", "d")]) == {"a": "a", "b": "a", "c": "c", "d": "a"}
    splits = split_entities(instances_of(12), frame([]), {"test": 0.5, "dev": 0.5}, 0)
    assert all(split_of((f"M{i}", f"F{i}", f"A{i}"), splits) for i in range(12))
    assert split_of(("M0", "nobody"), splits) == splits["M0"]


def test_a_dominant_component_is_cut():
    chain = pd.DataFrame({"x_id": [f"E{i}" for i in range(50)], "y_id": [f"E{i + 1}" for i in range(50)]})
    splits = split_entities(chain, frame([]), {"test": 0.6, "dev": 0.4}, 0)
    assert set(splits.values()) == {"test", "dev"}


def test_facts_that_a_model_is_asked_about():
    facts, labels = families(2)
    asked = facts_of_instances(instances_of(2))
    assert set(as_facts(asked)) == {f for f in facts if f.relation_id in ("R1", "R2", "R3")}
    table = frame(facts, kept=True, reason=None)
    table["subject"], table["object"] = table["subject_id"].map(labels), table["object_id"].map(labels)
    taught = table[table["subject_id"].str.startswith("A")]
    assert set(with_labels(asked, table, taught)["subject_id"]) == {"A0", "A1"}


def test_a_taught_part_of_a_graph_is_all_that_cases_are_made_of():
    facts, labels = families(3)
    rows = frame(facts, kept=True, reason=None)
    rows["subject"], rows["object"] = rows["subject_id"].map(labels), rows["object_id"].map(labels)
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


def test_a_fault_of_the_builder_stops_the_build(graph):
    built = build("round_easy", *graph, SETTINGS)
    second = (built.edits["edit"] == "e2") & (built.edits["case_id"] == 3)
    other = built.edits.loc[second, ["subject_id", "subject"]].to_numpy()
    built.edits.loc[second, ["target_new_id", "target_new"]] = other
    found = violations("round_easy", built.edits, built.probes, graph[2].index)
    kinds = ["new object is the subject", "second edit does not undo the first"]
    assert found.to_numpy().tolist() == [[3, kind] for kind in kinds]
    with pytest.raises(
        ValueError, match=r"round_easy breaks its invariants \(new object .*: 1\); first case 3"
    ):
        require("round_easy", built.edits, built.probes, graph[2].index)
