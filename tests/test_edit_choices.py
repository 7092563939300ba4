"""Edits of sequences: the choice among a file's rows, edits from known facts and from cases."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from aftershock.datasets.edit_files.choose import choose
from aftershock.datasets.edit_files.from_cases import case_edits, subjects_of_cases
from aftershock.datasets.edit_files.from_graph import graph_edits
from aftershock.datasets.edit_files.reading import Row
from aftershock.datasets.edit_files.record import SourceEdit
from aftershock.datasets.graph_facts import Fact
from families import PROMPTS_BY_RELATION, context_of, dataset_of, families, graph_of


def row(subject: str, target: str, prompt: str = "{} is", true: str = "x") -> Row:
    return Row(SourceEdit("", prompt, subject, target, true))


REPEATED = [
    row("A", "1"),
    row("B", "1"),
    row("a", "2"),  # contradicts the first
    row("A", "2"),  # contradicts the first, or repeats the one before
    row("A", "3", "{} has"),
    row("C", "x"),
]


def slowly_chosen(rows, wanted, repeats, cycle, in_cases):
    """(row, made, remark) of each row that is read until there are enough edits; None if there never are."""
    made, found, n = [], [], 0
    while len(made) < wanted:
        if n == len(rows) and not (cycle and any(each.edit for each in rows)) or n > 99:
            return None
        each = rows[n % len(rows)]
        edit = each.edit
        if edit is None:
            if n < len(rows):
                found.append((n, False, "broken"))
        elif edit.subject.lower() in in_cases:
            if n < len(rows):
                found.append((n, False, "in_cases"))
        else:
            before = [e for e in made if e.subject.lower() == edit.subject.lower()]
            asked = [e for e in before if e.prompt == edit.prompt]
            remark = None
            if asked:
                same = asked[-1].target_new.lower() == edit.target_new.lower()
                remark = "duplicate" if same else "contradiction"
            elif before:
                remark = "same_subject"
            elif edit.target_new.lower() == edit.target_true.lower():
                remark = "unchanged"
            keep = remark in (None, "unchanged") or repeats == "keep"
            found.append((n, keep, remark))
            made += [edit] if keep else []
        n += 1
    return found


def test_edits_are_chosen_as_slow_code_does():
    draw, outcomes = random.Random(0), Counter()
    for _ in range(400):
        rows = [
            Row(None, "odd")
            if draw.random() < 0.1
            else row(draw.choice("AaBbCDE"), draw.choice("12x"), draw.choice(["{} is", "{} has"]))
            for _ in range(draw.randint(1, 8))
        ]
        repeats = draw.choice(["keep", "drop"])
        asked = draw.randint(1, 9), repeats, repeats == "keep" and draw.random() < 0.5
        in_cases = draw.choice([set(), {"b"}, {"a", "e"}])
        wanted = slowly_chosen(rows, *asked, in_cases)
        outcomes[wanted is None, repeats] += 1
        if wanted is None:
            with pytest.raises(ValueError, match="the last checkpoint asks for"):
                choose(rows, *asked, in_cases)
            continue
        found = choose(rows, *asked, in_cases)
        remarks = [(each.reason or "").split(":")[0] or None for each in found]
        assert [(e.edit_id, e.kept, r) for e, r in zip(found, remarks, strict=True)] == wanted
    assert min(outcomes.values()) > 20


def test_too_few_edits_are_an_error_with_what_was_left_out():
    with pytest.raises(ValueError, match="asks for 1 edits, and there are 0"):
        choose([Row(None, "broken")], 1, "keep", cycle=True)
    said = r"asks for 9 edits, and there are 3 \(2 contradiction, 1 same_subject left out\): .*keep"
    with pytest.raises(ValueError, match=said):
        choose(REPEATED, 9, "drop")


N = 12
TEMPLATES = {relation: [prompt, f"Say: {prompt}"] for relation, prompt in PROMPTS_BY_RELATION.items()}
FACTS, LABELS = families(N)
SPLITS = {entity: ("test", "dev", "train")[int(entity[1:]) % 3] for entity in LABELS if entity[0] in "MFAB"}


def from_graph(seed=0, known=FACTS, neighbours=3):
    index = replace(context_of(FACTS, LABELS).index, known=frozenset(known))
    return [row.edit for row in graph_edits(index, SPLITS, TEMPLATES, seed, neighbours) if row.edit]


def fact_of(edit) -> Fact:
    return Fact(*edit.source_id.split())


def test_every_known_fact_of_test_and_dev_subjects_is_edited_once_test_first():
    found = [fact_of(edit) for edit in from_graph()]
    assert sorted(found) == sorted(f for f in FACTS if SPLITS[f.subject_id] != "train")
    splits = [SPLITS[fact.subject_id] for fact in found]
    assert splits == ["test"] * splits.count("test") + ["dev"] * splits.count("dev")
    assert {fact_of(edit) for edit in from_graph(known=FACTS[::4])} <= set(FACTS[::4])


def test_new_objects_are_false_and_of_the_subjects_split():
    true = {}
    for fact in FACTS:
        true.setdefault((fact.subject_id, fact.relation_id), set()).add(LABELS[fact.object_id])
    entities = {label: entity for entity, label in LABELS.items()}
    for edit in from_graph():
        fact = fact_of(edit)
        assert edit.target_true in true[fact.subject_id, fact.relation_id]
        assert edit.target_new not in true[fact.subject_id, fact.relation_id]
        new = entities[edit.target_new]
        assert SPLITS.get(new, SPLITS[fact.subject_id]) == SPLITS[fact.subject_id]


def test_prompts_paraphrases_and_neighbours():
    for edit in from_graph():
        fact = fact_of(edit)
        prompt = PROMPTS_BY_RELATION[fact.relation_id]
        assert edit.prompt == prompt
        assert edit.paraphrases == (f"Say: {prompt.replace('{}', LABELS[fact.subject_id])}",)
        for text, answer in edit.neighbours:
            assert any(
                text == prompt.replace("{}", LABELS[f.subject_id]) and answer == LABELS[f.object_id]
                for f in FACTS
                if f.relation_id == fact.relation_id and f.subject_id != fact.subject_id
            )
            assert answer != edit.target_new


def test_a_seed_draws_other_facts_and_objects():
    assert from_graph(0) == from_graph(0)
    assert [edit.source_id for edit in from_graph(0)] != [edit.source_id for edit in from_graph(1)]


@pytest.fixture(scope="module")
def coverage():
    return dataset_of("coverage", *graph_of(N))


def test_first_edits_of_test_cases(coverage):
    found = [row.edit for row in case_edits(coverage.cases, coverage.edits, coverage.probes, TEMPLATES)]
    tested = coverage.cases[coverage.cases["split"] == "test"]
    first = coverage.edits[
        (coverage.edits["edit"] == "e1") & coverage.edits["case_id"].isin(tested["case_id"])
    ]
    assert [(e.source_id, e.subject, e.target_new, e.target_true) for e in found] == [
        (str(row.case_id), row.subject, row.target_new, row.target_true)
        for row in first.sort_values("case_id").itertuples()
    ]
    assert len(found) == len(tested) > 0
    assert any(edit.neighbours for edit in found)


def test_subjects_of_cases_are_those_of_the_first_ones(coverage):
    found = subjects_of_cases([coverage.cases], [coverage.edits], 1)
    case_id = coverage.cases.loc[coverage.cases["split"] == "test", "case_id"].min()
    own = coverage.edits[(coverage.edits["case_id"] == case_id) & (coverage.edits["edit"] != "control")]
    assert found == {*own["subject"], *own["target_true"]}
    assert subjects_of_cases([], [], 5) == set()
