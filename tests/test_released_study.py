"""Folders in the published format: validated by the command, and as a study of which a model is asked."""

import subprocess
from pathlib import Path

import pytest

import started
from aftershock.datasets.graph_facts import Context, FactIndex
from aftershock.datasets.released import FILES, read_cases
from aftershock.datasets.released_study import Folder, build_released
from aftershock.datasets.statements import cases_of
from aftershock.datasets.table import CONFLICT, DATASETS
from aftershock.datasets.validate import findings, print_findings, read_folder
from aftershock.report import Material, page
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.report import RECALL_SUMMARY, SUMMARY
from families import SHEET
from published import RELEASED, composite, exported, needs_released, read, several, write
from simulate import run_of
from tiers import some


def test_a_published_prompt_without_a_slot_is_named(tmp_path):
    row = several()
    row["edit"]["relation"]["prompt"] = "studied at"
    write(tmp_path / "easy.json", [row])
    write(tmp_path / "round_prompts.json", {"P9": ["{} went to"]})
    folder = Folder.read(str(tmp_path), ["round_easy"], 1, 0)
    with pytest.raises(
        ValueError, match=r"relation P9 in round_prompts.json or in a row: template 'studied at'"
    ):
        folder.prompts(str(tmp_path), "round")


def test_a_study_needs_labels(tmp_path):
    row = several()
    row["true_objects"][0]["label"] = " "
    write(tmp_path / "easy.json", [several(), row])
    with pytest.raises(ValueError, match=r"easy\.json: row 1: O2 has an empty label"):
        Folder.read(str(tmp_path), ["round_easy"], 1, 0)


def test_rows_become_the_cases_they_describe(tmp_path):
    write(tmp_path / "composite_edit.json", [composite(True), composite(False)])
    one, other = cases_of("composite", read_cases(tmp_path, "composite"))
    assert one == other
    assert (one.first.subject_id, one.first.old_id, one.first.new_id) == ("Y", "Z", "Z2")
    assert (one.second.subject_id, one.second.old_id, one.second.new_id) == ("X", "Z", "Z3")
    assert one.tied == ("X", "P1", "Y")
    assert one.implicit == ("Y", "P2", "Z3")
    write(tmp_path / "easy.json", [several()])
    (case,) = cases_of("round_easy", read_cases(tmp_path, "round_easy"))
    assert (case.original_id, case.target_id, case.object_ids) == ("O1", "N", ("O2", "O1", "O3"))


@needs_released
@pytest.mark.parametrize("dataset", some(DATASETS, ["composite", "round_easy"]))
def test_published_rows_become_cases(dataset):
    folder = Folder.read(str(RELEASED), [dataset], 20, 0)
    facts, asked = folder.fact_table(), folder.asked()
    verified = asked.assign(continuation="", known=True, probability=1.0)
    objects = folder.asked_objects().assign(probability=0.1, rank=1, known=True, similarity=0.0)
    kind = "conflict" if dataset in CONFLICT else "round"
    texts, measured = folder.prompts(str(RELEASED), kind), folder.relations()
    index = FactIndex.from_frames(facts, verified)
    context = Context.from_frames(index, texts, measured, SHEET.assign(functional="no"), 0.9, 0)
    tables = build_released(dataset, folder, objects, context)
    assert len(CASES.check(tables.cases)) == 20
    assert EDITS.check(tables.edits).num_rows >= 40
    assert PROBES.check(tables.probes).num_rows >= 60


def test_the_report_shows_what_is_odd_in_the_files(tmp_path):
    row = several()
    row["edit"]["new_object"]["label"] = "80/81"
    write(tmp_path / "easy.json", [several(), row])
    oddities = findings({"round_easy": read_cases(tmp_path, "round_easy")}, {})
    html = page(
        Material("Odd", SUMMARY.empty(), RECALL_SUMMARY.empty(), [run_of("coverage")], oddities=oddities)
    )
    table = html[html.index('"id":"oddities"') :]
    assert table.index('"words":["easy.json"]') < table.index('"label without a letter"]')


ROOT = Path(__file__).parents[1]
EASY = "easy.json"
KNOWN = r"known names: coverage_edit\.json,"


def test_findings_are_no_failure(tmp_path, capsys):
    rows = read(exported(tmp_path) / EASY)
    rows[2]["edit"]["new_object"].update(id="only-here", label="7")
    write(tmp_path / EASY, rows)
    (tmp_path / "NOTICE.md").write_text("Edits are false statements.")
    print_findings(tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["file", "concern", "finding", "entities", "rows", "first_rows", "examples"]
    assert " ".join(said[1].split()) == "easy.json quality label without a letter 1 1 2 '7'"
    assert said[-1].startswith("1 findings. Rows read: coverage_edit.json 8, reverse_edit.json 8,")


def test_some_files_are_enough_and_strange_ones_are_named(tmp_path, capsys):
    given = exported(tmp_path / "given")
    tmp_path = tmp_path / "some"
    tmp_path.mkdir()
    write(tmp_path / EASY, read(given / EASY))
    write(tmp_path / "medium.json", [])
    print_findings(tmp_path)
    said = capsys.readouterr().out
    assert "medium.json  structure  unknown name; known: coverage_edit.json, reverse_edit.json" in said
    assert said.endswith("Rows read: easy.json 8.\n")


def test_files_without_rows_have_no_findings(tmp_path):
    for name in FILES.values():
        write(tmp_path / name, [])
    assert findings(*read_folder(tmp_path)).empty


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, f"holds no published file: it is empty; {KNOWN}"),
        ({"rows.json": "[]"}, rf"holds no published file: it holds rows\.json; {KNOWN}"),
        ({EASY: "[[]]"}, r"easy\.json: row 0 is not a round_easy case: the row is \[\], an object was"),
        ({"conflict_prompts.json": "[]"}, "is not an object of lists of templates by relation"),
    ],
)
def test_what_cannot_be_read_is_one_message(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        print_findings(tmp_path)


def test_the_command_exits_as_it_should(tmp_path):
    def validated() -> subprocess.CompletedProcess:
        environment = {"PYTHONPATH": str(ROOT / "workflow"), "PATH": ""}
        return started.module("aftershock", tmp_path, "validate", str(tmp_path), **environment)

    run = validated()
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1)
    exported(tmp_path)
    run = validated()
    assert (run.returncode, run.stderr) == (0, "")
