"""`aftershock status`: how far a run is, from records and SLURM's answers, and how that is drawn."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from aftershock.jobs.record import is_running
from aftershock.jobs.run import Job, Run, newest_runs, read_jobs
from aftershock.jobs.sizes import duration, megabytes
from aftershock.jobs.status import Stage, _sums, at_work, draw, show, take
from recorded_faults import failure, write_job, write_run

NOW = 1_795_273_000.0
DEADLINE = 60
EDITS: dict[str, Any] = {
    "planned": {"train_lm": 1, "edit": 4, "score": 4, "all": 1},
    "done": {"train_lm": 1},
    "last": "Editing demo",
}
"""A run at work."""


def lines_of(found: tuple[Run | None, list[Stage]]) -> list[str]:
    """The lines of the view."""
    return [line.rstrip() for line in "\n".join(draw(*found)).splitlines()]


def test_time_left_by_hand() -> None:
    """Two jobs at once: 300 s and, as a job takes 100 s, 100 - 40 s of those that run, and 6 to come."""
    counting = {"seconds": 50.0, "done": 5, "total": 80, "unit": "case", "began": [30.0, 0]}
    running = [Job("edit", "a.log", counting), Job("edit", "b.log", {"seconds": 40.0})]
    stage = Stage("edit", 10, done=2, running=running, job_seconds=100.0)
    assert stage.work == 300 + 60 + 600
    summed = [*_sums(Run([], "elsewhere", 1, NOW), [stage, Stage("score", 2)], 2)]
    assert summed == ["2 of 12 jobs done (16 %), 2 running; at least 8 min left (1 stages not known yet)"]
    assert Stage("edit", 3, running=running[:1]).work == 300 + 2 * 350  # no job is done: 50 s and 300 s to go


def test_stages_of_a_run(folder: Path) -> None:
    write_job("train_lm", "m", state="done", seconds=60.0, done=10, total=10, unit="batch")
    write_job("edit", "a", done=20, total=100, unit="case", began=[10.0, 0])
    write_job("edit", "b", started=NOW - 99, state="stopped")
    for name in ("failed", "again"):
        write_job("edit", name, state="failed")
    ends = {"failed": time.time(), "again": time.time()}
    failures = [failure("edit", name, ended) for name, ended in ends.items()]
    active = ["results/jobs/edit/a.json", "results/jobs/edit/again.json"]
    write_run(time.time() - 5, os.getpid(), **EDITS, failures=failures, active=active)
    _, (train, edit, score) = take()
    assert (train.done, train.job_seconds) == (1, 60.0)
    assert (edit.planned, edit.done, len(edit.running), edit.waiting, edit.failed) == (4, 0, 1, 1, 1)
    job = edit.running[0]
    assert (job.age, job.left) == (30, 80)
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
    failures = [failure("edit", "b", time.time())]
    write_run(time.time(), os.getpid(), **EDITS, job_prefix="study", active=active, failures=failures)
    write_job("edit", "a", slurm_job="7", host="node1", gpu="0")
    write_job("edit", "b", state="failed")
    found = take()
    assert [(stage.rule, len(stage.running), stage.waiting, stage.failed) for stage in found[1]] == [
        ("train_lm", 0, 0, 0),
        ("edit", 1, 1, 0),
        ("score", 0, 1, 0),
    ]
    text = "\n".join(lines_of(found))
    assert "1 running, 2 waiting; " in text
    assert "(node1 GPU 0)" in text


def test_damaged_records_are_passed_over(folder: Path) -> None:
    write_job("edit", "whole")
    for name, text in {"half": '{"rule": "ed', "empty": "", "list": "[]", "other": "{}"}.items():
        Path(f"results/jobs/edit/{name}.json").write_text(text)
    write_run(NOW - 1, **EDITS)
    write_run(NOW).write_bytes(b"\xff\xfe{")
    assert next(newest_runs()).last == "Editing demo"
    assert len(read_jobs()) == 1
    assert lines_of(take())


def test_an_empty_folder(folder: Path, capsys: pytest.CaptureFixture) -> None:
    show()
    assert "No run has left anything here yet." in capsys.readouterr().out
    assert not list(folder.iterdir())


def test_how_a_run_ended(folder: Path) -> None:
    ends: dict[str, dict[str, Any]] = {
        "finished": {"exit": 0},
        "with failures": {"exit": 1},
        "by its user": {"stopped": True, "exit": 1},
        "killed": {},
    }
    for said, fields in ends.items():
        write_run(**EDITS, **fields)
        assert said in lines_of(take())[0], said
    write_run(error="no", exit=1)
    assert "before its first job (`aftershock why` tells why)" in lines_of(take())[0]
    for seconds, took in {1500: "25 min", 26 * 3600: "26.0 h"}.items():
        write_run(NOW, **EDITS, exit=0, last_time=NOW + seconds)
        assert f"after {took}" in lines_of(take())[0]


def test_the_run_at_work_is_the_one_that_is_shown(folder: Path) -> None:
    write_run(**EDITS, exit=0)
    write_run(time.time(), os.getpid())
    write_job("edit", "a", state="done")
    assert take()[1] == []  # what is there is of an earlier run
    assert "looking at what is there" in lines_of(take())
    write_job("edit", "b")
    assert [len(stage.running) for stage in take()[1]] == [1]  # which the run may be waiting for
    write_run(time.time() + 1, os.getpid(), **EDITS)
    run, stages = take()
    assert (len(stages), stages[0].done) == (3, 1)
    assert at_work(run)
    write_run(time.time() + 2, os.getpid(), **EDITS, exit=1)
    assert not at_work(take()[0])


def test_a_run_with_nothing_to_do_shows_what_is_there(folder: Path) -> None:
    write_run(exit=0)
    write_job("edit", "a", state="done")
    found = take()
    assert [(stage.rule, stage.done) for stage in found[1]] == [("edit", 1)]
    assert any(line.startswith("1 jobs done") for line in lines_of(found))


def test_sizes() -> None:
    assert list(map(duration, (0.2, 99, 150, 7000))) == ["0 s", "99 s", "2 min", "1.9 h"]
    assert duration(200_000) == "2.3 days"
    assert [megabytes(n) for n in (None, 2**30, 20 * 2**30)] == ["an unknown amount", "1024 MB", "20.0 GB"]


# --- drawing ---------------------------------------------------------------------------------------------
HALF = {"done": 64, "total": 256, "unit": "case", "began": [44, 0], "peak_bytes": 9 * 2**30}


def running_job(name: str, seconds: float, **fields: Any) -> Job:
    record = {"host": "node1", "seconds": seconds, **fields}
    return Job("edit", f"results/logs/edit/wikidata.gpt2-xl.{name}.s0.00000-00255.log", record)


STAGES = [
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
]
GOLDEN = """\
running for 25 min, process 4711 on node1   HERE
TIME  Editing gpt2-xl with memit
9 of 34 jobs done (26 %), 2 running, 5 waiting; at least 36 min left (2 stages not known yet)
1 failed: `aftershock why` tells why

