"""Answers of SLURM's programs, and programs that are missing, hang or fail."""

import time
from pathlib import Path

import pytest

from aftershock.jobs import slurm
from aftershock.jobs.slurm import SlurmError
from fake_slurm import FakeSlurm


def test_a_program_that_is_missing(fake: FakeSlurm) -> None:
    (fake.folder / "squeue").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(fake.folder))
        assert "sinfo or sbatch is missing" in str(slurm.fault())
        with pytest.raises(SlurmError, match="squeue, a program of SLURM, cannot be run here"):
            slurm.queued("demo")


def test_a_program_that_hangs(fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.says("sinfo", seconds=30)
    began = time.monotonic()
    with pytest.raises(SlurmError, match="SLURM does not answer: sinfo said nothing for 1 s"):
        slurm.ask("sinfo", seconds=1)
    assert time.monotonic() - began < 5


def test_a_program_that_fails(fake: FakeSlurm) -> None:
    fake.says("sinfo", error="slurm_load_partitions: Unable to contact slurm controller\n", code=1)
    with pytest.raises(SlurmError, match="sinfo failed: slurm_load_partitions: Unable to contact"):
        slurm.partitions()


@pytest.mark.parametrize(
    ("kind", "enforced", "answer", "on"),
    [
        ("slurmdbd", "none", {}, True),
        ("none", "none", {}, False),
        ("slurmdbd", "associations,nojobs", {}, False),
        ("slurmdbd", "none", {"code": 1}, False),
        ("slurmdbd", "none", {"seconds": 30}, False),
    ],
)
def test_accounting_counts_only_when_it_answers(
    fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch, kind: str, enforced: str, answer: dict, on: bool
) -> None:
    monkeypatch.setattr(slurm, "SHORT_SECONDS", 0.5)
    fake.says("sacct", **answer)
    settings = {"AccountingStorageType": f"accounting_storage/{kind}", "AccountingStorageEnforce": enforced}
    fake.says("scontrol", "".join(f"{name} = {value}\n" for name, value in settings.items()))
    assert slurm.has_accounting() is on


def test_no_other_module_starts_programs_of_slurm() -> None:
    package = Path(slurm.__file__).parents[1]
    for file in package.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if file.name != "slurm.py" and "subprocess" in text:
            assert not {"squeue", "sinfo", "sacct", "scontrol"} & set(text.replace('"', " ").split()), file
