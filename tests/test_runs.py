"""One run at a time in a folder; a killed one leaves nothing running, and the next takes up where it was."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from aftershock.launch import clear_up
from aftershock.output import write_text
from aftershock.process import alive

ROOT = Path(__file__).parents[1]
DEADLINE = 60  # seconds that starting interpreters are given on a busy machine
LAUNCH = (sys.executable, "-m", "aftershock.launch", "--cores", "1")
SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(ROOT / "workflow")!r})
from aftershock.process import name_run
name_run()
rule all:
    input: "results/last.txt"
rule first:
    output: "results/first.txt"
    log: "results/logs/first.log"
    params: seed=1
    script: "work.py"
rule last:
    input: "results/first.txt"
    output: "results/last.txt"
    log: "results/logs/last.log"
    params: seed=1
    script: "work.py"
"""
WORK = """
import os, random, signal
from aftershock.output import whole_file
from aftershock.stage import stage
with stage(snakemake) as run, whole_file(snakemake.output[0]) as part:
    part.write_text(f"{snakemake.rule} {random.random()}")
    print("written", file=run.console, flush=True)
    if snakemake.rule == os.environ.get("STOP_IN"):
        signal.pause()
"""
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


def gone(processes: list[psutil.Process], within: float) -> bool:
    """Whether all have ended before so many seconds are over; a process that nobody reaps has ended too."""
    pause, deadline = threading.Event(), time.monotonic() + within
    while any(alive(process) for process in processes) and time.monotonic() < deadline:
        pause.wait(0.02)
    return not any(alive(process) for process in processes)


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


def test_a_second_run_is_refused_until_the_first_has_ended(
    tmp_path: Path, python: Callable[..., Popen]
) -> None:
    hold = "from aftershock.lock import hold, LOCK; hold(LOCK); print('held', flush=True); input()"
    first = python(hold, cwd=tmp_path)
    assert first.stdout.readline() == "held\n"
    second = python(hold, cwd=tmp_path)
    _, err = second.communicate(timeout=DEADLINE)
    assert second.returncode == 1
    assert f"another run is working in results/: process {first.pid}, started 2" in err
    first.kill()
    first.communicate(timeout=DEADLINE)
    third = python(hold, cwd=tmp_path)
    assert third.communicate("\n", timeout=DEADLINE)[0] == "held\n"


def test_half_written_outputs_are_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_text("results/a/.b.parquet.12.part", "half")
    write_text("results/a/.weights.12.part/model", "half")
    write_text("results/a/c.parquet", "whole")
    clear_up([])
    assert [p.name for p in Path("results/a").iterdir()] == ["c.parquet"]


def start(folder: Path, *command: str, **environment: str) -> Popen:
    """A run of the small workflow above."""
    for name, text in (("Snakefile", SNAKEFILE), ("work.py", WORK)):
        if not (folder / name).exists():  # a script written anew counts as changed
            (folder / name).write_text(text)
    return Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_in_last(run: Popen) -> None:
    """Kill a run while its second stage is at work, and see that nothing of it is left within a second."""
    for _ in ("first", "last"):
        assert "written\n" in iter(run.stdout.readline, "")
    below = psutil.Process(run.pid).children(recursive=True)
    assert below
    run.kill()
    assert gone(below, within=1)
    run.communicate(timeout=DEADLINE)


def test_a_killed_run_is_taken_up_where_it_was(tmp_path: Path) -> None:
    kill_in_last(start(tmp_path, *LAUNCH, STOP_IN="last"))
    first = (tmp_path / "results" / "first.txt").stat().st_mtime_ns
    assert not (tmp_path / "results" / "last.txt").exists()
    again = start(tmp_path, *LAUNCH)
    assert "Clearing up after a run that was killed" in again.communicate(timeout=DEADLINE)[0]
    assert again.returncode == 0
    assert (tmp_path / "results" / "last.txt").read_text() == f"last {random.Random(1).random()}"
    assert (tmp_path / "results" / "first.txt").stat().st_mtime_ns == first
    assert not list(tmp_path.rglob("*.part"))
    third = start(tmp_path, *LAUNCH)
    assert "\nNothing to be done" in third.communicate(timeout=DEADLINE)[0]
    assert third.returncode == 0


def test_a_run_without_the_launcher_is_left_alone(tmp_path: Path) -> None:
    plain = start(tmp_path, sys.executable, "-m", "snakemake", "--cores", "1", STOP_IN="last")
    assert "written\n" in iter(plain.stdout.readline, "")
    refused = start(tmp_path, *LAUNCH)
    said = refused.communicate(timeout=DEADLINE)[0]
    assert f"a Snakemake run is working in this folder (process {plain.pid}" in said
    assert refused.returncode == 1
    plain.kill()
    plain.communicate(timeout=DEADLINE)


@pytest.mark.program("make")
def test_nothing_outlives_make(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(f"demo:\n\t@{' '.join(LAUNCH)}\n")
    kill_in_last(start(tmp_path, "make", STOP_IN="last"))
