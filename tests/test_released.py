"""The published format: read, kept as tables, written again byte for byte; and our own datasets in it."""

import json
import random
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from aftershock.datasets.build import tabulate
from aftershock.datasets.convert import CHANGED, KEPT, convert, to_files, to_tables
from aftershock.datasets.export import export, notice
from aftershock.datasets.graph_facts import Context, FactIndex, as_facts
from aftershock.datasets.released import ALL_FILES, FILES, read_cases, read_prompts, write_cases
from aftershock.datasets.statements import cases_of, publish
from aftershock.datasets.table import CONFLICT, DATASETS
from aftershock.kg.graph import find_graph
from aftershock.tables.cases import RELEASED_FILES, RELEASED_ROWS, STATEMENTS
from families import SHEET
from published import (
    RELEASED,
    built,
    composite,
    coverage,
    entity,
    exported,
    needs_released,
    prompts,
    read,
    released_cases,
    several,
    write,
)
from tiers import some


def files_equal(left: Path, right: Path) -> dict[str, bool]:
    return {path.name: path.read_bytes() == (right / path.name).read_bytes() for path in left.glob("*.json")}


def there_and_back(folder: Path, work: Path) -> pd.DataFrame:
    to_tables(folder, work / "tables")
    return to_files(work / "tables", work / "files")


# --- round trips --------------------------------------------------------------------------------------------
THEIRS = pytest.param(True, marks=[needs_released, pytest.mark.thorough])


@pytest.mark.parametrize("published", [False, THEIRS], ids=["own", "theirs"])
def test_files_survive_tables_byte_for_byte(tmp_path, published):
    folder = RELEASED if published else exported(tmp_path / "export")
    results = there_and_back(folder, tmp_path)
    assert dict(zip(results["file"], results["result"], strict=True)) == dict.fromkeys(ALL_FILES, KEPT)
    assert files_equal(folder, tmp_path / "files") == dict.fromkeys(ALL_FILES, True)


def decorate(value: Any, rng: random.Random) -> Any:
    """The same value with its keys in another order and some that the format does not have."""
    if isinstance(value, list):
        return [decorate(item, rng) for item in value]
    if not isinstance(value, dict):
        return value
    keys = rng.sample(list(value), len(value))
    found = {key: decorate(value[key], rng) for key in keys}
    for number in range(rng.choice((0, 0, 1, 2))):
        found[f"note.{number}"] = rng.choice((None, 1.5, "é ü", [1, {"a": [True]}], {}))
    return found


@pytest.mark.parametrize("seed", some(range(6), [0]))
def test_any_order_of_keys_and_any_further_keys_survive(tmp_path, seed):
    rng = random.Random(seed)
    rows = {"composite_edit.json": [composite(True), composite(False)]}
    rows |= {"coverage_edit.json": [coverage(), coverage()], "hard.json": [several()]}
    style = rng.choice(({}, {"indent": 4, "separators": (",", ":")}, {"indent": 2, "ensure_ascii": False}))
    (tmp_path / "in").mkdir()
    for name, given in rows.items():
        write(tmp_path / "in" / name, [decorate(row, rng) for row in given], **style)
    results = there_and_back(tmp_path / "in", tmp_path)
    assert set(results["result"]) == {KEPT}
    assert all(files_equal(tmp_path / "in", tmp_path / "files").values())


def test_what_may_be_missing_may_be_missing(tmp_path):
    row = coverage()
    del row["type"], row["prerequisites"]
    for part in (*row["triples"], *row["edits"]):
        del part["relation"]["query"], part["relation"]["label"]
    write(tmp_path / "coverage_edit.json", [row])
    published = read_cases(tmp_path, "coverage")
    assert json.loads(write_cases(published)) == [row]
    assert published.statements["query"].isna().all()


def test_the_tables_are_what_is_written(tmp_path):
    write(tmp_path / "composite_edit.json", [composite(True)])
    published = read_cases(tmp_path, "composite")
    RELEASED_ROWS.check(published.rows), STATEMENTS.check(published.statements)
    assert "Label" not in published.rows.to_csv()  # layouts hold keys only
    published.statements["object"] = published.statements["object"].replace("Label Z", "Zed")
    (row,) = json.loads(write_cases(published))
    assert row["triples"][1]["object"] == {"id": "Z", "label": "Zed"}
    assert row["edits"][1]["new_object"] == entity("Z3")


