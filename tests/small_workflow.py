"""A workflow of two stages to start, kill and take up."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from subprocess import Popen

import psutil

import started
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
    params: seed=config.get("seed", 1)
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


def gone(processes: list[psutil.Process], within: float) -> bool:
    """Return True if all end before so many seconds are over; one that nobody reaps has ended too."""
    pause, deadline = threading.Event(), time.monotonic() + within
    while any(alive(process) for process in processes) and time.monotonic() < deadline:
        pause.wait(0.02)
    return not any(alive(process) for process in processes)


def write_workflow(folder: Path) -> None:
    """Write the small workflow, unless it is there: a script written anew counts as changed."""
    for name, text in (("Snakefile", SNAKEFILE), ("work.py", WORK)):
        if not (folder / name).exists():
            (folder / name).write_text(text)


def launch(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """A whole run of the small workflow by the launcher, on one core unless it is resumed."""
    write_workflow(folder)
    cores = () if "--resume" in arguments else LAUNCH[3:]
    environment = {"PYTHONPATH": str(ROOT / "workflow")}
    return started.module("aftershock.launch", folder, *cores, *arguments, **environment)


def start(folder: Path, *command: str, **environment: str) -> Popen:
    """A run of the small workflow that can be killed."""
    write_workflow(folder)
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
