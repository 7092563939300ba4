"""The whole pipeline, to its tables, through a real SLURM: equal to a run without it."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aftershock.provenance.equality import compare_folders
from slurm.cluster import Cluster
from slurm.project import CONFIG, TABLES, copy_project, launch, on_cluster

SMALLER = CONFIG | {"datasets": ["coverage", "composite", "round_hard"]}
"""One dataset of every kind, or importing libraries would take most of the time."""

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.plain_path,
    pytest.mark.program("slurmctld", "slurmd", "munged", "squeue"),
]


def test_tables_are_those_of_a_run_without_slurm(tmp_path: Path) -> None:
    here, there = (copy_project(tmp_path / name, SMALLER) for name in ("here", "there"))
    # At the same time: the one on the cluster waits for most of its time.
    with ThreadPoolExecutor() as pool, Cluster(tmp_path / "cluster") as cluster:
        without = pool.submit(launch, here, "--cores", "1", TABLES)
        run = launch(there, *on_cluster(TABLES), environment=cluster.environment)
    alone = without.result()
    assert alone.returncode == 0, alone.stdout
    assert run.returncode == 0, run.stdout
    assert len(re.findall(r"has been submitted with SLURM jobid", run.stdout)) >= 14
    found = compare_folders(here / "results", there / "results")
    assert found.equal, str(found)
