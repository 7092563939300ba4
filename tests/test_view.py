"""The text of `aftershock status`, for a run that never was."""

import re
import socket
import time

import pytest

from aftershock.jobs.run import Run
from aftershock.jobs.snapshot import Job, Snapshot, Stage
from aftershock.jobs.status import draw

NOW = 1_795_273_000.0
EXAMPLE = Snapshot(
    now=NOW,
    folder="/home/user/study",
    run=Run(
        [],
        socket.gethostname(),
        4711,
        NOW - 1500,
        begun=2,
        last="Editing gpt2-xl with memit",
        last_time=NOW - 20,
    ),
    stages=[
        Stage("train_lm", 1, done=1, job_seconds=240.0, job_rate="12.5 batches/s a job"),
        Stage(
            "edit",
            16,
            done=8,
            failed=1,
            waiting=5,
            job_seconds=600.0,
            running=[
                Job(
                    "edit wikidata.gpt2-xl.coverage.memit.s0.00000-00255",
                    300,
                    64,
                    256,
                    "case",
                    0.25,
                    4,
                    9 * 2**30,
                ),
                Job("edit wikidata.gpt2-xl.round_easy.rome.s0.00000-00255", 20, where="node1 GPU 1"),
            ],
        ),
        Stage("score", 16),
        Stage("report", 1),
    ],
    waiting=5,
    machine=["GPU 0 NVIDIA H100: 97 % busy, 40.0 of 80.0 GB", "disk: 50.0 of 200.0 GB free"],
)
GOLDEN = """\
running for 25 min, process 4711 on HOST   /home/user/study
TIME  Editing gpt2-xl with memit
9 of 34 jobs done (26 %), 2 running, 5 waiting for SLURM; at least 36 min left (2 stages not known yet)
1 failed: `aftershock why` tells why

stage     done  of  running  waiting  failed              a job takes    left  rate
train_lm     1   1        -        -       -  ##########        4 min          12.5 batches/s a job
edit         8  16        2        5       1  #####.....       10 min  36 min  0.25 cases/s, 1 edits/s
score        0  16        -        -       -  ..........
report       0   1        -        -       -  ..........

running, the slowest first
  edit wikidata.gpt2-xl.coverage.memit.s0.00000-00255: 5 min, 64 of 256 cases, 0.25 cases/s, 1 edits/s,\
 13 min left, 9216 MB
  edit wikidata.gpt2-xl.round_easy.rome.s0.00000-00255: 20 s (node1 GPU 1)

GPU 0 NVIDIA H100: 97 % busy, 40.0 of 80.0 GB
disk: 50.0 of 200.0 GB free
"""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    monkeypatch.setattr(Run, "alive", True)
    return EXAMPLE


def test_the_view(example: Snapshot) -> None:
    at = time.strftime("%H:%M:%S", time.localtime(NOW - 20))
    wanted = GOLDEN.replace("HOST", socket.gethostname()).replace("TIME", at)
    assert "\n".join(draw(example, 140)) + "\n" == wanted


@pytest.mark.parametrize("width", [20, 40, 60, 70, 80, 100, 140])
def test_no_line_is_wider_than_the_terminal(example: Snapshot, width: int) -> None:
    lines = draw(example, width)
    assert max(len(line) for line in lines) <= width
    assert any(line.startswith("edit") for line in lines)
    for line in draw(example, width, colour=True):
        assert len(re.sub(r"\x1b\[\d*m", "", line)) <= width
        assert line.count("\x1b[") in (0, 2)


def test_a_low_terminal_gets_sums_of_idle_stages(example: Snapshot) -> None:
    lines = draw(example, 140, height=15)
    assert len(lines) <= 15
    assert "1 stages finished (1 jobs): train_lm" in lines
    assert any(line.startswith("edit ") for line in lines)
    low = draw(example, 140, height=14)
    assert len(low) <= 14
    assert "2 stages to come (17 jobs): score, report" in low
