"""The record of a run, as real runs of Snakemake leave it."""

import logging
from pathlib import Path

import pytest

import started
from aftershock.jobs.run import FOLDER, RunRecord, newest_runs, read_jobs, read_run
from aftershock.jobs.why import look, told

ROOT = Path(__file__).parents[1]
SNAKEFILE = """
rule all:
    input: "results/good.txt", "results/bad.txt", "results/killed.txt", "results/absent.txt"
rule good:
    output: "results/good.txt"
    message: "Making something good"
    shell: "touch {output}"
rule bad:
    output: "results/bad.txt"
    log: "results/logs/bad.log"
    retries: 1
    shell: "exit 3"
rule killed:
    output: "results/killed.txt"
    log: "results/logs/killed.log"
    shell: "kill -9 $$"
rule absent:
    output: "results/absent.txt"
    shell: "true"
rule lost:
    input: "nothing.tsv"
    output: "results/lost.txt"
    shell: "true"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workflow of which most fails, as the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return tmp_path


def launch(folder: Path, *arguments: str) -> int:
    options = ("--cores", "1", "--keep-going", "--latency-wait", "0", *arguments)
    return started.module("aftershock.launch", folder, *options, PYTHONPATH=str(ROOT / "workflow")).returncode


def test_jobs_that_fail(folder: Path) -> None:
    assert launch(folder) == 1
    run = read_run()
    jobs = {job.rule: job for job in read_jobs([run])}
    assert run.exit == 1
    assert run.planned == {"good": 1, "bad": 1, "killed": 1, "absent": 1, "all": 1}
    assert run.done == {"good": 1}
    assert (run.active, run.error) == ([], "")
    assert {rule: job.attempts for rule, job in jobs.items()} == {"absent": 1, "bad": 2, "killed": 1}
    assert (len(run.failures), jobs["bad"].log) == (4, "results/logs/bad.log")
    assert "returned non-zero exit status 3" in jobs["bad"].message
    assert "died with <Signals.SIGKILL: 9>" in jobs["killed"].message
    assert {job.rule: cause.kind for job, cause in look()[1]} == {
        "absent": "missing output",
        "bad": "unknown",
        "killed": "killed",
    }


def test_a_run_without_its_input(folder: Path) -> None:
    assert launch(folder, "results/lost.txt") == 1
    (line,) = told(*look())
    assert "stopped before its first job: MissingInputException: " in line
    assert "nothing.tsv" in line


def test_a_workflow_that_cannot_be_read(folder: Path) -> None:
    (folder / "Snakefile").write_text(
        "from snakemake.exceptions import WorkflowError\nraise WorkflowError('1 error:\\n  odd: no key')\n"
    )
    assert launch(folder) == 1
    (line,) = told(*look())
    assert line.endswith("stopped before its first job: 1 error: odd: no key -> put right what it names")


def test_a_run_that_succeeds_and_one_with_nothing_to_do(folder: Path) -> None:
    assert launch(folder, "results/good.txt") == 0
    assert launch(folder, "results/good.txt") == 0
    second, first = newest_runs()
    assert (first.exit, first.done, first.last) == (0, {"good": 1}, "Making something good")
    assert (second.exit, second.planned) == (0, {})
    assert look() == ([], [])


def test_a_report_of_an_unknown_form_and_a_full_disk_end_no_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    record, logger = RunRecord([]), logging.getLogger("snakemake.logging")
    try:
        logger.error("odd", extra={"event": type("Event", (), {"value": "job_error"})})
        assert "KeyError" in capsys.readouterr().err
        monkeypatch.setattr(RunRecord, "_write", lambda *_, **__: (_ for _ in ()).throw(OSError("full")))
        logger.error("Terminating processes on user request")
    finally:
        logging.getLogger("snakemake").removeHandler(record)
    assert len(list(FOLDER.iterdir())) == 1
