"""SLURM jobs that outlive their run: found by name, refused by a plain run, settled by a resumed one."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from aftershock.jobs import orphans, slurm
from aftershock.jobs.folder import PreflightError
from aftershock.jobs.orphans import find_orphans, job_prefix
from aftershock.jobs.run import Run, RunRecord, read_run
from aftershock.jobs.slurm import SlurmError
from fake_slurm import FakeSlurm

PREFIX = "demo-0123abcd"
KILLED = Run(["--profile", "p"], "login1", 7, 1_795_255_200.0, PREFIX)


def queue(*states: str) -> str:
    """Return squeue's output for so many jobs of this folder, and some of others."""
    lines = [f"{i}|{PREFIX}_uuid|{state}" for i, state in enumerate(states)]
    others = [f"99|{name}|RUNNING" for name in ("other_uuid", PREFIX, f"{PREFIX}2_uuid", f"x_{PREFIX}_uuid")]
    return "".join(f"{line}\n" for line in [*lines, *others])


@pytest.mark.parametrize("name", ["results of Ada", "Größe", "名前", "-x", "a" * 200, "study.v2"])
def test_prefixes_fit_the_plugin_and_tell_folders_apart(tmp_path: Path, name: str) -> None:
    one, other = tmp_path / "1" / name / "results", tmp_path / "2" / name / "results"
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{1,49}", job_prefix(one))
    assert job_prefix(one) != job_prefix(other)


def test_prefixes_are_readable_and_those_of_a_link_its_folders(tmp_path: Path) -> None:
    assert job_prefix(tmp_path / "pitfalls on GPT" / "results").startswith("pitfalls-on-GPT-")
    assert job_prefix(tmp_path / "scratch" / "big_1").startswith("big-1-")
    (tmp_path / "study").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "study")
    assert job_prefix(tmp_path / "results") == job_prefix(tmp_path / "study")


def test_secrets_are_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = RunRecord(["--storage-s3-secret-key", "hunter2", "--cores", "1"])
    record.end(0)
    assert "hunter2" not in record.path.read_text()
    assert read_run().arguments is None


def test_orphans_are_refused_with_their_number(fake: FakeSlurm) -> None:
    fake.says("squeue", queue("RUNNING", "PENDING", "COMPLETING"))
    found = find_orphans(PREFIX, required=True)
    with pytest.raises(PreflightError) as caught:
        orphans.refuse_orphans(found)
    assert "--me" in fake.asked("squeue")[0]
    assert str(caught.value).startswith(
        "3 jobs of an earlier run of this folder are still in SLURM (2 running, 1 pending: 0 1 2). "
    )
    assert "aftershock resume" in str(caught.value)
    orphans.refuse_orphans({})


def test_where_slurm_is_silent_only_those_are_stopped_whom_it_concerns(
    fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.says("squeue", error="down", code=1)
    monkeypatch.setattr(orphans, "read_run", lambda: None)
    assert find_orphans(PREFIX, required=False) == {}
    for last, required in ((None, True), (KILLED, False)):
        monkeypatch.setattr(orphans, "read_run", lambda last=last: last)
        with pytest.raises((SlurmError, PreflightError), match="squeue failed: down"):
            find_orphans(PREFIX, required)


def test_a_machine_without_slurm_cannot_go_on_after_a_killed_run(
    fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(orphans, "read_run", lambda: None)
    assert find_orphans(PREFIX, required=False) == {}
    monkeypatch.setattr(orphans, "read_run", lambda: replace(KILLED, exit=1))
    assert find_orphans(PREFIX, required=False) == {}
    monkeypatch.setattr(orphans, "read_run", lambda: KILLED)
    with pytest.raises(PreflightError, match="on login1, was killed.*squeue, a program of SLURM, cannot"):
        find_orphans(PREFIX, required=False)


@pytest.mark.parametrize(("cancel", "cancelled"), [(False, ["--state=PENDING 1"]), (True, ["0 1", "0", "0"])])
def test_pending_jobs_are_cancelled_and_running_ones_waited_for(
    fake: FakeSlurm,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    cancel: bool,
    cancelled: list[str],
) -> None:
    monkeypatch.setattr(orphans, "PAUSE_SECONDS", 0.01)
    answers = iter([{"0": "RUNNING"}, {"0": "COMPLETING"}, {}])
    monkeypatch.setattr(slurm, "queued", lambda prefix: next(answers))
    jobs = {"0": "RUNNING", "1": "PENDING"}
    orphans.settle_orphans(PREFIX, jobs, cancel)
    assert fake.asked("scancel") == [f"--quiet {given}" for given in cancelled]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "Cancelling 1 job of the last run that had not started."
    assert said[1].startswith(
        "Cancelling 1 job of the last run: 0." if cancel else "Waiting for 1 job of the"
    )
    assert len(said) == 2


def test_a_silent_controller_is_asked_again(
    fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(orphans, "PAUSE_SECONDS", 0.01)
    said = iter(["down", "down", None])

    def queued(prefix: str) -> dict[str, str]:
        if reason := next(said):
            raise SlurmError(reason)
        return {}

    monkeypatch.setattr(slurm, "queued", queued)
    orphans.settle_orphans(PREFIX, {"0": "RUNNING"}, cancel=False)
    assert capsys.readouterr().err.count("down. Trying again\n") == 2
