"""Runs of a small project that begin where a finished one left off, on a cluster with accounting."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from slurm.cluster import Cluster
from slurm.project import TABLES, copy_project, launch, on_cluster
from slurm.runs import EDITED, REDONE, Run


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, without a cluster."""
    folder = copy_project(tmp_path_factory.mktemp("calm") / "project")
    run = launch(folder, "--cores", "2", TABLES)
    assert run.returncode == 0, run.stdout
    return folder


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), accounting=True) as started:
        yield started


@pytest.fixture
def redone() -> Sequence[str]:
    """The edits that are made anew; a test may name others."""
    return REDONE


@pytest.fixture
def folder(calm: Path, tmp_path: Path, redone: Sequence[str]) -> Path:
    """The finished run without some of its edits, and what was made of them."""
    copy = tmp_path / "project"
    shutil.copytree(calm, copy, symlinks=True)
    for made in [*(EDITED / edits for edits in redone), Path(TABLES).parent]:
        shutil.rmtree(copy / made)
    return copy


@pytest.fixture
def begin(folder: Path, cluster: Cluster) -> Iterator[Callable[..., Run]]:
    """Start a run on the cluster; what is left of it ends with the test."""
    started: list[Run] = []

    def start(*arguments: str) -> Run:
        started.append(Run(folder, cluster, on_cluster(*arguments, "--", TABLES)))
        return started[-1]

    yield start
    for run in started:
        run.process.kill()
        run.process.communicate()
    cluster.run("scancel", "--me", check=False)
