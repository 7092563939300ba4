"""Files of edits as what MEND and SERAC are trained on."""

import json

import pytest

from aftershock.datasets.mend import SPLITS
from aftershock.datasets.training_data import edits_of_file

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
