"""The text of `aftershock status`, for a run that never was."""

import re
import socket
import time
from pathlib import Path

import pytest

from aftershock.jobs.orphans import STAMP, LastRun
from aftershock.jobs.snakemake_log import RunLog
from aftershock.jobs.snapshot import Gpu, Job, SlurmUse, Snapshot, Stage
from aftershock.jobs.view import draw

NOW = 1_795_273_000.0
EXAMPLE = Snapshot(
    now=NOW,
    folder="/home/user/study",
    info=LastRun([], socket.gethostname(), 4711, time.strftime(STAMP, time.localtime(NOW - 1500)), None),
    run=RunLog(
        Path("x"), NOW - 1490, last="Editing gpt2-xl with memit", last_time=NOW - 20, begun=2, steps=(9, 34)
    ),
    stages=[
        Stage("train_lm", 1, done=1, job_seconds=240.0, finished_rate=(12.5, "batch", 0)),
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
    gpus=[Gpu("0", "NVIDIA H100", 97, 40_960, 81_920)],
    slurm=SlurmUse(2, 2, {"Resources": 4, "PartitionTimeLimit": 1}),
    disk=(50 * 2**30, 200 * 2**30),
    gpu_peak=("edit wikidata.gpt2-xl.coverage.memit.s0.00000-00255", 30 * 2**30),
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
SLURM: 2 jobs running with 2 GPUs; 4 waiting (Resources), 1 waiting (PartitionTimeLimit)
most GPU memory of a job: 30.0 GB (edit wikidata.gpt2-xl.coverage.memit.s0.00000-00255)
disk: 50.0 of 200.0 GB free
"""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    monkeypatch.setattr(LastRun, "alive", True)
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
    lines = draw(example, 140, height=17)
    assert len(lines) <= 17
    assert "1 stages finished (1 jobs): train_lm" in lines
    assert any(line.startswith("edit ") for line in lines)
    low = draw(example, 140, height=16)
    assert len(low) <= 16
    assert "2 stages to come (17 jobs): score, report" in low
