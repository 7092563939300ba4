"""Training data of MEND and SERAC: edits and locality texts of a graph and of files."""

import json

import pandas as pd
import pytest

from aftershock.datasets.graph_facts import FactIndex
from aftershock.datasets.locality import texts_to_ask, texts_to_learn
from aftershock.datasets.mend import SPLITS, graph_locality, training_edits
from aftershock.datasets.split import split_entities, splits_of
from aftershock.datasets.training_data import edits_of_file
from aftershock.tables.graph import FACTS, INSTANCES, OBJECTS, PROMPTS
from aftershock.tables.models import VERIFIED


def graph():
    """Twelve married couples, each person with two hobbies out of six."""
    facts, instances, objects = [], [], []
    people = [f"E{i}" for i in range(24)]
    for i, person in enumerate(people):
        spouse = people[i ^ 1]
        facts.append((person, "R1", spouse))
        instances.append(("R1>R1", person, spouse, person, True, None))
        for hobby in (i % 6, (i + 1) % 6):
            facts.append((person, "R2", f"H{hobby}"))
            objects.append((person, "R2", f"H{hobby}"))
    labels = {**{p: f"Person {p}" for p in people}, **{f"H{i}": f"hobby {i}" for i in range(6)}}
    named = [(s, r, o, labels[s], labels[o], True, None) for s, r, o in facts]
    prompts = [(r, n, f"{r} prompt {n} of {{}} is", "") for r in ("R1", "R2") for n in range(11)]
    return (
        pd.DataFrame(instances, columns=list(INSTANCES.columns)),
        pd.DataFrame(objects, columns=list(OBJECTS.columns)),
        pd.DataFrame(prompts, columns=list(PROMPTS.columns)),
        FactIndex.from_frames(pd.DataFrame(named, columns=list(FACTS.columns)), VERIFIED.empty()),
    )


SHARES = {"test": 0.5, "dev": 0.25, "train": 0.25}


def divide(instances, objects, shares):
    facts = FACTS.empty()
    return splits_of(split_entities(instances, objects, facts, shares, 0))


def test_train_and_dev_share_no_subject_with_each_other_or_with_test():
    instances, objects, prompts, index = graph()
    splits = divide(instances, objects, SHARES)
    edits = training_edits("all", instances, objects, prompts, index, splits)
    local = graph_locality(instances, objects, prompts, index, splits)
    test = {index.labels[entity] for entity, split in splits.items() if split == "test"}
    people = {}
    for split in ("train", "dev"):
        mine = edits[edits["split"] == split]
        assert set(mine["subject_id"]) == {entity for entity, s in splits.items() if s == split}
        written_people = set(mine["target_new"]) - {index.labels[f"H{i}"] for i in range(6)}
        texts = local[local["split"] == split]
        people[split] = set(mine["subject"]) | written_people | set(texts["subject"])
        people[split] |= {t for t in texts["target"] if t.startswith("Person")}
    assert not people["train"] & people["dev"]
    assert not (people["train"] | people["dev"]) & test
    true = {(index.labels[f.subject_id], f.relation_id, index.labels[f.object_id]) for f in index.facts}
    assert not set(zip(edits["subject"], edits["relation_id"], edits["target_new"], strict=True)) & true
    for asked, relation_id in zip(edits["prompts"], edits["relation_id"], strict=True):
        assert len(asked) == 8
        assert asked[0].startswith(f"{relation_id} prompt 0")
    assert not local["prompt"].str.contains("prompt 10|prompt 9|prompt 8").any()


def test_kinds_are_the_facts_behind_each_kind_of_case():
    instances, objects, prompts, index = graph()
    splits = divide(instances, objects, SHARES)
    found = {
        kind: training_edits(kind, instances, objects, prompts, index, splits)
        for kind in ("all", "conflict", "round")
    }
    assert set(found["conflict"]["relation_id"]) == {"R1"}
    assert set(found["round"]["relation_id"]) == {"R2"}
    assert len(found["all"]) == len(found["conflict"]) + len(found["round"])
    again = training_edits("all", instances, objects, prompts, index, splits)
    pd.testing.assert_frame_equal(found["all"], again)
    no_dev = divide(instances, objects, {"test": 0.5, "train": 0.5})
    with pytest.raises(ValueError, match=r"no edit .* in split 'dev' of kind 'round': raise cases.split"):
        training_edits("round", instances, objects, prompts, index, no_dev)


