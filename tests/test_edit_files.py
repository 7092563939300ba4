"""Files of edits, in every format, from rows of our own."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from aftershock.datasets.edit_files.choose import choose
from aftershock.datasets.edit_files.listing import probe_table
from aftershock.datasets.edit_files.reading import read_edits
from aftershock.datasets.edit_files.record import SourceEdit
from aftershock.tables.sequences import SEQUENCE_PROBES
from edit_rows import (
    CONFLICT,
    COUNTERFACT,
    FLAT,
    KNOWEDIT,
    MQUAKE,
    REFUSE,
    WIKIBIGEDIT,
    ZSRE,
    edits,
    file_of,
    flat,
    read,
)

REAL = Path(__file__).parents[2] / "shared" / "data" / "edits"


# --- formats -----------------------------------------------------------------------------------------------
def test_counterfact(tmp_path):
    (edit,) = edits(tmp_path, "counterfact", COUNTERFACT)
    assert edit == SourceEdit(
        *("7", "{} was born in", "Ada Lum", "Oslo", "Turin"),
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
    names = {"update": "prompt", "rephrase": "rephrase_prompt", "loc": "locality_prompt"}
    theirs = {name: WIKIBIGEDIT[own] for own, name in names.items()}
    theirs |= {"subject": "Ada Lum", "target_new": "Oslo", "locality_ground_truth": "Turin"}
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
