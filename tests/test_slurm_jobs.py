"""SLURM's account of the jobs of a folder, as its programs print it."""

from pathlib import Path

import pytest

from aftershock.jobs import slurm
from aftershock.jobs.slurm import SlurmJob, known_jobs, parse_ended


def test_squeue_as_it_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Recorded from SLURM 22.05, with folders of the test."""
    answer = (
        f"15|FAILED|NonZeroExitCode|cpu=1,mem=3000M,node=1,billing=1|node1|{tmp_path}|rule_oom_wildcards_0-3|\n"
        f"16|RUNNING|None|cpu=1,mem=1000M,node=1,billing=1,gres/gpu=2|node1|{tmp_path}|rule_edit_wildcards_a|\n"
        f"17|PENDING|BeginTime|cpu=1,mem=1000M||{tmp_path}|rule_edit_wildcards_b|\n"
        "18|RUNNING|None|cpu=1|node1|/elsewhere|rule_edit_wildcards_c|\nslurm_load_jobs error: odd\n"
    )
    monkeypatch.setattr(slurm, "ask", lambda *words, **options: answer)
    jobs = known_jobs(tmp_path)
    assert jobs["16"] == SlurmJob("16", "RUNNING", "None", 2, "node1", "edit")
    assert sorted(jobs) == ["15", "16", "17"]
    assert [jobs[n].running for n in ("15", "16", "17")] == [False, True, False]
    assert jobs["17"].waiting


def test_no_slurm_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def silent(*words: str, **options: float) -> str:
        raise slurm.SlurmError("SLURM does not answer")

    monkeypatch.setattr(slurm, "ask", silent)
    assert known_jobs(tmp_path) is None
    assert slurm.ended_jobs(["1"]) == {}


def test_accounting_knows_steps_and_their_memory() -> None:
    """Recorded from SLURM 22.05, the last line apart."""
    jobs = parse_ended(
        "5|FAILED||None assigned\n8|CANCELLED by 0||node1\n8.batch|CANCELLED|177172K|node1\n"
        "8.0|FAILED|194192K|node1\n11|FAILED||node1\n11.batch|FAILED|176984K|node1\n"
        "11.0|CANCELLED by 0|1053952K|node1\nodd\n"
    )
    assert {number: job.state for number, job in jobs.items()} == {
        "5": "FAILED",
        "8": "CANCELLED",
        "11": "FAILED",
    }
    assert (jobs["5"].peak_bytes, jobs["11"].peak_bytes) == (None, 1053952 * 1024)
    assert parse_ended("7|OUT_OF_MEMORY|3.5G|node1")["7"].peak_bytes == int(3.5 * 2**30)
