"""The text of `aftershock status`, for a run that never was."""

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aftershock.jobs.job import Job
from aftershock.jobs.run import Run
from aftershock.jobs.status import Snapshot, Stage
from view import lines_of

AT = 1_795_273_000.0


HALF = {"done": 64, "total": 256, "unit": "case", "began": [44, 0], "peak_bytes": 9 * 2**30}


def job(name: str, seconds: float, **fields: Any) -> Job:
    record = {"host": "node1", "seconds": seconds, "wildcards": {"dataset": "coverage"}, **fields}
    return Job("edit", f"results/logs/edit/wikidata.gpt2-xl.{name}.s0.00000-00255.log", record)


EXAMPLE = Snapshot(
    Run([], "node1", 4711, AT, "study", begun=2, last="Editing gpt2-xl with memit", last_time=AT),
    stages=[
        Stage("train_lm", 1, done=1, job_seconds=240.0),
        Stage(
            "edit",
            16,
            done=8,
            failed=1,
            waiting=5,
            job_seconds=600.0,
            running=[job("coverage.memit", 300, **HALF), job("round_easy.rome", 20, gpu="1")],
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
    at = time.strftime("%H:%M:%S", time.localtime(AT))
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
