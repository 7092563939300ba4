"""One run at a time in a folder; a killed one leaves nothing running, and the next takes up where it was."""

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from aftershock.jobs.run import read_run
from aftershock.launch import clear_up
from aftershock.output import write_text
from small_workflow import DEADLINE, LAUNCH, gone, kill_in_last, launch, start

STAGE = """
import os, signal
from aftershock.process import watch_parent
watch_parent()
print(os.getpid(), flush=True)
signal.pause()
"""
RUN = f"""
import subprocess, sys
from aftershock.process import name_run
name_run()
subprocess.run(["sh", "-c", '"$0" -c "$1"; true', sys.executable, {STAGE!r}])
"""


@pytest.mark.parametrize("victim", ["run", "between"])
def test_a_stage_ends_with_its_run_and_with_what_lies_between(
    victim: str, python: Callable[..., Popen]
) -> None:
    run = python(RUN)
    stage_process = psutil.Process(int(run.stdout.readline()))
    between = stage_process.parent()
    assert between.name() != "python"
    assert between.parent().pid == run.pid
    (run if victim == "run" else between).kill()
    assert gone([stage_process], within=1)
    run.kill()
    run.communicate(timeout=DEADLINE)


def test_a_stage_of_a_dead_run_does_not_start(python: Callable[..., Popen]) -> None:
    run = python(
        "from aftershock.process import name_run, RUN; import os; name_run(); print(os.environ[RUN])"
    )
    name = run.communicate(timeout=DEADLINE)[0].strip()
    code = (
        "import os; os.environ['AFTERSHOCK_RUN'] = input(); import aftershock.process as p; p.watch_parent()"
    )
    _, err = python(code).communicate(name, timeout=DEADLINE)
    assert "RunGoneError: the run that started this stage" in err


def test_an_output_of_a_dead_run_does_not_appear(tmp_path: Path, python: Callable[..., Popen]) -> None:
    code = """
        import psutil, subprocess
        from aftershock import process
        from aftershock.output import write_text
        other = subprocess.Popen(["sleep", "60"])
        process._watched.append(psutil.Process(other.pid))
        other.kill()
        other.wait()
        write_text("a.txt", "late")
    """
    _, err = python(code, cwd=tmp_path).communicate(timeout=DEADLINE)
    assert "RunGoneError" in err
    assert not list(tmp_path.iterdir())


def test_half_written_outputs_are_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_text("results/a/.b.parquet.12.part", "half")
    write_text("results/a/.weights.12.part/model", "half")
    write_text("results/a/c.parquet", "whole")
    clear_up([])
    assert [p.name for p in Path("results/a").iterdir()] == ["c.parquet"]


@pytest.mark.plain_path
def test_a_run_without_the_launcher_is_left_alone(tmp_path: Path) -> None:
    plain = start(tmp_path, sys.executable, "-m", "snakemake", "--cores", "1", STOP_IN="last")
    assert "written\n" in iter(plain.stdout.readline, "")
    refused = launch(tmp_path)
    assert f"a Snakemake run is working in this folder (process {plain.pid}" in refused.stderr
    assert refused.returncode == 1
    plain.kill()
    plain.communicate(timeout=DEADLINE)


@pytest.mark.thorough
@pytest.mark.program("make")
def test_nothing_outlives_make(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(f"demo:\n\t@{' '.join(LAUNCH)}\n")
    kill_in_last(start(tmp_path, "make", STOP_IN="last"))


@pytest.mark.plain_path
def test_resuming_takes_the_last_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no run was started in this folder yet" in launch(tmp_path, "--resume").stderr
    kill_in_last(start(tmp_path, *LAUNCH, "--config", "seed=5", STOP_IN="last"))
    monkeypatch.chdir(tmp_path)
    assert read_run().arguments == ["--cores", "1", "--config", "seed=5"]
    assert read_run().exit is None
    first = Path("results/first.txt").stat().st_mtime_ns
    assert not Path("results/last.txt").exists()
    resumed = launch(tmp_path, "--resume")
    assert "Clearing up after a run that was killed" in resumed.stdout + resumed.stderr
    assert (tmp_path / "results" / "last.txt").read_text() == f"last {random.Random(5).random()}"
    assert read_run().arguments == ["--cores", "1", "--config", "seed=5"]
    assert read_run().exit == 0
    assert Path("results/first.txt").stat().st_mtime_ns == first
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.plain_path
def test_a_run_that_lives_is_not_resumed(tmp_path: Path) -> None:
    first = start(tmp_path, *LAUNCH, STOP_IN="last")
    for _ in ("first", "last"):
        assert "written\n" in iter(first.stdout.readline, "")
    said = launch(tmp_path, "--resume").stderr
    assert said.startswith(f"another run is working in results/: process {first.pid}, started 2")
    dry = launch(tmp_path, "--dry-run")  # makes nothing, so it may look
    assert "This was a dry-run" in dry.stdout + dry.stderr
    assert dry.returncode == 0
    first.kill()
    first.communicate(timeout=DEADLINE)


def record_of(folder: Path, rule: str) -> Path:
    """Snakemake's record of a rule's output."""
    metadata = (folder / ".snakemake" / "metadata").iterdir()
    (file,) = [file for file in metadata if json.loads(file.read_text())["rule"] == rule]
    return file


def said_by(folder: Path, *arguments: str) -> str:
    ran = launch(folder, *arguments)
    return ran.stdout + ran.stderr


def content(seed: int) -> str:
    return f"last {random.Random(seed).random()}"


@pytest.mark.plain_path
def test_outputs_without_a_record_are_taken_over(tmp_path: Path) -> None:
    """As a SLURM job leaves them that ended after its run: whole, by its own record done."""
    said_by(tmp_path)
    record_of(tmp_path, "last").unlink()
    said = said_by(tmp_path)
    assert "Taken over from jobs that ended without their run: 1." in said
    assert "Nothing to be done" in said
    record_of(tmp_path, "last").unlink()
    said = said_by(tmp_path, "--config", "seed=5")
    assert "Made again, as what made them has changed or is not known: 1, such as results/last" in said
    assert (tmp_path / "results" / "last.txt").read_text() == content(5)


@pytest.mark.thorough
def test_outputs_without_a_record_are_taken_over_only_when_known(tmp_path: Path) -> None:
    last = tmp_path / "results" / "last.txt"
    said_by(tmp_path)
    record_of(tmp_path, "last").unlink()
    said_by(tmp_path)
    of_seed_1 = record_of(tmp_path, "last").read_text()
    said_by(tmp_path, "--config", "seed=5")  # a change that is seen because the output was taken over
    assert last.read_text() == content(5)
    record_of(tmp_path, "last").write_text(of_seed_1)  # that of seed 5 was never written
    os.utime(last, (time.time(), time.time() + 2))
    assert "Made again" in said_by(tmp_path)
    assert last.read_text() == content(1)
    record_of(tmp_path, "last").unlink()
    (tmp_path / "results" / "first.txt").write_text("newer")
    assert "Made again" in said_by(tmp_path)