COUNTERFACT = {
    "requested_rewrite": {
        "prompt": "{} plays",
        "subject": "Ada {Oak}",
        "target_new": {"str": "jazz"},
        "target_true": {"str": "chess"},
    },
    "neighborhood_prompts": ["Bruno plays", "Clara plays"],
}
FLAT = {"subject": "Ada", "prompt": "Ada plays", "target_new": "jazz"}
FLAT |= {"locality_prompt": "Bruno plays", "locality_ground_truth": "chess"}


@pytest.mark.parametrize("record", [COUNTERFACT, FLAT])
def test_locality_files_of_both_forms(tmp_path, record):
    path = tmp_path / "loc.json"
    records = []
    for number in range(30):
        text = json.dumps(record).replace("Ada", f"Ada{number}")
        records.append(json.loads(text))
    path.write_text(json.dumps(records))
    found = texts_to_learn(path)
    assert set(found["target"]) == {"chess"}
    assert set(found["prompt"]) <= {"Bruno plays", "Clara plays"}
    subjects = {split: set(part["subject"]) for split, part in found.groupby("split")}
    assert set(subjects) == {"train", "dev"}
    assert not subjects["train"] & subjects["dev"]
    held = set(texts_to_ask(path)["subject"])
    assert held
    assert not held & (subjects["train"] | subjects["dev"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("{}", "no list of records"),
        ("[]", "no list of records"),
        ("[3]", "record 0 is 3, not an object"),
        ('[{"prompt": "x"}]', "record 0 has prompt; it needs requested_rewrite"),
        ('[{"requested_rewrite": {"subject": "x"}}]', "record 0 lacks requested_rewrite.target_true"),
        (json.dumps([{**FLAT, "locality_ground_truth": ""}]), 'record 0: locality_ground_truth is "", not'),
        (json.dumps([FLAT]), "too few subjects for split"),
    ],
)
def test_a_locality_file_of_another_form_is_refused(tmp_path, text, said):
    path = tmp_path / "loc.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        texts_to_learn(path)


SOURCE = {"source": "flat", "broken": "refuse"}


def rows(subjects):
    return [
        {
            "prompt": f"{subject} was born in",
            "subject": subject,
            "target_new": f"Town {place}",
            "ground_truth": "Elsewhere",
            "rephrase_prompt": f"The birthplace of {subject} is",
            "locality_prompt": "The sun rises in the",
            "locality_ground_truth": "east",
        }
        for subject in subjects
        for place in (1, 2)
    ]


def written(folder, records):
    path = folder / "edits.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def test_edits_have_their_paraphrases_and_what_they_should_leave_alone(tmp_path):
    subjects = [f"Person {i}" for i in range(60)]
    edits, local = edits_of_file(written(tmp_path, rows(subjects)), SOURCE)
    assert (len(edits), len(local), set(edits["split"])) == (120, 120, set(SPLITS))
    first = edits.iloc[0]
    assert first["prompts"] == ["Person 0 was born in", "The birthplace of Person 0 is"]
    assert (first["subject"], first["target_new"]) == ("Person 0", "Town 1")
    assert list(local.iloc[0])[1:] == ["Person 0", "", "The sun rises in the", "east"]


def test_a_subject_lies_in_one_split_whatever_the_file(tmp_path):
    subjects = [f"Person {i}" for i in range(60)]
    edits, _ = edits_of_file(written(tmp_path, rows(subjects)), SOURCE)
    again, _ = edits_of_file(written(tmp_path, rows(subjects[::-1])), SOURCE)
    assert (edits.groupby("subject")["split"].nunique() == 1).all()
    splits = [table.groupby("subject")["split"].first() for table in (edits, again)]
    assert splits[0].equals(splits[1])
    assert 0 < (splits[0] == "dev").mean() < 0.3


def test_too_few_subjects_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"too few subjects for split '(dev|train)'; give a longer"):
        edits_of_file(written(tmp_path, rows(["Person 0"])), SOURCE)
