"""Cases built from a small hand-made graph, and the published files where they are at hand."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from aftershock.cases import CONFLICT, DATASETS
from aftershock.cases.asked import facts_of_instances, only_taught, with_labels
from aftershock.cases.build import tabulate
from aftershock.cases.graph_facts import Context, FactIndex, as_facts
from aftershock.cases.invariants import require, violations
from aftershock.cases.released import edit_prompts, labels_of, read_rows, to_case, triples, write_rows
from aftershock.cases.released_study import Folder, build_released
from aftershock.tables import CASES, EDITS, OBJECT_SCORES, PROBES, VERIFIED
from families import SHEET, context_of, dataset_of, families, frame, instances_of, scores_of

RELEASED = Path(__file__).parents[2] / "shared" / "data" / "released" / "GPT2-XL"
needs_released = pytest.mark.skipif(not RELEASED.is_dir(), reason=f"published files are not at {RELEASED}")


@pytest.fixture
def graph():
    facts, labels = families(24)
    return instances_of(24), scores_of(facts), context_of(facts, labels)


@pytest.mark.parametrize("dataset", DATASETS)
def test_built_cases_keep_their_invariants_and_fill_the_quota(graph, dataset):
    instances, scores, context = graph
    built = dataset_of(dataset, instances, scores, context)
    CASES.check(built.cases), EDITS.check(built.edits), PROBES.check(built.probes)
    require(dataset, built.edits, built.probes, context.index)
    assert (built.cases["split"] == "test").sum() == 8
    assert built.cases["case_id"].tolist() == list(range(len(built.cases)))
    assert built.cases["strict"].all()


@pytest.mark.parametrize("dataset", DATASETS)
def test_building_twice_gives_the_same_tables(graph, dataset):
    once, twice = (dataset_of(dataset, *graph) for _ in range(2))
    for name in ("cases", "edits", "probes"):
        pd.testing.assert_frame_equal(getattr(once, name), getattr(twice, name))


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


def test_a_published_prompt_without_a_slot_is_named(tmp_path):
    entity = {"id": "Q1", "label": "one"}
    relation = {"id": "P69", "label": "educated at", "prompt": "studied at", "query": "?"}
    others = [{"id": "Q2", "label": "two"}, {"id": "Q3", "label": "three"}]
    edit = {
        "relation": relation,
        "subject": entity,
        "object": others[0],
        "new_object": {"id": "Q4", "label": "four"},
    }
    row = {"type": "1-2@P69", "edit": edit, "true_objects": others}
    (tmp_path / "easy.json").write_text(json.dumps([row]))
    (tmp_path / "round_prompts.json").write_text(json.dumps({"P69": ["{} went to"]}))
    folder = Folder.read(str(tmp_path), ["round_easy"], 1, 0)
    with pytest.raises(
        ValueError, match=r"relation P69 in round_prompts.json or in a row: template 'studied at'"
    ):
        folder.prompts(str(tmp_path), "round")


def test_probes_of_one_fact_share_a_number():
    facts, labels = families(4)
    built = dataset_of(
        "coverage",
        instances_of(4),
        scores_of(facts),
        context_of(facts, labels),
        split={"test": 1.0, "dev": 0.0, "train": 0.0},
    )
    explicit, implicit = (
        built.probes[built.probes["role"] == role].set_index("case_id")["probe_id"]
        for role in ("new_exp", "new_imp")
    )
    assert (explicit == implicit).all()  # coverage: what the second edit says is what it entails


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


def test_broken_rows_are_named(tmp_path):
    (tmp_path / "easy.json").write_text(json.dumps([{"type": "1-2@P69", "edit": {}, "true_objects": []}]))
    with pytest.raises(
        ValueError, match=r"easy.json: row 0 is not a round_easy case \(KeyError: 'subject'\)"
    ):
        read_rows(tmp_path, "round_easy")
    with pytest.raises(ValueError, match="hard.json does not exist"):
        read_rows(tmp_path, "round_hard")


def test_no_op_and_repeated_targets_are_found():
    facts, labels = families(2)
    index = FactIndex(frozenset(facts), labels)
    row = dict.fromkeys(EDITS.columns, "x") | {"case_id": 0, "position": 0, "relation_id": "R1"}
    row |= {"subject_id": "M0", "target_new_id": "F0", "target_true_id": "F0"}
    edits = pd.DataFrame([row | {"edit": "e1"}, row | {"edit": "e2"}])
    found = set(violations("coverage", edits, pd.DataFrame(columns=list(PROBES.columns)), index)["kind"])
    assert {"no-op first edit", "target is another true object", "no-op second edit"} <= found


@needs_released
@pytest.mark.parametrize("dataset", DATASETS)
def test_published_rows_come_back_as_they_were(dataset):
    rows = read_rows(RELEASED, dataset)[:60]
    facts = frozenset(fact for row in rows for fact in triples(row))
    labels = {entity: label for row in rows for entity, label in labels_of(row).items()}
    cases = [to_case(dataset, row) for row in rows]
    tables = tabulate(dataset, cases, Context(FactIndex(facts, labels), edit_prompts(rows)))
    sheet = {}
    for row in rows:
        for part in (
            *row.get("triples", ()),
            *row.get("edits", ()),
            *([row["edit"]] if "edit" in row else ()),
        ):
            sheet[part["relation"]["id"]] = part["relation"]
    relations = pd.DataFrame(sheet.values()).rename(columns={"id": "relation_id"})
    back = json.loads(write_rows(dataset, tables.cases, tables.edits, tables.probes, relations))
    assert back == rows


@needs_released
@pytest.mark.parametrize("dataset", DATASETS)
def test_published_rows_become_cases(dataset):
    folder = Folder.read(str(RELEASED), [dataset], 20, 0)
    facts, asked = folder.fact_table(), folder.asked()
    verified = asked.assign(continuation="", known=True, probability=1.0)
    objects = folder.asked_objects().assign(probability=0.1, rank=1, known=True, similarity=0.0)
    kind = "conflict" if dataset in CONFLICT else "round"
    prompts, measured = folder.prompts(str(RELEASED), kind), folder.relations()
    index = FactIndex.from_frames(facts, verified)
    context = Context.from_frames(index, prompts, measured, SHEET.assign(functional="no"), 0.9, 0)
    built = build_released(dataset, folder, objects, context)
    assert len(CASES.check(built.cases)) == 20
    assert EDITS.check(built.edits).num_rows >= 40
    assert PROBES.check(built.probes).num_rows >= 60


@needs_released
def test_findings_in_the_published_files():
    folder = Folder.read(str(RELEASED), DATASETS, 50, 0)
    found = folder.findings().set_index(["dataset", "kind"])["rows"]
    assert found["composite", "no-op first edit"] == 24
    assert found["coverage", "no-op first edit"] == 1
    assert found["composite", "label without a letter"] == 3
    assert found["round_easy", "duplicate labels among the true objects"] == 2
    assert found["round_hard", "duplicate labels among the true objects"] == 6
    assert (found["coverage", "label is an id"], found["reverse", "label is an id"]) == (88, 83)
    assert all(len(folder.chosen(name)) == 50 for name in DATASETS)
    assert set(folder.asked()["relation_id"]) <= set(folder.prompts(str(RELEASED), "conflict")["relation_id"])
    verified = folder.asked().assign(continuation="", known=True, probability=1.0)
    VERIFIED.check(verified[list(VERIFIED.columns)])
    objects = folder.asked_objects().assign(probability=0.1, rank=1, known=True, similarity=0.0)
    OBJECT_SCORES.check(objects[list(OBJECT_SCORES.columns)])
    assert all(name in CONFLICT or folder.chosen(name)[0].object_ids for name in DATASETS)
