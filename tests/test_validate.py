"""The validator: silent on a clean build, it finds every planted fault and counts the published files'."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from aftershock.datasets.released import ALL_FILES
from aftershock.datasets.validate import findings, read_folder, render
from published import RELEASED, exported, needs_released, read, write
from tiers import repeated


def found_in(folder: Path) -> pd.DataFrame:
    return findings(*read_folder(folder))


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> dict:
    """The files of a clean build."""
    folder = exported(tmp_path_factory.mktemp("export"))
    return {name: read(folder / name) for name in ALL_FILES}


@pytest.mark.parametrize("seed", [0, repeated(1)])
def test_a_clean_build_has_no_finding(tmp_path, seed):
    table = found_in(exported(tmp_path / "export", seed=seed))
    assert table.empty, render(table)


# --- planted faults -----------------------------------------------------------------------------------------
def first(row: dict) -> dict:
    return row["edits"][0]


def second(row: dict) -> dict:
    return row["edits"][1]


def swap_new(row: dict, edit: int, entity: dict) -> None:
    row["edits"][edit]["new_object"] = dict(entity)


def relabel(row: dict, label: str) -> None:
    """Another label of the second target, which no other row of the file has."""
    part = row["edits"][1]["new_object"] if "edits" in row else row["edit"]["new_object"]
    part.update(id="only-here", label=label)


def elsewhere(part: dict, key: str = "object") -> None:
    part[key] = {"id": "N1", "label": "Nobody else"}


COVERAGE, REVERSE, COMPOSITE = "coverage_edit.json", "reverse_edit.json", "composite_edit.json"
EASY, CONFLICT_PROMPTS = "easy.json", "conflict_prompts.json"
TWO_NAMES = [{"id": "W99", "label": "One name"}, {"id": "W99", "label": "Another"}]
ONE_NAME = [{"id": "W98", "label": "One name"}, {"id": "W99", "label": "One name"}]
Change = Callable[[dict], object]
STRUCTURE: list[tuple[str, str, Change]] = [
    (COVERAGE, "triple is not what the first edit changes", lambda r: elsewhere(r["triples"][0])),
    (COVERAGE, "second edit has another subject or relation", lambda r: elsewhere(second(r), "subject")),
    (COVERAGE, "second edit does not start from the first one's target", lambda r: elsewhere(second(r))),
    (COVERAGE, "second edit restores the original object", lambda r: swap_new(r, 1, first(r)["object"])),
    (COVERAGE, "type is not coverage", lambda r: r.update(type="reverse")),
    (COVERAGE, "type is not coverage", lambda r: r.pop("type")),
    (COVERAGE, "prerequisites are not []", lambda r: r.update(prerequisites=[0])),
    (REVERSE, "first triple is not what the first edit changes", lambda r: elsewhere(r["triples"][0])),
    (REVERSE, "second triple is not the first one reversed", lambda r: elsewhere(r["triples"][1])),
    (
        REVERSE,
        "second edit has not the second triple's relation",
        lambda r: second(r)["relation"].update(id="R2"),
    ),
    (
        REVERSE,
        "second edit's subject is not the first one's target",
        lambda r: elsewhere(second(r), "subject"),
    ),
    (REVERSE, "second edit's old object is not the first one's subject", lambda r: elsewhere(second(r))),
    (
        REVERSE,
        "second target is the first edit's subject or target",
        lambda r: swap_new(r, 1, first(r)["subject"]),
    ),
    (REVERSE, "rule does not name the triples' relations", lambda r: r.update(rule="R1>R3")),
    (COMPOSITE, "rule does not name the triples' relations", lambda r: r.update(rule="R2&R3>R1")),
    (COMPOSITE, "triples are not (x, r, y), (y, r1, z), (x, r2, z)", lambda r: elsewhere(r["triples"][2])),
    (COMPOSITE, "tied fact is not (second subject, r, first subject)", lambda r: elsewhere(r["triples"][0])),
    (COMPOSITE, "second triple is not what the first edit changes", lambda r: elsewhere(r["triples"][1])),
    (COMPOSITE, "third triple is not what the second edit changes", lambda r: elsewhere(r["triples"][2])),
    (COMPOSITE, "edits start from different objects", lambda r: elsewhere(second(r))),
    (
        COMPOSITE,
        "second target is the first edit's old or new object",
        lambda r: swap_new(r, 1, first(r)["new_object"]),
    ),
    (
        COMPOSITE,
        "second edit's true_object is not the first one's target",
        lambda r: elsewhere(second(r), "true_object"),
    ),
    (COMPOSITE, "prerequisites are not [0]", lambda r: r.update(prerequisites=[])),
    (EASY, "type is not 1-N@relation", lambda r: r.update(type="1-11@R4")),
    (
        EASY,
        "type is not 1-N@relation",
        lambda r: r["true_objects"].append({"id": "W99", "label": "One more"}),
    ),
    (EASY, "original is not among the true objects", lambda r: elsewhere(r["edit"])),
    (
        EASY,
        "target is among the true objects",
        lambda r: r["edit"].update(
            new_object=dict(next(o for o in r["true_objects"] if o != r["edit"]["object"]))
        ),
    ),
    (
        EASY,
        "fewer than 2 or more than 10 true objects",
        lambda r: r.update(true_objects=[r["edit"]["object"]]),
    ),
    (EASY, "entity with several labels", lambda r: r["true_objects"].extend(TWO_NAMES)),
]
QUALITY: list[tuple[str, str, Change]] = [
    (COMPOSITE, "no-op first edit", lambda r: swap_new(r, 0, first(r)["object"])),
    (COVERAGE, "no-op second edit", lambda r: swap_new(r, 1, second(r)["object"])),
    (COMPOSITE, "new object is the subject", lambda r: swap_new(r, 1, second(r)["subject"])),
    (EASY, "new object is the subject", lambda r: r["edit"].update(new_object=r["edit"]["subject"])),
    (COVERAGE, "first edit's target is a true object", lambda r: swap_new(r, 0, first(r)["object"])),
    (COVERAGE, "second edit's target is a true object", lambda r: swap_new(r, 1, r["triples"][0]["object"])),
    (
        EASY,
        "duplicate labels among the true objects",
        lambda r: r["true_objects"].append({"id": "W99", "label": r["true_objects"][0]["label"].upper()}),
    ),
    (EASY, "subject is its own object", lambda r: r["true_objects"].append(r["edit"]["subject"])),
    (REVERSE, "label is an id", lambda r: relabel(r, "Q12")),
    (REVERSE, "label without a letter", lambda r: relabel(r, "80/81")),
    (REVERSE, "empty label", lambda r: relabel(r, " ")),
    (EASY, "label begins or ends with a space", lambda r: relabel(r, "Somebody ")),
    (EASY, "label holds braces", lambda r: relabel(r, "The {} Reply")),
    (EASY, "label is not in Unicode's composed form (NFC)", lambda r: relabel(r, "Cafe\u0301")),
]
REMARKS: list[tuple[str, str, Change]] = [
    (COVERAGE, "label of more than 60 characters", lambda r: relabel(r, "long " * 12 + "name")),
    (COVERAGE, "label beyond ASCII", lambda r: relabel(r, "Prüfer")),
    (COVERAGE, "label with letters that are not Latin", lambda r: relabel(r, "胶")),
    (EASY, "label of several entities", lambda r: r["true_objects"].extend(ONE_NAME)),
]
PLANTED = [
    (concern, *fault)
    for concern, faults in (("structure", STRUCTURE), ("quality", QUALITY), ("remark", REMARKS))
    for fault in faults
]


@pytest.mark.parametrize(
    ("concern", "name", "finding", "plant"), PLANTED, ids=[f"{p[1]}-{p[2]}" for p in PLANTED]
)
def test_a_planted_fault_is_found_in_its_row(tmp_path, clean, concern, name, finding, plant):
    write(tmp_path / name, clean[name])
    rows = read(tmp_path / name)
    plant(rows[3])
    write(tmp_path / name, rows)
    table = found_in(tmp_path).set_index("finding")
    found = table.loc[finding]
    assert (found["file"], found["concern"], found["rows"]) == (name, concern, 1)
    assert found["first_rows"] == "3"


def test_what_is_repeated_is_counted_without_its_first_row(tmp_path, clean):
    rows = clean[COMPOSITE]
    write(tmp_path / COMPOSITE, [*rows, rows[0], rows[0], rows[2]])
    table = found_in(tmp_path).set_index("finding")
    for finding in (
        "row repeats another",
        "subject and relation of the first edit repeated",
        "subjects and relations of both edits repeated",
    ):
        assert (table.at[finding, "rows"], table.at[finding, "first_rows"]) == (3, "8, 9, 10")
    assert table.at["subject and relation of the first edit repeated", "entities"] == 2


def test_keys_with_several_objects_are_remarked(tmp_path, clean):
    rows = read(exported(tmp_path / "export") / COVERAGE)
    rows[5]["triples"][0] |= {key: rows[0]["triples"][0][key] for key in ("subject", "relation")}
    (tmp_path / "one").mkdir()
    write(tmp_path / "one" / COVERAGE, rows)
    found = found_in(tmp_path / "one").set_index("finding").loc["subject and relation with several objects"]
    assert found[["concern", "entities", "rows", "first_rows"]].tolist() == ["remark", 1, 2, "0, 5"]


PROMPT_FAULTS: list[tuple[str, str, Change]] = [
    ("quality", "template repeated within its relation", lambda t: t.__setitem__(4, t[1].upper() + " ")),
    ("quality", "template begins or ends with a space", lambda t: t.__setitem__(4, "{} is the one, ")),
    ("structure", "template has not exactly one slot {}", lambda t: t.__setitem__(4, "Somebody is")),
    ("structure", "template has not exactly one slot {}", lambda t: t.__setitem__(4, "{} and {} are")),
    ("quality", "template is the edit prompt", lambda t: t.__setitem__(4, "The spouse of {} is")),
]


@pytest.mark.parametrize(("concern", "finding", "plant"), PROMPT_FAULTS)
def test_a_planted_fault_of_a_paraphrase_is_found(tmp_path, concern, finding, plant):
    folder = exported(tmp_path / "export")
    texts = read(folder / CONFLICT_PROMPTS)
    plant(texts["R1"])
    write(folder / CONFLICT_PROMPTS, texts)
    found = found_in(folder).set_index("finding").loc[finding]
    assert (found["file"], found["concern"]) == (CONFLICT_PROMPTS, concern)
    assert (found["entities"], found["rows"], found["first_rows"]) == (1, 1, "R1 5")


def test_prompts_are_held_against_the_cases(tmp_path):
    folder = exported(tmp_path / "export")
    texts = read(folder / CONFLICT_PROMPTS)
    del texts["R1"]
    texts["R3"].pop()
    write(folder / CONFLICT_PROMPTS, texts)
    rows = read(folder / COVERAGE)
    rows[0]["edits"][0]["relation"]["prompt"] = "Of {} the other is "
    rows[1]["edits"][0]["relation"]["prompt"] = "No slot"
    write(folder / COVERAGE, rows)
    table = found_in(folder).set_index("finding")
    table = table[table["file"] == CONFLICT_PROMPTS]
    assert table.at["relation of the cases has no paraphrases", "entities"] == 1
    assert table.at["relation has not 10 paraphrases", "rows"] == 9
    assert table.at["relation has several edit prompts", "entities"] == 1
    assert table.at["edit prompt has not exactly one slot {}", "examples"] == "'No slot'"
    assert table.at["edit prompt begins or ends with a space", "examples"] == "'Of {} the other is '"


# --- the published files ------------------------------------------------------------------------------------
PUBLISHED = {
    "no-op first edit": {COMPOSITE: 24, COVERAGE: 1},
    "new object is the subject": {COMPOSITE: 1},
    "first edit's target is a true object": {COMPOSITE: 25, COVERAGE: 1},
    "second edit's target is a true object": {COMPOSITE: 5},
    "label is an id": {COVERAGE: 88, REVERSE: 83, COMPOSITE: 1},
    "label without a letter": {COMPOSITE: 3, EASY: 4, "hard.json": 1},
    "subject and relation of the first edit repeated": {COVERAGE: 19, REVERSE: 19, COMPOSITE: 682},
    "subjects and relations of both edits repeated": {COVERAGE: 19, COMPOSITE: 336},
    "duplicate labels among the true objects": {EASY: 2, "hard.json": 6},
}


@pytest.mark.thorough
@needs_released
def test_findings_in_the_published_files():
    table = found_in(RELEASED)
    counted = {(row.file, row.finding): row for row in table.itertuples()}

    rows = table.groupby("finding")[["file", "rows"]].apply(lambda found: dict(found.to_numpy().tolist()))
    hard = "hard.json"
    assert {finding: rows[finding] for finding in PUBLISHED} == PUBLISHED
    ids = [counted[name, "label is an id"].entities for name in (COVERAGE, REVERSE, COMPOSITE)]
    assert ids == [70, 79, 1]
    shown = {name: counted[name, "label without a letter"].examples for name in (COMPOSITE, EASY, hard)}
    assert set(shown[COMPOSITE].split(", ")) == {"'1'", "'2'", "'3'"}
    assert set(shown[EASY].split(", ")) == {"'80/81'", "'7'", "'46'", "'$'"}
    assert shown[hard] == "'1800'"
    assert counted[CONFLICT_PROMPTS, "template repeated within its relation"].first_rows == "P27 10"
    spaced = counted[CONFLICT_PROMPTS, "template begins or ends with a space"]
    assert (spaced.entities, spaced.rows) == (6, 14)
    structure = table[table["concern"] == "structure"]
    assert structure[["file", "finding"]].to_numpy().tolist() == [[COMPOSITE, "entity with several labels"]]
