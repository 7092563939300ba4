"""`aftershock status`: how far a run is, from records and SLURM's answers, and how that is drawn."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil
import pytest
from rich.console import Console

from aftershock.jobs import status
from aftershock.jobs.job import Failure, Job, read_jobs
from aftershock.jobs.record import is_running
from aftershock.jobs.run import Run, newest_runs
from aftershock.jobs.sizes import duration, megabytes
from aftershock.jobs.status import Snapshot, Stage, draw, show, stages_of, take
from recorded_faults import write_job, write_run

NOW = 1_795_273_000.0
DEADLINE = 60
EDITS: dict[str, Any] = {
    "planned": {"train_lm": 1, "edit": 4, "score": 4, "all": 1},
    "done": {"train_lm": 1},
    "begun": 3,
    "last": "Editing demo",
}
"""A run at work."""


def lines_of(found: Snapshot, width: int, height: int | None = None, colour: bool = False) -> list[str]:
    """The view as a terminal of so many characters shows it."""
    console = Console(
        width=width, file=StringIO(), force_terminal=colour, color_system="standard" if colour else None
    )
    console.print(draw(found, width, height))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_time_left_by_hand() -> None:
    """Two jobs at once: 300 s and, as a job takes 100 s, 100 - 40 s of those that run, and 6 to come."""
    counting = {"seconds": 50.0, "done": 5, "total": 80, "unit": "case", "began": [30.0, 0]}
    running = [Job("edit", "a.log", counting), Job("edit", "b.log", {"seconds": 40.0})]
    stage = Stage("edit", 10, done=2, running=running, job_seconds=100.0)
    assert stage.work == 300 + 60 + 600
    found = Snapshot(stages=[stage, Stage("score", 2)])
    assert found.left == (480, 1)
    assert Stage("edit", 3, running=running[:1]).work == 300 + 2 * 350  # no job is done: 50 s and 300 s to go


def test_stages_of_a_run(folder: Path) -> None:
    write_run(NOW, **EDITS)
    (run,) = newest_runs()
    coverage = {"dataset": "coverage"}
    jobs = [
        write_job("train_lm", "m", state="done", seconds=60.0, done=10, total=10, unit="batch"),
        write_job("edit", "a", done=20, total=100, unit="case", began=[10.0, 0], wildcards=coverage),
        write_job("edit", "b", state="gone"),
        write_job("edit", "failed", Failure(time.time()), state="failed"),
        replace(write_job("edit", "again", Failure(time.time()), state="failed"), under_way=True),
        write_job("edit", "failed in an earlier run", Failure(NOW - 1), state="failed", started=NOW - 9),
    ]
    train, edit, score = stages_of(run, jobs)
    assert (train.done, train.job_seconds) == (1, 60.0)
    assert (edit.planned, edit.done, len(edit.running), edit.failed) == (4, 0, 1, 1)
    job = edit.running[0]
    assert (job.age, job.rate, job.edits, job.left) == (30, 1.0, 4, 80)
    assert (score.done, score.running, score.waiting, score.failed) == (0, [], 0, 0)


def test_only_living_jobs_count_as_running(folder: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = write_job("edit", "alive").record
    vanished = write_job("edit", "vanished", pid=ended.pid).record
    reused = write_job("edit", "reused", started=psutil.Process().create_time() - 3600).record
    assert [is_running(r) for r in (mine, vanished, reused)] == [True, False, False]
    for elsewhere in ({"slurm_job": "12"}, {"host": "another"}):
        assert is_running(mine | elsewhere | {"written": time.time() - 5})
        assert not is_running(mine | elsewhere | {"written": time.time() - 3600})
    assert {Path(job.log).stem: job.state for job in read_jobs()} == {
        "alive": "running",
        "reused": "gone",
        "vanished": "gone",
    }


def test_jobs_of_slurm(folder: Path) -> None:
    active = [f"results/jobs/{name}.json" for name in ("edit/a", "edit/b", "score/a")]
    write_run(time.time(), os.getpid(), **EDITS, job_prefix="study", active=active)
    write_job("edit", "a", slurm_job="7", host="node1", gpu="0")
    write_job("edit", "b", Failure(time.time()), state="failed")
    found = take()
    assert [(stage.rule, len(stage.running), stage.waiting, stage.failed) for stage in found.stages] == [
        ("train_lm", 0, 0, 0),
        ("edit", 1, 1, 0),
        ("score", 0, 1, 0),
    ]
    text = "\n".join(lines_of(found, 120))
    assert "1 running, 2 waiting for SLURM" in text
    assert "(node1 GPU 0)" in text


def test_damaged_records_are_passed_over(folder: Path) -> None:
    write_job("edit", "whole")
    for name, text in {"half": '{"rule": "ed', "empty": "", "list": "[]", "other": "{}"}.items():
        Path(f"results/jobs/edit/{name}.json").write_text(text)
        Path(f"results/jobs/edit/{name}.failures").write_text(text)
    write_run(NOW - 1, **EDITS)
    write_run(NOW).write_bytes(b"\xff\xfe{")
    assert next(newest_runs()).begun == 3
    assert len(read_jobs()) == 1
    assert lines_of(take(), 80)


def test_an_empty_folder(folder: Path, capsys: pytest.CaptureFixture) -> None:
    show(once=True)
    assert "No run has left anything here yet." in capsys.readouterr().out
    assert not list(folder.iterdir())


def test_how_a_run_ended(folder: Path) -> None:
    ends: dict[str, dict[str, Any]] = {
        "finished": {"exit": 0},
        "with failures": {"failed": 1, "exit": 1},
        "by its user": {"stopped": True, "exit": 1},
        "killed": {},
    }
    for said, fields in ends.items():
        write_run(**EDITS, **fields)
        assert said in lines_of(take(), 200)[0], said
    write_run(error="no", exit=1)
    assert "before its first job (`aftershock why` tells why)" in lines_of(take(), 200)[0]
    for seconds, took in {1500: "25 min", 26 * 3600: "26.0 h"}.items():
        write_run(NOW, **EDITS, exit=0, last_time=NOW + seconds)
        assert f"after {took}" in lines_of(take(), 200)[0]


def test_the_run_at_work_is_the_one_that_is_shown(folder: Path) -> None:
    write_run(**EDITS, exit=0)
    write_run(time.time(), os.getpid())
    write_job("edit", "a", state="done")
    assert take().stages == []  # what is there is of an earlier run
    assert "looking at what is there" in lines_of(take(), 80)
    write_job("edit", "b")
    assert [len(stage.running) for stage in take().stages] == [1]  # which the run may be waiting for
    write_run(time.time() + 1, os.getpid(), **EDITS)
    found = take()
    assert (len(found.stages), found.stages[0].done) == (3, 1)
    assert found.at_work
    write_run(time.time() + 2, os.getpid(), **EDITS, exit=1)
    assert not take().at_work


def test_a_run_with_nothing_to_do_shows_what_is_there(folder: Path) -> None:
    write_run(exit=0)
    write_job("edit", "a", state="done")
    found = take()
    assert [(stage.rule, stage.done) for stage in found.stages] == [("edit", 1)]
    assert any(line.startswith("1 jobs done") for line in lines_of(found, 80))


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_gpus_as_nvidia_smi_tells_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "0, NVIDIA H100 80GB HBM3, 37, 12288, 81559\\n1, Tesla, [N/A], [N/A], 16384\\nno line\\n"
    nvidia_smi(tmp_path, monkeypatch, f"printf '{text}'")
    assert status.gpu_lines() == [
        "GPU 0 NVIDIA H100 80GB HBM3: 37 % busy, 12288 of 81559 MB",
        "GPU 1 Tesla: [N/A] % busy, [N/A] of 16384 MB",
    ]


def test_a_silent_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvidia_smi(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(status, "NVIDIA_SECONDS", 0.2)
    assert status.gpu_lines() == []


def test_sizes() -> None:
    assert list(map(duration, (0.2, 99, 150, 7000))) == ["0 s", "99 s", "2 min", "1.9 h"]
    assert duration(200_000) == "2.3 days"
    assert [megabytes(n) for n in (None, 2**30, 20 * 2**30)] == ["an unknown amount", "1024 MB", "20.0 GB"]


def test_a_piped_view_has_neither_colour_nor_control_characters(
    folder: Path, python: Callable[..., Popen]
) -> None:
    write_run(**EDITS)
    write_job("edit", "a", done=1, total=4, unit="case")
    shown, _ = python("from aftershock.jobs.status import show; show()", cwd=folder).communicate(
        timeout=DEADLINE
    )
    assert "edit a: " in shown
    assert "\x1b" not in shown


def test_watching_ends_with_the_run(
    folder: Path, python: Callable[..., Popen], monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.time()
    write_run(began, os.getpid(), **EDITS)
    code = "import aftershock.jobs.status as s; s.SECONDS = 0.05; s.show()"
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich a pipe is a terminal then
    monkeypatch.setenv("TERM", "xterm")
    watching = python(code, cwd=folder)
    shown = watching.stdout.readline()
    assert "running for" in shown
    write_run(began, os.getpid(), **EDITS, exit=0)
    rest, err = watching.communicate(timeout=DEADLINE)
    assert watching.returncode == 0, err
    assert "\x1b[1A" in rest
    assert "running for" not in rest.split("\x1b[1A")[-1]


# --- drawing ---------------------------------------------------------------------------------------------
HALF = {"done": 64, "total": 256, "unit": "case", "began": [44, 0], "peak_bytes": 9 * 2**30}


def running_job(name: str, seconds: float, **fields: Any) -> Job:
    record = {"host": "node1", "seconds": seconds, "wildcards": {"dataset": "coverage"}, **fields}
    return Job("edit", f"results/logs/edit/wikidata.gpt2-xl.{name}.s0.00000-00255.log", record)


EXAMPLE = Snapshot(
    Run([], "node1", 4711, NOW, "study", begun=2, last="Editing gpt2-xl with memit", last_time=NOW),
    stages=[
        Stage("train_lm", 1, done=1, job_seconds=240.0),
        Stage(
            "edit",
            16,
            done=8,
            failed=1,
            waiting=5,
            job_seconds=600.0,
            running=[running_job("coverage.memit", 300, **HALF), running_job("round_easy.rome", 20, gpu="1")],
        ),
        Stage("score", 16),
        Stage("report", 1),
    ],
    machine=["GPU 0 NVIDIA H100: 97 % busy, 40960 of 81920 MB", "disk: 50.0 of 200.0 GB free"],
)
GOLDEN = """\
running for 25 min, process 4711 on node1   HERE
TIME  Editing gpt2-xl with memit
9 of 34 jobs done (26 %), 2 running, 5 waiting for SLURM; at least 36 min left (2 stages not known yet)
1 failed: `aftershock why` tells why

