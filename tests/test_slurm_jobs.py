"""SLURM's account of the jobs of a folder, as its programs print it."""

from pathlib import Path

import pytest

from aftershock.jobs import slurm
from aftershock.jobs.slurm import SlurmJob, known_jobs


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
