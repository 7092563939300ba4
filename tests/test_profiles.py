"""The profiles that say where jobs run."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from yte import process_yaml

import started
from aftershock.budget.needs import FLOOR_MB

ROOT = Path(__file__).parents[1]
PROFILES = ROOT / "workflow" / "profiles"
HELD_BY_SNAKEMAKE = 1000  # MB of the two processes that each SLURM job holds beside its own


def profile(name: str) -> dict[str, Any]:
    text = (PROFILES / name / "config.yaml").read_text(encoding="utf-8")
    return process_yaml(text, require_use_yte=True)


def dry_run(name: str, folder: Path) -> str:
    options = ("--snakefile", str(ROOT / "Snakefile"), "--dry-run", "--profile", str(PROFILES / name))
    run = started.snakemake(folder, *options)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make nvidia-smi list so many GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def present(count: int) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\nfor i in $(seq {count}); do echo GPU $i: H100; done\n")
        program.chmod(0o755)

    return present


@pytest.mark.parametrize(("visible", "count"), [(None, 3), ("0,2", 2)])
def test_a_workstation_runs_as_many_gpu_jobs_as_it_has_gpus(gpus, monkeypatch, visible, count) -> None:
    gpus(3)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert profile("workstation")["resources"]["gpu"] == count


def test_a_workstation_without_gpus_uses_its_cores(gpus) -> None:
    gpus(0)
    found = profile("workstation")
    assert found["resources"]["gpu"] == found["cores"] >= 1
    assert found["resources"]["mem_mb"] > FLOOR_MB


@pytest.mark.thorough  # a run on a cluster is planned
def test_a_run_on_a_workstation_is_planned(gpus, tmp_path: Path) -> None:
    gpus(0)
    assert re.search(r"^edit +\d+$", dry_run("workstation", tmp_path), re.MULTILINE)


def test_a_run_on_a_cluster_is_planned_without_one(tmp_path: Path) -> None:
    assert re.search(r"^Job \d+: Editing demo-4x128 with rome", dry_run("slurm", tmp_path), re.MULTILINE)


def test_jobs_are_never_grouped_nor_repeated_within_a_job() -> None:
    """SLURM would give a group the GPUs of all its jobs, which run in turn on one; and a rule's own retries
    happen inside its SLURM job, with the memory and time that it has."""
    for path in sorted((ROOT / "workflow" / "rules").rglob("*.smk")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s+(group|retries):", text, re.MULTILINE), path.name
    assert not {"groups", "group-components", "slurm-array-jobs"} & set(profile("slurm"))


def test_memory_never_falls_below_what_each_job_holds() -> None:
    assert FLOOR_MB > HELD_BY_SNAKEMAKE
    assert profile("slurm")["default-resources"]["mem_mb"] > HELD_BY_SNAKEMAKE


def test_partitions_are_what_the_executor_reads() -> None:
    from snakemake_executor_plugin_slurm.partitions import read_partition_file

    found = read_partition_file(PROFILES / "slurm" / "partitions.yaml")
    assert {partition.name for partition in found} == set(
        yaml.safe_load((PROFILES / "slurm" / "partitions.yaml").read_text())["partitions"]
    )
    assert [partition.name for partition in found if partition.limits.max_gpu] == ["gpu"]
