"""The command that validates a folder: what it prints, and how it ends."""

import subprocess
from pathlib import Path

import pytest

import started
from aftershock.datasets.released import FILES
from aftershock.datasets.validate import findings, print_findings, read_folder
from published import exported, read, write

ROOT = Path(__file__).parents[1]
EASY, CONFLICT_PROMPTS = "easy.json", "conflict_prompts.json"


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
        ({}, r"holds no published file: it is empty; known names: coverage_edit\.json,"),
        (
            {"rows.json": "[]"},
            r"holds no published file: it holds rows\.json; known names: coverage_edit\.json,",
        ),
        ({EASY: '[{"type": "1-2'}, r"easy\.json cannot be read as JSON \(Unterminated string"),
        (
            {EASY: "[[]]"},
            r"easy\.json: row 0 is not a round_easy case: the row is \[\], an object was expected",
        ),
        (
            {CONFLICT_PROMPTS: "[]"},
            r"conflict_prompts\.json is not an object of lists of templates by relation",
        ),
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
