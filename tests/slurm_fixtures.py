"""Fixtures around fake programs of SLURM."""

from pathlib import Path

import pytest

from fake_slurm import FakeSlurm


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Fake programs that are found first, on machines with and without SLURM."""
    slurm = FakeSlurm(tmp_path / "fake")
    monkeypatch.setenv("PATH", f"{slurm.folder}:/usr/bin:/bin")
    return slurm
