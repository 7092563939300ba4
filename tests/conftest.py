"""What all tests share: one thread, and programs that only CI has to have."""

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", MPLBACKEND="agg")

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `program(name)` where the program is missing; in CI that is a failure."""
    for mark in item.iter_markers("program"):
        missing = [name for name in mark.args if shutil.which(name) is None]
        if missing and os.environ.get("AFTERSHOCK_CI"):
            pytest.fail(f"{', '.join(missing)} is missing; add its package to .ci/apt.txt", pytrace=False)
        if missing:
            pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture
def python() -> Callable[..., subprocess.Popen]:
    """Start a new interpreter that runs some code with the package at hand."""

    def start(code: str, **options: Any) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "workflow")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return start
