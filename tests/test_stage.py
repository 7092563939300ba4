"""What a stage does around its work: log, seed, provenance, timing, errors."""

import errno
import json
import os
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aftershock.stage import stage


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What a script is given by Snakemake."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return SimpleNamespace(
        rule="edit",
        log=["results/logs/edit/toy.log"],
        threads=1,
        params={"seed": 5, "lr": 0.1, "code": "c0de"},
        wildcards={"kg": "toy", "seed": "5"},
    )


def test_a_stage_logs_seeds_and_times(job: SimpleNamespace, capfd: pytest.CaptureFixture) -> None:
    drawn = []
    for _ in range(2):
        with stage(job) as run:
            drawn.append(random.random())
            print("printed")
            os.write(2, b"compiled\n")
            print("bar", file=run.console)
    assert drawn[0] == drawn[1]
    assert run.device in ("cpu", "cuda")
    log = Path(job.log[0]).read_text()
    assert "printed" in log
    assert "compiled" in log
    assert capfd.readouterr() == ("", "bar\nbar\n")
    timing = json.loads(Path("results/timings/edit/toy.5.json").read_text())
    assert timing["rule"] == "edit"
    assert timing["wildcards"] == {"kg": "toy", "seed": "5"}
    assert timing["seconds"] > 0
    assert timing["peak_bytes"] > 10**7


def test_provenance_depends_on_settings_and_code_only(job: SimpleNamespace) -> None:
    def provenance(**params: Any) -> dict[str, Any]:
        job.params = params
        with stage(job) as run:
            return run.provenance

    first = provenance(seed=5, lr=0.1, code="a")
    assert first == provenance(lr=0.1, code="a", seed=5)
    assert {"rule", "wildcards", "config", "code", "seed", "versions"} == set(first)
    assert {"aftershock", "python"} <= set(first["versions"])
    assert first["config"] != provenance(seed=5, lr=0.2, code="a")["config"]
    assert first["config"] == provenance(seed=5, lr=0.1, code="b")["config"]


def test_an_error_is_one_line_on_the_terminal_and_a_traceback_in_the_log(
    job: SimpleNamespace, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(ValueError, match="no relation P22") as caught, stage(job):
        raise ValueError("no relation P22")
    sys.excepthook(*caught._excinfo)
    said = capsys.readouterr().err
    assert said == "edit: ValueError: no relation P22 (traceback in results/logs/edit/toy.log)\n"
    log = Path(job.log[0]).read_text()
    assert log.startswith("Traceback")
    assert log.endswith("ValueError: no relation P22\n")
    assert not Path("results/timings").exists()


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("IO Error: No space left on device")],
)
def test_a_full_disk_comes_with_its_remedy(
    job: SimpleNamespace, capsys: pytest.CaptureFixture, error: Exception
) -> None:
    with pytest.raises(type(error)) as caught, stage(job):
        raise error
    sys.excepthook(*caught._excinfo)
    assert "No space left on device. Free some space" in capsys.readouterr().err
