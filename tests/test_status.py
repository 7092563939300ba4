"""`aftershock status`: how far a run is, from records, logs and SLURM's answers, and how that is drawn."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil
import pytest

from aftershock.jobs import liveness, snapshot
from aftershock.jobs.liveness import is_running
from aftershock.jobs.sizes import duration, megabytes
from aftershock.jobs.slurm_jobs import SlurmJob
from aftershock.jobs.snakemake_log import newest_runs, read_run
from aftershock.jobs.snapshot import Gpu, Job, SlurmUse, Snapshot, Stage, stages_of, take
from aftershock.jobs.status import show
from aftershock.jobs.view import draw

NOW = 1_795_273_000.0
DEADLINE = 60
LOG = """\
Building DAG of jobs...
Job stats:
job         count
--------  -------
train_lm        1
edit            4
score           4
all             1
total          10

Select jobs to execute...
[Sat Nov 21 14:56:32 2026]
Job 3: Training demo
[Sat Nov 21 14:57:32 2026]
Finished jobid: 3 (Rule: train_lm)
1 of 10 steps (10%) done
[Sat Nov 21 14:57:33 2026]
Job 4: Editing demo
[Sat Nov 21 14:57:33 2026]
Job 5: Editing demo
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def log(folder: Path, text: str, name: str = "2026-11-21T145600.1") -> Path:
    path = folder / ".snakemake" / "log" / f"{name}.snakemake.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def record(rule: str, name: str, **fields: Any) -> dict[str, Any]:
    """A record as a job writes it, put in its place below the current folder."""
    found = {
        "rule": rule,
        "wildcards": {"dataset": "coverage"},
        "log": f"results/logs/{rule}/{name}.log",
        "state": "running",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "slurm_job": None,
        "seconds": 30.0,
        **fields,
    }
    path = Path(f"results/jobs/{rule}/{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
    return found


def run_file(pid: int, started: float, **fields: Any) -> None:
    """Write the files of the launcher."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started))
    found = {"arguments": ["--cores", "2"], "host": socket.gethostname(), "pid": pid, "started": moment}
    Path("results").mkdir(exist_ok=True)
    Path("results/.run.json").write_text(json.dumps(found | {"job_prefix": None, "exit": None} | fields))


def test_time_left_by_hand() -> None:
    """Two jobs at once: 300 s and, as a job takes 100 s, 100 - 40 s of those that run, and 6 to come."""
    running = [Job("a", 50, done=25, total=100, unit="case", rate=0.25), Job("b", 40)]
    stage = Stage("edit", 10, done=2, running=running, job_seconds=100.0)
    assert stage.to_come == 6
    assert stage.work == 300 + 60 + 600
    found = Snapshot(NOW, ".", stages=[stage, Stage("score", 2)])
    assert found.left == (480, 1)
    assert found.left_of(stage) == 480
    assert Stage("edit", 3, running=running[:1]).work == 300 + 2 * 350  # no job is done: 50 s and 300 s to go


def test_stages_of_a_run(folder: Path) -> None:
    run = read_run(log(folder, LOG))
    assert run.planned == {"train_lm": 1, "edit": 4, "score": 4, "all": 1}
    records = [
        record("train_lm", "m", state="done", seconds=60.0, done=10, total=10, unit="batch", began=[10.0, 0]),
        record("edit", "a", done=20, total=100, unit="case", began=[10.0, 0], started=NOW - 50),
        record("edit", "b", state="gone"),
    ]
    slurm = {"7": SlurmJob("7", "PENDING", rule="edit")}
    train, edit, score = stages_of(run, records, slurm, NOW)
    assert (train.done, train.job_seconds, train.finished_rate) == (1, 60.0, (0.2, "batch", 0))
    assert (edit.planned, edit.done, len(edit.running), edit.waiting) == (4, 0, 1, 1)
    job = edit.running[0]
    assert (job.age, job.rate, job.edits, job.left) == (50, 1.0, 4, 80)
    assert not score.is_begun
    assert run.in_flight == 2


def test_only_living_jobs_count_as_running(folder: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = record("edit", "alive")
    vanished = record("edit", "vanished", pid=ended.pid)
    reused = record("edit", "reused", started=psutil.Process().create_time() - 3600)
    assert [is_running(r, None, NOW) for r in (mine, vanished, reused)] == [True, False, False]
    submitted = record("edit", "submitted", slurm_job="12", host="node1")
    known = {"12": SlurmJob("12", "RUNNING")}
    assert is_running(submitted, known, NOW)
    assert not is_running(submitted, {"12": SlurmJob("12", "PENDING")}, NOW)  # it was requeued
    assert not is_running(submitted, {}, NOW)
    elsewhere = record("edit", "elsewhere", host="another")
    assert is_running(elsewhere, None, time.time() - 5)
    assert not is_running(elsewhere, None, time.time() - 3600)
    states = {r["log"].split("/")[-1]: r["state"] for r in liveness.read_jobs(known)}
    assert states["alive.log"] == states["submitted.log"] == "running"
    assert states["vanished.log"] == states["reused.log"] == "gone"


def test_jobs_of_slurm(folder: Path) -> None:
    log(folder, LOG)
    record("edit", "a", slurm_job="7", host="node1", gpu="0")
    jobs = [
        SlurmJob("7", "RUNNING", gpus=1, rule="edit"),
        SlurmJob("8", "PENDING", "Resources", rule="edit"),
        SlurmJob("9", "PENDING", "Resources", rule="score"),
        SlurmJob("6", "FAILED", rule="edit"),
    ]
    found = take({job.id: job for job in jobs})
    assert found.slurm == SlurmUse(1, 1, {"Resources": 2})
    assert [(stage.rule, len(stage.running), stage.waiting) for stage in found.stages[1:]] == [
        ("edit", 1, 1),
        ("score", 0, 1),
    ]
    text = "\n".join(draw(found, 120))
    assert "1 running, 2 waiting for SLURM" in text
    assert "SLURM: 1 jobs running with 1 GPUs; 2 waiting (Resources)" in text
    assert "(node1 GPU 0)" in text
    assert take({}).slurm == SlurmUse(0, 0, {})


def test_damaged_records_and_logs_are_passed_over(folder: Path) -> None:
    record("edit", "whole")
    for name, text in {"half": '{"rule": "ed', "empty": "", "list": "[]", "other": "{}"}.items():
        Path(f"results/jobs/edit/{name}.json").write_text(text)
    Path("results/.run.json").write_text('{"pid": ')
    Path("results/.lock").write_text("nonsense")
    log(folder, LOG[: len(LOG) // 2])
    log(folder, "", "2026-11-21T145700.1")
    (folder / ".snakemake/log/odd.snakemake.log").write_bytes(b"\xff\xfe[Sat")
    assert len(liveness.read_jobs(None)) == 1
    assert draw(take(), 80)


def test_an_empty_folder(folder: Path, capsys: pytest.CaptureFixture) -> None:
    show(once=True)
    assert "No run has left anything here yet." in capsys.readouterr().out
    assert not list(folder.iterdir())


def test_how_a_run_ended(folder: Path) -> None:
    done = LOG.replace("1 of 10 steps (10%)", "10 of 10 steps (100%)") + "Complete log(s): x\n"
    texts = {
        done: "finished",
        LOG + "Exiting because a job execution failed.\nComplete log(s): x\n": "with failures",
        LOG + "Terminating processes on user request, this might take some time.\n": "by its user",
        LOG: "killed",
    }
    for text, said in texts.items():
        log(folder, text)
        assert said in draw(take(), 200)[0], said
    for elapsed, took in {"0:25:00.5": "25 min", "1 day, 2:00:00.0": "26.0 h"}.items():
        log(folder, f"{done}Elapsed time: {elapsed}\n")
        assert f"after {took}" in draw(take(), 200)[0]


def test_the_run_at_work_is_the_one_that_is_shown(folder: Path) -> None:
    log(folder, LOG)
    run_file(os.getpid(), time.time())
    record("edit", "a", state="done")
    assert (take().run, take().stages) == (None, [])  # what is there is of an earlier run
    assert "looking at what is there" in draw(take(), 80)
    newer = time.strftime("%Y-%m-%dT%H%M%S.1", time.localtime(time.time() + 1))
    log(folder, LOG, newer)
    found = take()
    assert found.run.path.name.startswith(newer)
    assert found.at_work
    run_file(os.getpid(), time.time(), exit=1)
    assert not take().at_work
    Path("results/.lock").write_text(f"{os.getpid()} {socket.gethostname()} 2026-11-21 14:56:00")
    assert not take().at_work
    Path("results/.lock").write_text(f"{os.getppid()} {socket.gethostname()} 2036-11-21 14:56:00")
    assert take().at_work  # it holds the folder, and has not said more of itself


def test_runs_with_nothing_to_do_and_dry_ones(folder: Path) -> None:
    log(folder, LOG.replace("1 of 10", "10 of 10") + "Complete log(s): x\n", "2026-11-21T100000.1")
    log(
        folder,
        "Building DAG of jobs...\nNothing to be done (all files are up to date).\n",
        "2026-11-21T110000.1",
    )
    log(folder, f"{LOG}\nThis was a dry-run (flag -n).\n", "2026-11-21T120000.1")
    log(folder, "Congratulations, your workflow is in a good condition!\n", "2026-11-21T130000.1")
    assert [run.path.name[:13] for run in newest_runs()] == ["2026-11-21T11", "2026-11-21T10"]
    assert take().run.planned["edit"] == 4


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_gpus_as_nvidia_smi_tells_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "0, NVIDIA H100 80GB HBM3, 37, 12288, 81559\\n1, Tesla, [N/A], [N/A], 16384\\nno line\\n"
    nvidia_smi(tmp_path, monkeypatch, f"printf '{text}'")
    assert snapshot.gpus_here() == [
        Gpu("0", "NVIDIA H100 80GB HBM3", 37, 12288, 81559),
        Gpu("1", "Tesla", 0, 0, 16384),
    ]


def test_a_silent_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvidia_smi(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(snapshot, "NVIDIA_SECONDS", 0.2)
    assert snapshot.gpus_here() == []


def test_sizes() -> None:
    assert [duration(s) for s in (0.2, 99, 150, 7000, 200_000)] == [
        "0 s",
        "99 s",
        "2 min",
        "1.9 h",
        "2.3 days",
    ]
    assert [megabytes(n) for n in (None, 2**30, 20 * 2**30)] == ["an unknown amount", "1024 MB", "20.0 GB"]


def test_a_piped_view_has_neither_colour_nor_control_characters(
    folder: Path, python: Callable[..., Popen]
) -> None:
    log(folder, LOG)
    record("edit", "a", done=1, total=4, unit="case")
    shown, _ = python("from aftershock.jobs.status import show; show()", cwd=folder).communicate(
        timeout=DEADLINE
    )
    assert "edit a: " in shown
    assert "\x1b" not in shown


def test_watching_ends_with_the_run(folder: Path, python: Callable[..., Popen]) -> None:
    log(folder, LOG, time.strftime("%Y-%m-%dT%H%M%S.1"))
    run_file(os.getpid(), time.time())
    code = "import aftershock.jobs.status as s; s.SECONDS = 0.05; s.watch()"
    watching = python(code, cwd=folder)
    shown = watching.stdout.readline()
    assert "running for" in shown
    run_file(os.getpid(), time.time(), exit=0)
    rest, err = watching.communicate(timeout=DEADLINE)
    assert watching.returncode == 0, err
    assert "\x1b[H" in rest
    assert "running for" not in rest.split("\x1b[H")[-1]
