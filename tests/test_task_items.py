"""Items of tasks from rows of their sources."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from aftershock.tables.sequences import TASK_ITEMS
from aftershock.tasks.definition import make_task
from aftershock.tasks.edited import spoken
from aftershock.tasks.entities import sentence, sentence_by_kind, spans
from aftershock.tasks.prepare import account, prepare_items
from aftershock.tasks.sources import files_of, parts_of, read_rows, source_errors, source_of

ROWS = [{"name": f"thing {n}", "label": n % 2, "kind": "even" if n % 4 else "odd"} for n in range(40)]


def colours(**changes):
    content = {
        "kind": "choice",
        "data": {"items": {"local": ["colours.jsonl"]}},
        "item": {"question": "{{ name }} is", "choices": [" red", " blue"], "gold": "label"},
    }
    return make_task("colours", content | changes)


def prepared(task, rows=ROWS, examples=(), n_items=None, seed=0):
    found = prepare_items(task, rows, examples, n_items, seed)
    TASK_ITEMS.check(found.items)
    return found


def ids(task, n_items, seed=0):
    return list(prepared(task, n_items=n_items, seed=seed).items["item_id"])


# --- which items --------------------------------------------------------------------------------------------
def test_items_are_rows_as_templates_say():
    first = prepared(colours()).items.iloc[1]
    assert (first["item_id"], first["prompt"], first["gold"]) == ("1", "thing 1 is", 1)
    assert list(first["choices"]) == [" red", " blue"]
    assert first["group"] is None


def test_fewer_items_are_part_of_more_and_stay_in_order():
    some, more = ids(colours(), 5), ids(colours(), 12)
    assert set(some) < set(more)
    assert [len(some), len(more)] == [5, 12]
    assert more == sorted(more, key=int)
    assert ids(colours(), 5, seed=1) != some
    item = {"question": "Is {{ name }} blue?", "answers": ["{{ label }}"]}  # another task over the same rows
    assert ids(make_task("other", {"kind": "generate", "item": item}), 5) == some


def test_fewer_items_than_asked_are_said():
    found = prepared(colours(), n_items=100)
    assert found.counts == {"asked": 100, "items": 40, "possible": 40, "fewer_examples": 0}
    assert list(account(found)) == ["40 items, of 100 that were asked for: its files have no more"]
    assert list(account(prepared(colours(), n_items=4))) == []


def test_rows_that_are_no_items_are_left_out():
    task = colours(item={**colours().item, "where": "kind == 'odd'"})
    assert ids(task, None) == [str(n) for n in range(0, 40, 4)]
    with pytest.raises(ValueError, match="40 rows make no item; look at its item.where"):
        prepared(colours(item={**colours().item, "where": "kind == 'none'"}))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"name": "x", "label": 2}, r"row 1: item.gold is 2; expected the place of one of 2 choices"),
        ({"name": "x", "label": "1"}, "row 1: item.gold is '1'"),
        ({"name": "x"}, "row 1: expression 'label': 'label' is undefined"),
        ({"label": 1}, "row 1: template '{{ name }} is': 'name' is undefined"),
    ],
)
def test_a_row_that_does_not_fit_is_named(row, said):
    with pytest.raises(ValueError, match=f"task colours, {said}"):
        prepared(colours(), [ROWS[0], row])


# --- examples -----------------------------------------------------------------------------------------------
def test_a_text_to_be_scored_whole_is_not_empty_and_has_no_prompt():
    item = {"answers": ["{{ text }}"], "question": "{{ text }}"}
    task = make_task("text", {"kind": "perplexity", "item": item})
    (first,) = prepared(task, [{"text": "a"}]).items.itertuples()
    assert (first.prompt, list(first.answers)) == ("", ["a"])
    with pytest.raises(ValueError, match=r"task text, row 1: item.answers are \[' '\]; expected a text"):
        prepared(task, [{"text": "a"}, {"text": " "}])


def test_examples_stand_before_items_with_their_answers():
    train = [{"name": "sky", "label": 1}, {"name": "rose", "label": 0}, {"name": "sea", "label": 1}]
    task = colours(shots=2)
    assert prepared(task, ROWS[:1], train).items["prompt"][0] == "sky is blue\n\nrose is red\n\nthing 0 is"
    seeded = colours(shots=3, examples={"draw": "seeded"})
    prompts = [prepared(seeded, ROWS[:2], train, seed=seed).items["prompt"] for seed in range(8)]
    assert len({tuple(each) for each in prompts}) > 1
    for prompt in prompts:  # the same before every item
        assert prompt[0].removesuffix("thing 0 is") == prompt[1].removesuffix("thing 1 is")


def test_an_item_is_no_example_of_itself():
    task = colours(shots=3, examples={"part": "items", "draw": "seeded", "same": "kind"})
    found = prepared(task)
    for row, item in zip(ROWS, found.items.itertuples(), strict=True):
        *examples, question = item.prompt.split("\n\n")
        assert question == item.question
        assert len(examples) == 3
        assert not any(example.startswith(question) for example in examples)
        same = [other["kind"] for e in examples for other in ROWS if e.startswith(f"{other['name']} is")]
        assert set(same) == {row["kind"]}


def test_too_few_examples_are_counted():
    task = colours(shots=2)
    found = prepared(task, ROWS[:2], [ROWS[0]])
    assert list(found.items["prompt"]) == ["thing 0 is", "thing 0 is red\n\nthing 1 is"]
    assert list(account(found)) == ["2 of 2 items have fewer examples than the task's shots"]


def test_one_row_may_hold_several_examples():
    task = colours(shots=3, examples={"rows": 1, "same": "'any'", "text": "{{ text | trim }}"})
    found = prepared(task, ROWS[:1], [{"text": "three worked examples\n"}])
    assert found.items["prompt"][0] == "three worked examples\n\nthing 0 is"


# --- entities and edits -------------------------------------------------------------------------------------
TAGGED = {
    "tokens": ["Ann", "Lee", "saw", "Oslo", ",", "Rome", "and", "U.N.", "Bo"],
    "ner_tags": ["B-PER", "I-PER", "O", "B-LOC", "O", "B-LOC", "O", "B-ORG", "B-PER"],
}


def test_entities_of_a_sentence():
    found = list(spans(["B-PER", "B-PER", "I-PER", "I-LOC", "O", "I-ORG"]))
    assert found == [("PER", 0, 1), ("PER", 1, 3), ("LOC", 3, 4), ("ORG", 5, 6)]
    (row,) = sentence(TAGGED)
    assert row["entities"] == ["PER: Ann Lee", "LOC: Oslo", "LOC: Rome", "ORG: U.N.", "PER: Bo"]
    with pytest.raises(ValueError, match="9 tokens with 1 tags"):
        sentence({**TAGGED, "ner_tags": ["O"]})
    (row,) = sentence({"tokens": ["a", "b", "c"], "ner_tags": [1, 2, 7]})  # the Hub's numbers of tags
    assert row["entities"] == ["PER: a b", "MISC: c"]


def test_entities_as_released_join_and_lose_tokens():
    rows = {row["kind"]: row for row in sentence_by_kind(TAGGED)}
    assert list(rows) == ["Person", "Location", "Organization", "Miscellaneous"]
    assert rows["Person"]["text"] == "Ann Lee saw Oslo, Rome and U.N. Bo"
    assert rows["Person"]["entities"] == ["Ann Lee", ""]  # the last token of the sentence is lost
    assert rows["Location"]["entities"] == ["Oslo", "Rome"]
    assert rows["Organization"]["entities"] == ["U.N."]  # up to an O: here the sentence's end, less a token
    together = {"tokens": ["Oslo", "Rome", "."], "ner_tags": ["B-LOC", "B-LOC", "O"]}
    assert sentence_by_kind(together)[1]["entities"] == ["Oslo Rome"]


def test_items_out_of_one_row_stay_together():
    item = {"id": "{{ number }}-{{ kind }}", "question": "{{ kind }}?", "answers": "entities"}
    by_kind = "aftershock.tasks.entities:sentence_by_kind"
    task = make_task("t", {"kind": "generate", "prepare": by_kind, "item": item})
    found = prepared(task, [TAGGED] * 6, n_items=10).items
    assert found["item_id"].str.partition("-")[0].value_counts().tolist() == [4, 4]


@pytest.mark.parametrize("answers", [[], [""], ["", " "]])
def test_an_item_without_an_answer_is_an_error(answers):
    item = {"question": "{{ name }}?", "answers": "found"}
    rows = [{"name": "a", "found": ["b"]}, {"name": "c", "found": answers}]
    said = r"task t, row 1: item\.answers are .*; expected an answer that is not"
    with pytest.raises(ValueError, match=said):
        prepared(make_task("t", {"kind": "generate", "item": item}), rows)
    entities = {"kind": "generate", "metrics": ["entity_f1"], "item": item}
    assert len(prepared(make_task("t", entities), rows).items) == 2


def test_edits_are_asked_with_their_whole_prompt():
    given = [(0, "{} was born in", "A {b}", "Oslo"), (1, "{}の首都は\u2060", "C", "D")]
    edits = pd.DataFrame(given, columns=["edit_id", "prompt", "subject", "target_new"]).assign(kept=True)
    rows = spoken(pd.concat([edits, edits.assign(edit_id=[2, 3], kept=False)]))
    assert [(row["edit_id"], row["prompt"]) for row in rows] == [(0, "A {b} was born in"), (1, "Cの首都は")]


# --- sources ------------------------------------------------------------------------------------------------
def test_rows_of_all_kinds_of_files(tmp_path: Path):
    rows = [{"a": "x", "b": "1"}, {"a": "ü", "b": "2"}]
    lines = "\n".join(map(json.dumps, rows))
    (tmp_path / "one.jsonl").write_text(lines)
    with gzip.open(tmp_path / "two.jsonl.gz", "wt") as file:
        file.write(lines)
    (tmp_path / "three.json").write_text(json.dumps({"canary": "no", "examples": rows}))
    pd.DataFrame(rows).to_parquet(tmp_path / "four.parquet")
    (tmp_path / "five.csv").write_text("a,b\nx,1\nü,2\n")
    (tmp_path / "six.tsv").write_text("a\tb\nx\t1\nü\t2\n")
    for file in tmp_path.iterdir():
        found = read_rows([str(file)])
        own = {"file": file.name.split(".")[0], "folder": tmp_path.name}
        assert found == [own | row for row in rows], file
    (tmp_path / "seven.txt").write_text("whole\ntext")
    assert read_rows([str(tmp_path / "seven.txt")])[0]["text"] == "whole\ntext"
    assert len(read_rows(str(tmp_path))) == 13


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.jsonl", '{"a": 1}\n{"a": \n', " row 2 is not JSON"),
        ("list.jsonl", '{"a": 1}\n["b"]\n', r': row 2 is \["b"\]; expected a JSON object'),
        ("text.json", '"text"', ": expected a list of JSON objects"),
        ("rows.csv", "a,b\nx,1\n\ny\n", ": row 2 below the header has 1 cells, and the header 2"),
        ("rows.tsv", "a\tb\nx\t1\n\ny\n", ": row 2 below the header has 1 cells, and the header 2"),
    ],
    ids=["cut", "list", "text", "csv", "tsv"],
)
def test_a_broken_row_is_named(name, content, said, tmp_path: Path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name}{said}"):
        read_rows([str(tmp_path / name)])


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.json.gz", "rows.parquet"])
def test_half_a_file_is_named(name, tmp_path: Path):
    path, rows = tmp_path / name, [{"a": str(n)} for n in range(999)]
    if name.endswith("gz"):
        path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    else:
        pd.DataFrame(rows).to_parquet(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=f"{name} cannot be .*; fetch it anew"):
        read_rows([str(path)])


HUB = {
    "hub": "owner/colours",
    "items": {"local": ["colours.jsonl"], "files": ["data/test-*.parquet"]},
    "examples": {"local": ["shots.jsonl"], "help": "they are in the paper"},
}


def test_a_source_is_the_first_local_file_that_is_there(tmp_path: Path):
    task = colours(data=HUB, shots=1)
    assert parts_of(task) == ["items", "examples"]
    assert parts_of(colours(data=HUB)) == ["items"]
    folder = tmp_path / "owner" / "colours" / "data"
    folder.mkdir(parents=True)
    (folder / "test-00000.parquet").touch()
    found = source_of(task, "items", tmp_path)
    assert files_of(found) == [str(folder / "test-00000.parquet")]
    (tmp_path / "colours.jsonl").touch()
    assert files_of(source_of(task, "items", tmp_path)) == [str(tmp_path / "colours.jsonl")]


def test_without_a_folder_a_source_is_on_the_hub():
    found = source_of(colours(data=HUB), "items", None)
    assert (found.hub, found.revision, found.files) == ("owner/colours", "main", ("data/test-*.parquet",))
    other = source_of(make_task("other", {"data": HUB}), "items", None)
    assert other.download == found.download  # downloaded once
    assert source_of(colours(data={**HUB, "revision": "v2"}), "items", None).download != found.download


def test_missing_files_are_named_with_both_ways_to_have_them(tmp_path: Path):
    items, examples = source_errors([colours(data=HUB, shots=1)], tmp_path)
    assert items == (
        f"task colours: the folder {tmp_path} has no file for its items; put colours.jsonl or "
        "owner/colours/data/test-*.parquet there, or set abilities.data to null, so that "
        "data/test-*.parquet of the data set owner/colours at revision main is downloaded from the Hub"
    )
    assert examples.endswith("put shots.jsonl there; they are in the paper")
    assert source_errors([colours(data=HUB, shots=1)], None) == [
        "task colours: its examples are on no data set of the Hub; set abilities.data to a folder with "
        "shots.jsonl; they are in the paper"
    ]
