"""GPUs of a workstation: each job has its own, and a machine without any computes on the processor."""

import os
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

from aftershock.jobs.gpus import list_gpus, take_gpus

DEADLINE = 60
HOLD = "from aftershock.jobs.gpus import take_gpus; print(*take_gpus(1), flush=True); input()"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with two GPUs, as far as nvidia-smi says."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


def test_gpus_are_those_that_the_process_may_use(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-5")
    assert list_gpus() == ["1", "GPU-5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert list_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    machine.write_text("#!/bin/sh\necho no driver >&2\nexit 9\n")
    assert list_gpus() == []
    assert take_gpus(1) == []


def test_jobs_at_once_have_different_gpus_and_a_third_waits(
    machine: Path, python: Callable[..., Popen]
) -> None:
    first, second = python(HOLD), python(HOLD)
    taken = [job.stdout.readline().strip() for job in (first, second)]
    assert sorted(taken) == ["0", "1"]
    third = python(HOLD)
    second.kill()  # as the out-of-memory killer does
    assert third.stdout.readline().strip() == taken[1]
    for job in (first, second, third):
        job.kill()
        job.communicate(timeout=DEADLINE)


def test_a_job_that_wants_more_than_there_are_is_told(machine: Path) -> None:
    with pytest.raises(ValueError, match="asks for 3 GPUs, but there are 2"):
        take_gpus(3)


def test_a_slurm_job_keeps_what_it_was_given(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert take_gpus(1) == []
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
