"""Stages in SLURM jobs belong to the scheduler; those that a run starts itself belong to the run."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from aftershock.process import RUN, name_run, share_out
from small_workflow import DEADLINE, gone

STAGE = """
import os, signal
from aftershock.process import watch_parent
watch_parent()
print(os.getpid(), flush=True)
signal.pause()
"""
RUN_OF_JOB = """
import os, subprocess, sys
from aftershock.process import name_run
job, removed = {job!r}, {removed!r}
name_run()
if job:
    os.environ["SLURM_JOB_ID"] = job
if removed:
    del os.environ["SLURM_JOB_ID"]
subprocess.run(["sh", "-c", '"$0" -c "$1"; true', sys.executable, {first!r}])
"""
NAMED = """
import os, subprocess, sys
from aftershock.process import name_run
name_run()
subprocess.run(["sh", "-c", '"$0" -c "$1"; true', sys.executable, {stage!r}])
"""


@contextmanager
def started(
    python: Callable[..., Popen], first: str, job: str = "", removed: bool = False
) -> Iterator[tuple]:
    """A run and the stage below it, which may be in a SLURM job of its own."""
    run = python(RUN_OF_JOB.format(job=job, removed=removed, first=first))
    stage = psutil.Process(int(run.stdout.readline()))
    try:
        yield run, stage
    finally:
        run.kill()
        if stage.is_running():
            stage.kill()
        run.communicate(timeout=DEADLINE)


@pytest.mark.parametrize("inside", ["", "41"])
def test_a_stage_in_a_slurm_job_outlives_the_run_that_submitted_it(
    python: Callable[..., Popen], monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    if inside:  # the run is itself in a job
        monkeypatch.setenv("SLURM_JOB_ID", inside)
    with started(python, STAGE, job="42") as (run, stage):
        between = stage.parent()
        run.kill()
        assert not gone([stage], within=1)
        between.kill()
        assert gone([stage], within=1)


def test_the_first_snakemake_of_a_slurm_job_is_the_run_of_its_stages(python: Callable[..., Popen]) -> None:
    with started(python, NAMED.format(stage=STAGE), job="42") as (run, stage):
        first = stage.parent().parent()
        run.kill()
        assert not gone([stage], within=1)
        first.kill()
        assert gone([stage], within=1)


def test_a_run_inside_a_slurm_job_takes_its_own_stages_along(
    python: Callable[..., Popen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    for removed in (True, False):  # the executor plugin removes it for what it starts
        with started(python, STAGE, removed=removed) as (run, stage):
            run.kill()
            assert gone([stage], within=1)


def test_a_run_is_named_with_its_slurm_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN, "")
    monkeypatch.delenv(RUN)
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    name_run()
    assert os.environ[RUN].split(" ")[1::2] == [str(os.getpid()), "41"]
    before = os.environ[RUN]
    name_run()
    assert os.environ[RUN] == before
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: 5.0)
    name_run()
    assert os.environ[RUN].endswith(" 5.00 42")


def test_each_share_of_some_work_is_done_once_by_a_process_of_its_own(tmp_path: Path) -> None:
    def work(share: int) -> None:
        (tmp_path / f"{share}-{os.getpid()}").touch()

    share_out(work, 3)
    done = dict(path.name.split("-") for path in tmp_path.iterdir())
    assert set(done) == {"0", "1", "2"}
    assert done["0"] == str(os.getpid())
    assert len(set(done.values())) == 3


def test_a_share_that_ends_with_an_error_is_told(capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(RuntimeError, match="shared the work"):
        share_out(lambda share: {}[share] if share else None, 2)
    assert "KeyError: 1" in capfd.readouterr().err


SHARED = """
import os, signal
from aftershock.process import share_out
def work(share):
    os.write(1, f"{share}\\n".encode())
    signal.pause()
share_out(work, 2)
"""


def test_shared_work_ends_with_the_process_that_shares_it(python: Callable[..., Popen]) -> None:
    main = python(SHARED)
    assert {main.stdout.readline(), main.stdout.readline()} == {"0\n", "1\n"}
    (fork,) = psutil.Process(main.pid).children()
    main.kill()
    assert gone([fork], within=DEADLINE)


def test_an_error_in_the_first_share_ends_the_others() -> None:
    def work(share: int) -> None:
        if not share:
            raise KeyError(share)
        signal.pause()

    before = psutil.Process().children()
    with pytest.raises(KeyError):
        share_out(work, 2)
    assert psutil.Process().children() == before