stage     done  of  running  waiting  failed              a job takes    left  rate
train_lm     1   1        -        -       -  ##########        4 min
edit         8  16        2        5       1  #####.....       10 min  36 min  0.25 cases/s, 1 edits/s
score        0  16        -        -       -  ..........
report       0   1        -        -       -  ..........

running, the slowest first
  edit wikidata.gpt2-xl.coverage.memit.s0.00000-00255: 5 min, 64 of 256 cases, 0.25 cases/s, 1 edits/s,\
 13 min left, 9216 MB (node1)
  edit wikidata.gpt2-xl.round_easy.rome.s0.00000-00255: 20 s (node1 GPU 1)

GPU 0 NVIDIA H100: 97 % busy, 40960 of 81920 MB
disk: 50.0 of 200.0 GB free
"""


def test_the_view() -> None:
    at = time.strftime("%H:%M:%S", time.localtime(NOW))
    wanted = GOLDEN.replace("HERE", str(Path.cwd())).replace("TIME", at)
    found = replace(EXAMPLE, run=replace(EXAMPLE.run, began=time.time() - 1500))
    assert "\n".join(lines_of(found, 140)) + "\n" == wanted


@pytest.mark.parametrize("width", [20, 40, 60, 70, 80, 100, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = lines_of(EXAMPLE, width)
    assert max(len(line) for line in lines) <= width
    assert any(line.startswith("edit") for line in lines)
    coloured = lines_of(EXAMPLE, width, colour=True)
    assert [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in coloured] == lines
    assert any("\x1b[31m" in line for line in coloured)


def test_a_low_terminal_gets_a_line_of_idle_stages() -> None:
    assert not any("idle" in line for line in lines_of(EXAMPLE, 140, height=17))
    lines = lines_of(EXAMPLE, 140, height=16)
    assert len(lines) <= 16
    assert "3 stages idle: train_lm, score, report" in lines
    assert any(line.startswith("edit ") for line in lines)
