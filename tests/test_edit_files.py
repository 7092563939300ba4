"""Files of edits, in every format, from rows of our own, and broken ones."""

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from aftershock.datasets.edit_files.choose import choose
from aftershock.datasets.edit_files.listing import account, edit_table, probe_table
from aftershock.datasets.edit_files.reading import Row, read_edits
from aftershock.datasets.edit_files.record import SourceEdit, with_slot
from aftershock.tables.sequences import SEQUENCE_EDITS, SEQUENCE_PROBES

REAL = Path(__file__).parents[2] / "shared" / "data" / "edits"

COUNTERFACT = {
    "case_id": 7,
    "requested_rewrite": {
        "prompt": "{} was born in",
        "relation_id": "P19",
        "target_new": {"str": "Oslo", "id": "Q585"},
        "target_true": {"str": "Turin", "id": "Q495"},
        "subject": "Ada Lum",
    },
    "paraphrase_prompts": ["It rained. Ada Lum comes from", "Ada Lum's home town is"],
    "neighborhood_prompts": ["Bo Ek was born in", "Cy Ott was born in"],
    "attribute_prompts": ["Di Poe was born in"],
    "generation_prompts": ["Ada Lum grew up"],
}
FLAT = {
    "case_id": 3,
    "prompt": "Ada Lum was born in",
    "subject": "Ada Lum",
    "target_new": "Oslo",
    "ground_truth": "Turin",
    "rephrase_prompt": "Ada Lum comes from",
    "locality_prompt": "Bo Ek was born in",
    "locality_ground_truth": "Turin",
}
ZSRE = {
    "subject": "Ada Lum",
    "src": "Where was Ada Lum born?",
    "pred": "Genoa",
    "rephrase": "Which town is Ada Lum from?",
    "alt": "Oslo",
    "answers": ["Turin", "Torino"],
    "loc": "nq question: who sang the blue song",
    "loc_ans": "Bo Ek",
    "cond": "Genoa >> Oslo || Where was Ada Lum born?",
}
WIKIBIGEDIT = {
    "subject": "Ada Lum",
    "update": "Where does Ada Lum work?",
    "ans": "Oslo",
    "rephrase": "What is Ada Lum's place of work?",
    "loc": "Where does Bo Ek work?",
    "loc_ans": "Turin",
}
KNOWEDIT = {
    "subject": "Ada Lum",
    "prompt": "The employer of Ada Lum is",
    "target_new": "Acme",
    "ground_truth": ["Initech"],
    "locality": {
        "Relation_Specificity": [{"prompt": "Ada Lum lives in", "ground_truth": [["Turin", "Torino"]]}],
        "Forgetfulness": [{"prompt": "Ada Lum knows", "ground_truth": ""}],
    },
    "portability": {},
}
MQUAKE = {
    "case_id": 4,
    "requested_rewrite": [
        COUNTERFACT["requested_rewrite"] | {"question": "Where was Ada Lum born?"},
        {
            "prompt": "The mayor of {} is",
            "relation_id": "P6",
            "target_new": {"str": "Bo Ek"},
            "target_true": {"str": "Cy Ott"},
            "subject": "Oslo",
            "question": "Who is the mayor of Oslo?",
        },
    ],
}
CONFLICT = {
    "edits": [
        {
            "relation": {"id": "P19", "prompt": "{} was born in", "label": "born in"},
            "subject": {"id": "Q1", "label": "Ada Lum"},
            "object": {"id": "Q495", "label": "Turin"},
            "new_object": {"id": "Q585", "label": "Oslo"},
        },
        {"relation": {"id": "P19"}},
    ]
}


REFUSE = {"broken": "refuse", "cycle": False}


def file_of(tmp_path: Path, rows: list, name: str = "edits.json") -> Path:
    path = tmp_path / name
    lines = "\n".join(map(json.dumps, rows))
    path.write_text(lines if path.suffix == ".jsonl" else json.dumps(rows), encoding="utf-8")
    return path


def flat(path: Path, **options) -> list[Row]:
    return read_edits(path, {"source": "flat", **REFUSE, **options})


def read(tmp_path: Path, source: str, *rows, **options) -> list[Row]:
    return read_edits(file_of(tmp_path, list(rows)), {"source": source, **REFUSE, **options})


def edits(*args, **options) -> list[SourceEdit]:
    return [row.edit for row in read(*args, **options)]


# --- formats -----------------------------------------------------------------------------------------------
def test_counterfact(tmp_path):
    (edit,) = edits(tmp_path, "counterfact", COUNTERFACT)
    assert edit == SourceEdit(
        "7",
        "{} was born in",
        "Ada Lum",
        "Oslo",
        "Turin",
        relation="P19",
        paraphrases=("It rained. Ada Lum comes from", "Ada Lum's home town is"),
        neighbours=(("Bo Ek was born in", "Turin"), ("Cy Ott was born in", "Turin")),
    )


