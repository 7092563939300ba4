"""Faults of a cluster, done to a real one. Nothing is lost, and the tables are those of a calm run.

Each test makes some edits of a finished run anew, with something in the way.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aftershock.provenance.equality import compare_folders
from slurm.cluster import Cluster
from slurm.project import launch, run_environment
from slurm.runs import EDITED, REDONE, SECONDS, Run

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.program("slurmctld", "slurmd", "munged", "slurmdbd", "mariadbd", "squeue"),
]
OBSERVED = Path("s0/observations/00000-00009.parquet")


def same(run: Run, calm: Path) -> None:
    """See that a run ends well, with all that the calm one made."""
    assert run.end() == 0, run.said()
    same_results(run.folder, calm)


def same_results(folder: Path, calm: Path) -> None:
    found = compare_folders(calm / "results", folder / "results")
    assert found.equal, str(found)
    assert not list((folder / "results").rglob("*.part"))


def why(folder: Path, cluster: Cluster) -> str:
    """Return the output of `aftershock why`."""
    command = [sys.executable, "-m", "aftershock", "why"]
    environment = run_environment(folder, cluster.environment)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout


def test_a_killed_job_is_tried_again(calm: Path, begin: Callable[..., Run]) -> None:
    run = begin()
    for process in run.wait_for_stages(2):
        process.kill()
    same(run, calm)


def test_a_node_that_goes_down_and_comes_back(
    calm: Path, begin: Callable[..., Run], cluster: Cluster
) -> None:
    run = begin()
    stages = run.wait_for_stages(2)
    cluster.stop_daemon("slurmd", signal.SIGKILL)
    for process in stages:
        for ancestor in [process, *process.parents()]:
            if ancestor.name() == "slurmstepd":
                ancestor.kill()
        process.kill()
    cluster.wait_until(
        lambda: "down" in cluster.run("sinfo", "--noheader", "--format", "%T"), 60, "the node stays up"
    )
    cluster.start_daemon("slurmd")
    same(run, calm)


def test_a_job_that_hangs_meets_its_time_limit_and_is_tried_again(
    calm: Path, begin: Callable[..., Run]
) -> None:
    run = begin("--set-resources", "edit:runtime=attempt")
    run.wait_for_stages(2)
    same(run, calm)
    assert "TIMEOUT" in run.said()


def test_too_little_memory_is_told_with_the_peak(
    calm: Path, folder: Path, begin: Callable[..., Run], cluster: Cluster
) -> None:
    run = begin("--retries", "0", "--set-resources", "edit:mem_mb=400")
    assert run.end() != 0
    told = why(folder, cluster)
    assert len(re.findall(r"^edit .*out of memory.* 400 M", told, re.MULTILINE)) == 2, told
    same(begin("--set-resources", "edit:mem_mb=400 if attempt < 2 else 3000"), calm)


def test_a_run_is_taken_up_after_its_controller_was_killed(
    calm: Path, folder: Path, begin: Callable[..., Run], cluster: Cluster
) -> None:
    run = begin()
    stages = run.wait_for_stages(2)
    run.process.kill()
    run.process.wait()
    refused = begin()
    assert refused.end() != 0
    assert "aftershock resume" in refused.said()
    assert all(process.is_running() for process in stages)
    for process in stages:
        process.resume()
    resumed = launch(folder, "--resume", environment=cluster.environment, seconds=SECONDS)
    assert resumed.returncode == 0, resumed.stdout
    same_results(folder, calm)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk(calm: Path, folder: Path, begin: Callable[..., Run], cluster: Cluster) -> None:
    small = folder / EDITED / "coverage/ft"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=True)
    try:
        run = begin("--retries", "0")
        assert run.end() != 0
        told = why(folder, cluster)
        assert re.search(r"^edit .*ft.*(full|No space left)", told, re.MULTILINE), told
    finally:
        subprocess.run(["umount", str(small)], check=True)
    same(begin(), calm)


@pytest.mark.parametrize("damage", ["flipped", "cut", "another"])
def test_a_damaged_shard_is_named_and_made_anew(
    calm: Path, folder: Path, begin: Callable[..., Run], damage: str
) -> None:
    for editor in REDONE:
        shutil.copytree(calm / EDITED / editor, folder / EDITED / editor)
        (folder / EDITED / editor / "s0" / "scores.parquet").unlink()
    shard = folder / EDITED / "coverage/memit" / OBSERVED
    times = shard.stat()
    content = bytearray(shard.read_bytes())
    if damage == "flipped":
        content[len(content) // 3] ^= 0xFF
    elif damage == "cut":
        del content[len(content) // 2 :]
    else:
        content = bytearray((folder / EDITED / "coverage/ft" / OBSERVED).read_bytes())
    shard.write_bytes(content)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a failing disk does it
    run = begin("--retries", "0")
    assert run.end() != 0
    assert f"memit/{OBSERVED}" in run.said()
    assert "delete it and run again" in run.said()
    shard.unlink()
    same(begin(), calm)