def test_converting_says_what_became_of_each_file(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "easy.json", [several()])
    (folder / "hard.json").write_text(json.dumps([several()]).replace(", ", " ,  "))
    convert(folder, tmp_path / "tables")
    table = tmp_path / "tables" / "easy.statements.parquet"
    STATEMENTS.write(STATEMENTS.read(table).assign(subject="Somebody else"), table)
    convert(tmp_path / "tables", tmp_path / "out")
    said = capsys.readouterr().out
    assert f"easy.json: {CHANGED}" in said
    assert "hard.json: same content, laid out anew" in said
    assert read(tmp_path / "out" / "hard.json") == [several()]
    with pytest.raises(ValueError, match="out exists; name a new folder"):
        convert(tmp_path / "tables", tmp_path / "out")
    with pytest.raises(ValueError, match="gone is not a folder"):
        convert(tmp_path / "gone", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_broken_tables_are_named(tmp_path):
    to_tables(exported(tmp_path / "export"), tmp_path / "tables")
    (tmp_path / "tables" / "hard.rows.parquet").unlink()
    with pytest.raises(ValueError, match=r"hard\.rows\.parquet cannot be read as table released_rows"):
        to_files(tmp_path / "tables", tmp_path / "files")
    files = tmp_path / "tables" / "files.parquet"
    RELEASED_FILES.write(RELEASED_FILES.read(files).assign(file=lambda t: "../" + t["file"]), files)
    with pytest.raises(ValueError, match=r"files\.parquet lists '\.\./composite_edit\.json'; known names"):
        to_files(tmp_path / "tables", tmp_path / "files")
    assert not (tmp_path / "files").exists()


# --- our own datasets ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("split", ["test", "dev"])
def test_an_export_holds_one_split_in_the_published_layout(tmp_path, split):
    folder, datasets = exported(tmp_path / "export", split), built()
    assert {path.name for path in folder.iterdir()} == set(ALL_FILES)
    for dataset, name in FILES.items():
        tables = datasets[dataset]
        cases = tables.cases[tables.cases["split"] == split]
        rows = read(folder / name)
        assert len(rows) == len(cases)
        for row, case_id in zip(rows, cases["case_id"], strict=True):
            own = tables.edits[tables.edits["case_id"] == case_id].set_index("edit")
            first = row["edits"][0] if dataset in CONFLICT else row["edit"]
            assert first["subject"] == {"id": own.at["e1", "subject_id"], "label": own.at["e1", "subject"]}
            assert first["new_object"]["label"] == own.at["e1", "target_new"]
            assert first["relation"]["prompt"] == own.at["e1", "prompt"]
            if dataset in CONFLICT:
                assert row["edits"][1]["new_object"]["id"] == own.at["e2", "target_new_id"]
                if dataset == "composite":
                    assert row["edits"][1]["true_object"] == row["edits"][0]["new_object"]
            else:
                assert [o["id"] for o in row["true_objects"]] == list(own.loc[["multi"], "target_new_id"])


@needs_released
@pytest.mark.parametrize("dataset", some(DATASETS, ["composite"]))
def test_an_export_has_the_keys_of_the_published_files_in_their_order(tmp_path, dataset):
    ours = read_cases(exported(tmp_path / "export"), dataset)
    theirs = released_cases(dataset)
    assert set(ours.rows["layout"]) <= set(theirs.rows["layout"])
    assert list(ours.statements.columns) == list(theirs.statements.columns)
    assert (ours.style, ours.rows["prerequisites"][0]) == (theirs.style, theirs.rows["prerequisites"][0])


@needs_released
@pytest.mark.parametrize("dataset", some(DATASETS, ["composite"]))
def test_published_rows_survive_our_own_tables(dataset):
    published = released_cases(dataset)
    entities, statements = published.entities, published.statements
    labels = dict(zip(entities["entity_id"], entities["label"], strict=True))
    index = FactIndex(frozenset(as_facts(published.truths)), labels)
    about = statements.drop_duplicates("relation_id")
    relations = about[["relation_id", "relation", "prompt", "query"]].rename(columns={"relation": "label"})
    context = Context(index, dict(zip(about["relation_id"], about["prompt"], strict=True)))
    tables = tabulate(dataset, cases_of(dataset, published), context)
    back = publish(dataset, tables.cases, tables.edits, tables.probes, relations)
    text = (RELEASED / FILES[dataset]).read_text(encoding="utf-8")
    if dataset != "composite":
        assert write_cases(back) == text
        return
    differ = [a != b for a, b in zip(json.loads(write_cases(back)), json.loads(text), strict=True)]
    assert sum(differ) == 7  # an entity that has two labels: our tables know one
    assert all("Q7810" in json.dumps(row) for row, d in zip(json.loads(text), differ, strict=True) if d)


def test_an_export_says_what_it_is(tmp_path):
    sizes = export(tmp_path, built(), "dev", SHEET, prompts())
    page = notice(sizes, "dev", "wikidata", "some-model", "many about real people")
    assert "deliberately false statements, many about real people" in page
    assert "# Cases built for some-model from wikidata: dev" in page
    assert "`coverage_edit.json`: 4 rows" in page
    assert "people who do not exist" in notice(sizes, "dev", "world", "some-model", find_graph("world").about)


# --- what cannot be read ------------------------------------------------------------------------------------
def change(row: dict, path: str, value: Any) -> dict:
    """Set or, with None, delete what `path` leads to."""
    *steps, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    inner = reduce(getitem, steps, row)
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return row


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("edits.1.new_object.label", 5, r"edits\[1\]\.new_object\.label is 5, a string was expected"),
        ("edits.0.subject.id", None, r"edits\[0\]\.subject\.id is missing"),
        ("edits.0.new_object", None, r"edits\[0\]\.new_object\.id is missing"),
        ("edits.1.true_object", {"id": "Z2"}, r"edits\[1\]\.true_object\.label is missing"),
        ("edits.1", None, "edits has not 2 entries"),
        ("triples", None, "triples is missing"),
        ("triples", {}, r"triples is \{\}, a list was expected"),
        ("triples.2.relation.prompt", None, r"triples\[2\]\.relation\.prompt is missing"),
        ("triples.0.object", "Y", r'triples\[0\]\.object is "Y", an object was expected'),
        ("prerequisites.0", "0", r'prerequisites\[0\] is "0", a number was expected'),
        ("prerequisites.0", True, r"prerequisites\[0\] is true, a number was expected"),
        ("rule", None, "rule is missing"),
        ("edits.0.object.label", "\ud800", r"edits\[0\]\.object\.label is .*, a string was expected"),
    ],
)
def test_a_broken_row_is_named_with_its_field(tmp_path, path, value, message):
    write(tmp_path / "composite_edit.json", [composite(True), change(composite(False), path, value)])
    with pytest.raises(ValueError, match=rf"composite_edit\.json: row 1 is not a composite case: {message}"):
        read_cases(tmp_path, "composite")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"type": "1-2@P9", "edi', r"hard\.json cannot be read as JSON \(Unterminated string"),
        ("", r"hard\.json cannot be read as JSON"),
        ("[" * 200_000, r"hard\.json cannot be read as JSON"),
        ('{"type": 1}', r"hard\.json is not a list of rows"),
        ("[3]", r"row 0 is not a round_hard case: the row is 3, an object was expected"),
        ('[{"type": "x"}]', r"row 0 is not a round_hard case: edit is missing"),
        (json.dumps([several() | {"true_objects": []}]), "true_objects is missing or empty"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, message):
    (tmp_path / "hard.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_cases(tmp_path, "round_hard")


def test_other_bytes_are_no_json(tmp_path):
    (tmp_path / "hard.json").write_bytes(b'["\xff"]')
    with pytest.raises(ValueError, match=r"hard\.json cannot be read as JSON"):
        read_cases(tmp_path, "round_hard")
    missing = r"easy\.json does not exist; the folder must hold coverage_edit\.json,"
    with pytest.raises(ValueError, match=missing):
        read_cases(tmp_path, "round_easy")


@pytest.mark.parametrize("data", [[], {"P1": "{} is"}, {"P1": []}, {"P1": [3]}])
def test_broken_prompt_files_are_named(tmp_path, data):
    write(tmp_path / "round_prompts.json", data)
    with pytest.raises(ValueError, match=r"round_prompts\.json(: P1)? is not"):
        read_prompts(tmp_path, "round")
