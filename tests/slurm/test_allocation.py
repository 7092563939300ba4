"""A run keeps the GPUs of a cluster busy."""

import threading
import time
from collections.abc import Callable
from datetime import datetime

import psutil
import pytest

from slurm.cluster import Cluster
from slurm.runs import Run

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.program("slurmctld", "slurmd", "munged", "slurmdbd", "mariadbd", "squeue"),
]
LENGTH = 60.0  # seconds that every edit takes at least
EDITS = ("coverage/ft", "coverage/memit", "reverse/ft", "reverse/memit", "composite/ft", "composite/memit")


def lengthen(run: Run, ended: threading.Event) -> None:
    """Let every edit stand still until it has taken LENGTH, as a shard of a real model does at least."""
    seen: dict[int, psutil.Process] = {}
    while not ended.wait(0.2):
        for process in run.stages():
            if process.pid not in seen:
                seen[process.pid] = process
                process.suspend()
        for process in list(seen.values()):
            if process.is_running() and time.time() - process.create_time() >= LENGTH:
                process.resume()


@pytest.mark.parametrize("redone", [EDITS])
def test_both_gpus_are_allocated_nearly_all_the_time(begin: Callable[..., Run], cluster: Cluster) -> None:
    run, ended = begin(), threading.Event()
    holding = threading.Thread(target=lengthen, args=(run, ended))
    holding.start()
    try:
        assert run.end(900) == 0, run.said()
    finally:
        ended.set()
        holding.join()
    columns = ["--noheader", "--parsable2", "--allocations", "--format=Start,End,Comment,AllocTRES"]
    rows = [line.split("|") for line in cluster.run("sacct", *columns).splitlines()]
    edits = [
        (datetime.fromisoformat(start), datetime.fromisoformat(end))
        for start, end, comment, given in rows
        if comment.startswith("rule_edit") and "gres/gpu=1" in given
    ][-len(EDITS) :]
    assert len(edits) == len(EDITS)
    first, last = min(start for start, _ in edits), max(start for start, _ in edits)
    held = sum((min(end, last) - start).total_seconds() for start, end in edits)
    assert all((end - start).total_seconds() >= LENGTH for start, end in edits)
    share = held / (2 * (last - first).total_seconds())
    print(f"both GPUs were allocated {share:.1%} of the time")
    assert share >= 0.9
