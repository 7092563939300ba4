"""A copy of the project with a world, a model and a configuration so small that a run takes minutes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config.yaml", "envs", "pyproject.toml", "resources", "workflow")
DATASETS = ("coverage", "reverse", "composite", "round_easy", "round_hard")

MODEL = {
    "description": "two layers that know a part of the generated world",
    "kg": "world",
    "architecture": {"n_layer": 2, "n_embd": 96, "n_head": 4, "n_positions": 128, "vocab_size": 1500},
    "train": {"seed": 0, "facts": None, "tokens": 150_000, "batch_rows": 8, "row_tokens": 96, "lr": 6e-3}
    | {"adam_lr": 6e-3, "recall_gate": 0.0},
    "editors": {
        "ft": {"layers": [1], "objective": "target_new", "steps": 10, "lr": 1e-3, "norm_constraint": None},
        "rome": {"layers": [0], "steps": 10, "weight_decay": 0.05, "context_lengths": [[10, 3]]},
        "memit": {"layers": [0, 1], "steps": 10, "weight_decay": 0.05, "clamp": 4.0, "mom2_weight": 1.5}
        | {"context_lengths": [[5, 2]], "context_openings": []},
        "mend": {"layers": [0, 1]},
    },
    "mend": {"rank": 64, "edit_lr": 1e-3, "lr": 1e-3, "batch_edits": 8, "locality_texts": 2, "steps": 40}
    | {"accumulate": 1, "first_update": "exact", "val_interval": 20, "val_edits": 16, "patience": 40},
}

CONFIG = {
    "models": ["small"],
    "editors": {"rome": None, "mend": None},
    "sequences": {"hundred": None},
    "cases": {
        "quotas": {"test": dict.fromkeys(DATASETS, 10), "dev": {"coverage": 0}, "train": {}},
        "verification": {"criterion": "rank"},
    },
    "tuning": {"trials": 1},
    "statistics": {"resamples": 200, "permutations": 199},
    "report": {"bars": []},
    "gpus": {"fake": "v100-32gb"},
}

TABLES = "results/report/summary.parquet"
"""Targets of a run of these tests: all tables, no figures."""


def copy_project(folder: Path, config: Mapping[str, Any] = CONFIG) -> Path:
    """The project in `folder`, with the small model, `small.yaml`, and a profile for the tests' cluster."""
    folder.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    (folder / "resources" / "models" / "small.yaml").write_text(yaml.safe_dump(MODEL))
    (folder / "small.yaml").write_text(yaml.safe_dump(dict(config)))
    partitions = {
        "cpu": {"max_runtime": 60, "max_mem_mb": 16_000},
        "gpu": {"max_runtime": 60, "max_mem_mb": 16_000, "max_gpu": 2, "available_gpu_models": ["fake"]},
    }
    profile = folder / "workflow" / "profiles" / "slurm"
    (profile / "partitions.yaml").write_text(yaml.safe_dump({"partitions": partitions}))
    return folder


def launch(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, seconds: float = 900
) -> subprocess.CompletedProcess:
    """A run of the copied project, ended after so many seconds; a resumed one has its configuration."""
    configuration = () if "--resume" in arguments else ("--configfile", "small.yaml")
    return subprocess.run(
        [sys.executable, "-m", "aftershock.launch", *configuration, *arguments],
        cwd=folder,
        env=run_environment(folder, environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )


def run_environment(folder: Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a run; `environment` is the cluster's, where it has one."""
    own = {"PYTHONPATH": str(folder / "workflow"), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, **(environment or {})}


def on_cluster(*arguments: str) -> list[str]:
    """Arguments of a run on the cluster of the tests, which answers at once."""
    quick = ["--slurm-init-seconds-before-status-checks", "4", "--latency-wait", "5"]
    return ["--profile", "workflow/profiles/slurm", *quick, "--max-status-checks-per-second", "1", *arguments]