def test_flat(tmp_path):
    (edit,) = edits(tmp_path, "flat", FLAT)
    assert (edit.source_id, edit.prompt) == ("3", "{} was born in")
    assert (edit.target_new, edit.target_true) == ("Oslo", "Turin")
    assert edit.paraphrases == ("Ada Lum comes from",)
    assert edit.neighbours == (("Bo Ek was born in", "Turin"),)


def test_zsre_is_two_experiments(tmp_path):
    (away,) = edits(tmp_path, "zsre", ZSRE, target="alt")
    (towards,) = edits(tmp_path, "zsre", ZSRE, target="answers")
    assert (away.target_new, away.target_true) == ("Oslo", "Turin")
    assert (towards.target_new, towards.target_true) == ("Turin", "")
    for edit in (away, towards):
        assert edit.prompt == "Where was {} born?"
        assert edit.neighbours == (("who sang the blue song", "Bo Ek"),)
        assert edit.source_id == "0"


def test_wikibigedit_with_both_kinds_of_names(tmp_path):
    theirs = {
        "subject": "Ada Lum",
        "prompt": WIKIBIGEDIT["update"],
        "target_new": "Oslo",
        "rephrase_prompt": WIKIBIGEDIT["rephrase"],
        "locality_prompt": WIKIBIGEDIT["loc"],
        "locality_ground_truth": "Turin",
    }
    one, other = edits(tmp_path, "wikibigedit", WIKIBIGEDIT, theirs)
    assert one.prompt == "Where does {} work?"
    assert (one.target_new, one.target_true) == ("Oslo", "")
    assert one.neighbours == (("Where does Bo Ek work?", "Turin"),)
    assert replace(other, source_id=one.source_id) == one


def test_knowedit_and_its_biographies(tmp_path):
    biography = {"text": "A page about ada lum.", "labels": "She sang.", "concept": "ada lum"}
    edit, life = edits(tmp_path, "knowedit", KNOWEDIT, biography)
    assert (edit.prompt, edit.target_true) == ("The employer of {} is", "Initech")
    assert edit.neighbours == (("Ada Lum lives in", "Turin"),)
    assert (life.prompt, life.target_new) == ("A page about {}.", "She sang.")


def test_a_row_of_mquake_holds_several_edits(tmp_path):
    first, second = edits(tmp_path, "mquake", MQUAKE)
    assert (first.source_id, second.source_id) == ("4.0", "4.1")
    assert (second.subject, second.target_new, second.target_true) == ("Oslo", "Bo Ek", "Cy Ott")
    assert second.paraphrases == ("Who is the mayor of Oslo?",)


def test_the_broken_edit_of_several_in_a_row_is_named(tmp_path):
    rewrites = MQUAKE["requested_rewrite"]
    broken = MQUAKE | {"requested_rewrite": [rewrites[0], rewrites[1] | {"subject": ""}]}
    with pytest.raises(ValueError, match=r'row 1: requested_rewrite\[1\].subject is "", not a text'):
        read(tmp_path, "mquake", MQUAKE, broken)


def test_published_cases_give_their_first_edits(tmp_path):
    (tmp_path / "conflict_prompts.json").write_text(json.dumps({"P19": ["The birthplace of {} is"]}))
    round_case = {"edit": CONFLICT["edits"][0], "true_objects": []}
    first, other = edits(tmp_path, "conflict_edit", CONFLICT, round_case)
    assert (first.prompt, first.target_new, first.target_true) == ("{} was born in", "Oslo", "Turin")
    assert first.paraphrases == ("The birthplace of Ada Lum is",)
    assert other.paraphrases == ()  # there is no round_prompts.json


def test_lines_of_json(tmp_path):
    path = file_of(tmp_path, [FLAT, FLAT | {"subject": "Bo"}], "edits.jsonl")
    with path.open("a", encoding="utf-8") as file:
        file.write('\n{"prompt": ')
    with pytest.raises(ValueError, match="2 of 3 rows .* row 1: the subject 'Bo' does .*; row 2 is not JSON"):
        flat(path)


@pytest.mark.parametrize("name", ["edits.json", "edits.jsonl", "edits.json.gz", "edits.jsonl.gz"])
@pytest.mark.parametrize("form", ["list", "lines", "lines of Windows", "lines of old", "marked", "one"])
def test_rows_are_read_whatever_a_file_is_called(name, form, tmp_path):
    rows = [FLAT, FLAT | {"target_new": "Łódź\u2028"}]
    ends = {"lines of Windows": "\r\n", "lines of old": "\r"}
    text = json.dumps(rows, indent=1) if form == "list" else ends.get(form, "\n").join(
        json.dumps(row, ensure_ascii=False) for row in rows[: 1 if form == "one" else 2]
    )  # fmt: skip
    content = text.encode("utf-8-sig" if form == "marked" else "utf-8")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    if form == "one" and ".jsonl" not in name:
        with pytest.raises(ValueError, match="holds no list of rows; expected one, or a row in each line"):
            flat(tmp_path / name)
        return
    found = [row.edit for row in flat(tmp_path / name)]
    assert [edit.target_new for edit in found if edit] == ["Oslo", "Łódź"][: len(found)]


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


