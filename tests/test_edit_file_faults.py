"""Files of edits that are broken, by halves or by a row: each is named, and the others can be used."""

import re
from dataclasses import replace

import pytest

from aftershock.datasets.edit_files.choose import choose
from aftershock.datasets.edit_files.listing import account, edit_table
from aftershock.datasets.edit_files.record import with_slot
from aftershock.tables.sequences import SEQUENCE_EDITS
from edit_rows import COUNTERFACT, FLAT, KNOWEDIT, MQUAKE, WIKIBIGEDIT, ZSRE, file_of, flat, read


def test_half_a_file_names_its_last_row_or_itself(tmp_path):
    path = file_of(tmp_path, [FLAT] * 3, "edits.jsonl")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"1 of 3 rows cannot be read \(counted from 0\): row 2 is not JSON"):
        flat(path)
    assert [row.edit is None for row in flat(path, broken="skip")] == [False, False, True]
    path = file_of(tmp_path, [FLAT] * 3)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match="edits.json is not JSON: Unterminated string"):
        flat(path)


@pytest.mark.parametrize(("text", "said"), [("", "row"), ("[]", "row"), ('{"a": 1}', "list of rows")])
def test_files_that_hold_no_rows(tmp_path, text, said):
    (tmp_path / "edits.json").write_text(text)
    with pytest.raises(ValueError, match=f"holds no {said}"):
        flat(tmp_path / "edits.json")


# --- broken rows -------------------------------------------------------------------------------------------
def test_a_subject_becomes_a_slot():
    assert with_slot("Ann met Anna, and Ann said", "Ann") == "Ann met Anna, and {} said"
    assert with_slot("Anna's Ann. is", "Ann.") == "Anna's {} is"
    assert with_slot("The Annan is", "Anna") == "The {}n is"
    with pytest.raises(ValueError, match="'Bo' does not occur in the prompt 'Ann said'"):
        with_slot("Ann said", "Bo")
    for prompt, subject in (("ann said", "Ann"), ("Beyonce\u0301 said", "Beyonc\u00e9")):
        with pytest.raises(ValueError, match="said' but for its case or its Unicode form"):
            with_slot(prompt, subject)
    with pytest.raises(ValueError, match="stands for a subject"):
        with_slot("Ann said {}", "Ann")


BROKEN = [
    ({"subject": None}, "subject is null, not a text"),
    ({"target_new": ""}, 'target_new is "", not a text'),
    ({"prompt": 3}, "prompt is 3, not a text"),
    ({"subject": "Eve"}, "the subject 'Eve' does not occur in the prompt 'Ada Lum was born in'"),
    ({"locality_prompt": ["a", "b"], "locality_ground_truth": ["c"]}, "has 2 texts, locality_ground_truth 1"),
    ({"target_new": "\ud800"}, "holds half of a character"),
]


ROWS = {"flat": FLAT, "zsre": ZSRE, "knowedit": KNOWEDIT}
NOBODY = {"neighbours": ()}
GAPS = {"locality_prompt": ["", "b", None], "locality_ground_truth": ["x", "y", "z"]}
MISSING = [
    ("flat", {"rephrase_prompt": [None, "", "It is"]}, {"paraphrases": ("It is",)}),
    ("flat", GAPS, {"neighbours": (("b", "y"),)}),
    ("flat", {"locality_prompt": None, "locality_ground_truth": ["x", "y"]}, NOBODY),
    ("zsre", {"answers": ["Turin", ""]}, {"answers": ("Turin",)}),
    ("knowedit", {"locality": {"R": None, "S": [None, {"prompt": "", "ground_truth": "a"}]}}, NOBODY),
    ("knowedit", {"locality": {"R": [{"prompt": "p", "ground_truth": None}]}}, NOBODY),
]


@pytest.mark.parametrize(("source", "change", "left"), MISSING)
def test_what_is_only_asked_may_be_missing_at_any_place(tmp_path, source, change, left):
    rows = ROWS[source], ROWS[source] | change
    (plain,), (found,) = (read(tmp_path, source, row, target="alt") for row in rows)
    assert found.edit == replace(plain.edit, **left)


def test_half_a_character_in_a_name_or_a_fault_is_written_as_an_escape(tmp_path):
    rows = FLAT | {"case_id": "\ud800"}, FLAT | {"subject": ["\ud800"]}
    named, *faulty = read(tmp_path, "flat", *rows, broken="skip")
    assert named.edit.source_id == "\\ud800"
    assert "\\ud800" in faulty[0].fault
    SEQUENCE_EDITS.write(edit_table(choose([named, *faulty], 1, "keep")), tmp_path / "edits.parquet")


@pytest.mark.parametrize(("change", "expected"), BROKEN)
def test_what_is_broken_is_said_with_the_number_of_the_row(tmp_path, change, expected):
    start = re.escape("1 of 2 rows cannot be read (counted from 0): row 1")
    with pytest.raises(ValueError, match=start) as caught:
        read(tmp_path, "flat", FLAT, FLAT | change)
    assert expected in str(caught.value)
    assert str(caught.value).endswith("leave them out with broken: skip")


def test_all_broken_rows_are_listed_and_the_others_can_be_used(tmp_path):
    bad = {key: value for key, value in FLAT.items() if key != "target_new"}
    rows = [FLAT, bad, bad, FLAT | {"subject": "Eve"}, FLAT, bad, "text"]
    said = r"5 of 7 rows .*rows 1 to 2, 5 lacks target_new; row 3: .*; row 6 is"
    with pytest.raises(ValueError, match=said):
        read(tmp_path, "flat", *rows)
    found = read(tmp_path, "flat", *rows, broken="skip")
    assert [row.edit is not None for row in found] == [True, False, False, False, True, False, False]
    listed = choose(found, 2, "keep")
    table = edit_table(listed)
    assert list(table["kept"]) == [True, False, False, False, True]
    assert table["reason"][1] == "broken: row 1 lacks target_new"
    assert account(listed) == (
        "2 edits; 3 left out, as the row cannot be read; 1 made although an earlier edit is the same"
    )
    SEQUENCE_EDITS.check(table)


@pytest.mark.parametrize(
    ("source", "row", "looks"),
    [
        ("flat", ZSRE, "zsre"),
        ("zsre", COUNTERFACT, "counterfact"),
        ("counterfact", MQUAKE, "mquake"),
        ("zsre", WIKIBIGEDIT, "wikibigedit"),
    ],
)
def test_a_file_of_another_format_is_recognised(tmp_path, source, row, looks):
    with pytest.raises(ValueError, match=f"none of 2 rows is of the format '{source}'.*source: {looks}"):
        read(tmp_path, source, row, row, target="alt", broken="skip")