stage     done  of  running  waiting  failed  a job takes    left
train_lm     1   1        -        -       -        4 min
edit         8  16        2        5       1       10 min  36 min
score        0  16        -        -       -
report       0   1        -        -       -

running, the slowest first
  edit wikidata.gpt2-xl.coverage.memit.s0.00000-00255: 5 min, 64 of 256 cases, 13 min left, 9216 MB (node1)
  edit wikidata.gpt2-xl.round_easy.rome.s0.00000-00255: 20 s (node1 GPU 1)

disk: 50.0 of 200.0 GB free
"""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> tuple[Run, list[Stage]]:
    """A run at work on a cluster."""
    free = shutil._ntuple_diskusage(200 * 2**30, 150 * 2**30, 50 * 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    return Run(
        [], "node1", 4711, time.time() - 1500, "study", last="Editing gpt2-xl with memit", last_time=NOW
    ), STAGES


def test_the_view(example: tuple) -> None:
    at = time.strftime("%H:%M:%S", time.localtime(NOW))
    wanted = GOLDEN.replace("HERE", str(Path.cwd())).replace("TIME", at)
    assert "\n".join(lines_of(example)) + "\n" == wanted


@pytest.mark.parametrize("width", [20, 80])
def test_no_line_is_wider_than_the_terminal(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    write_run(**EDITS)
    write_job("edit", "a" * 100)
    monkeypatch.setenv("COLUMNS", str(width))
    show()
    lines = capsys.readouterr().out.splitlines()
    assert not any(character < " " for line in lines for character in line)
    assert max(len(line) for line in lines) == width
    assert any(line.startswith("edit ") for line in lines)