@pytest.mark.parametrize(
    ("text", "said"), [("", "no row"), ("[]", "no row"), ('{"a": 1}', "no list of rows")]
)
def test_files_that_hold_no_rows(tmp_path, text, said):
    (tmp_path / "edits.json").write_text(text)
    with pytest.raises(ValueError, match=f"holds {said}"):
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


MISSING = [
    ("flat", FLAT, {"rephrase_prompt": [None, "", "It is"]}, ("It is",), (("Bo Ek was born in", "Turin"),)),
    (
        "flat",
        FLAT,
        {"locality_prompt": ["", "b", None], "locality_ground_truth": ["x", "y", "z"]},
        None,
        (("b", "y"),),
    ),
    ("flat", FLAT, {"locality_prompt": None, "locality_ground_truth": ["x", "y"]}, None, ()),
    ("zsre", ZSRE, {"answers": ["Turin", ""]}, None, None),
    (
        "knowedit",
        KNOWEDIT,
        {"locality": {"R": None, "S": [None, {"prompt": "", "ground_truth": "a"}]}},
        None,
        (),
    ),
    ("knowedit", KNOWEDIT, {"locality": {"R": [{"prompt": "p", "ground_truth": None}]}}, None, ()),
]


@pytest.mark.parametrize(("source", "row", "change", "paraphrases", "neighbours"), MISSING)
def test_what_is_only_asked_may_be_missing_at_any_place(
    tmp_path, source, row, change, paraphrases, neighbours
):
    (plain,), (found,) = (read(tmp_path, source, each, target="alt") for each in (row, row | change))
    assert found.edit.target_new == plain.edit.target_new
    assert found.edit.paraphrases == (plain.edit.paraphrases if paraphrases is None else paraphrases)
    assert found.edit.neighbours == (plain.edit.neighbours if neighbours is None else neighbours)


def test_half_a_character_in_a_name_or_a_fault_is_written_as_an_escape(tmp_path):
    named, *faulty = read(
        tmp_path, "flat", FLAT | {"case_id": "\ud800"}, FLAT | {"subject": ["\ud800"]}, broken="skip"
    )
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


# --- tables ------------------------------------------------------------------------------------------------
def test_probes_say_what_each_is_compared_with(tmp_path):
    flat, zsre = read(tmp_path, "flat", FLAT)[0], read(tmp_path, "zsre", ZSRE, target="answers")[0]
    probes = probe_table(choose([flat, zsre], 2, "keep"), paraphrases=1, neighbours=1)
    SEQUENCE_PROBES.check(probes)
    assert [tuple(each) for each in probes.astype(object).fillna("").to_numpy()] == [
        (0, "edit", 0, "Ada Lum was born in", "Oslo", "Turin"),
        (0, "paraphrase", 0, "Ada Lum comes from", "Oslo", "Turin"),
        (0, "neighbour", 0, "Bo Ek was born in", "Turin", "Oslo"),
        (1, "edit", 0, "Where was Ada Lum born?", "Turin", ""),
        (1, "paraphrase", 0, "Which town is Ada Lum from?", "Turin", ""),
        (1, "neighbour", 0, "who sang the blue song", "Bo Ek", ""),
    ]


def test_a_neighbour_that_is_edited_itself_is_not_asked(tmp_path):
    other = FLAT | {"subject": "Bo Ek", "prompt": "Bo Ek was born in"}
    listed = choose(read(tmp_path, "flat", FLAT, other), 2, "drop")
    probes = probe_table(listed, 2, 2)
    assert len(probes[probes["role"] == "neighbour"]) == 0


@pytest.mark.skipif(not REAL.exists(), reason="the published files are not there")
@pytest.mark.parametrize(
    ("source", "file", "n", "options"),
    [
        ("counterfact", "counterfact/counterfact.json", 928, {}),
        ("flat", "counterfact/counterfact-edit.json", 2000, {}),
        ("zsre", "zsre/zsre_mend_eval_3k.json", 3000, {"target": "alt"}),
        ("wikibigedit", "wikibigedit/wikibigedit_1k.json", 1000, {}),
        ("knowedit", "knowedit/wiki_recent/recent_train.json", 570, {}),
        ("mquake", "mquake/MQuAKE-hard.json", 1716, {}),
    ],
)
def test_published_files_are_read_whole(source, file, n, options):
    found = read_edits(REAL / file, {"source": source, **REFUSE, **options})
    assert len(found) == n
    listed = choose(found, n, "keep")
    SEQUENCE_PROBES.check(probe_table(listed, 2, 10))
    subjects = len({each.row.edit.subject.casefold() for each in listed})
    assert sum(each.reason in (None, "unchanged") for each in listed) == subjects
