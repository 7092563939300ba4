"""A stage's duties around its work: log, seed, provenance, timing, errors."""

import errno
import json
import logging
import os
import platform
import random
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aftershock import progress
from aftershock.jobs import record
from aftershock.output import whole_file
from aftershock.progress import Progress
from aftershock.stage import stage

ROOT = Path(__file__).parents[1]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The object that Snakemake gives a script."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return SimpleNamespace(
        rule="edit",
        log=["results/logs/edit/toy.log"],
        output=["results/toy.parquet"],
        threads=1,
        params={"seed": 5, "lr": 0.1, "code": "c0de"},
        resources={"mem_mb": 2000, "tmpdir": "/tmp"},
        wildcards={"kg": "toy", "seed": "5"},
    )


def test_a_stage_logs_seeds_and_times(job: SimpleNamespace, capfd: pytest.CaptureFixture) -> None:
    drawn = []
    for _ in range(2):
        with stage(job) as run:
            drawn.append(random.random())
            print("printed")
            os.write(2, b"compiled\n")
            logging.getLogger("aftershock.kg").info("mined")
            logging.getLogger("fontTools").info("pruned")
            logging.getLogger("fontTools").warning("torn")
            print("bar", file=run.console)
    assert drawn[0] == drawn[1]
    assert run.device in ("cpu", "cuda")
    log = Path(job.log[0]).read_text()
    assert "printed" in log
    assert "compiled" in log
    assert all(word in log for word in ("mined", "torn"))
    assert "pruned" not in log
    assert capfd.readouterr() == ("", "bar\nbar\n")
    record = json.loads(Path("results/jobs/edit/toy.5.json").read_text())
    assert record["rule"] == "edit"
    assert record["wildcards"] == {"kg": "toy", "seed": "5"}
    assert record["state"] == "done"
    assert record["outputs"] == ["results/toy.parquet"]
    assert record["provenance"].items() <= run.provenance.items()
    assert record["seconds"] > 0
    assert record["peak_bytes"] > 10**7


def test_a_label_that_a_terminal_lacks_ends_no_job(job, capfd, monkeypatch) -> None:
    monkeypatch.setattr("aftershock.stage.locale.getencoding", lambda: "ascii")
    with stage(job) as run:
        print("Łódź", file=run.console)
        print("Łódź \ud800")
    assert capfd.readouterr().err == "\\u0141\\xf3d\\u017a\n"
    assert "Łódź \\ud800" in Path(job.log[0]).read_text(encoding="utf-8")


def test_a_record_follows_a_job(job: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "WRITE_SECONDS", 0.01)
    path, deadline = Path("results/jobs/edit/toy.5.json"), time.monotonic() + 30
    with stage(job) as run:
        assert json.loads(path.read_text())["done"] is None
        run.progress.begin("Editing", 5, "case")
        run.progress.step(2)
        while (found := json.loads(path.read_text()))["done"] != 2:
            assert time.monotonic() < deadline
        assert (found["state"], found["total"], found["unit"]) == ("running", 5, "case")
        assert found["pid"] == os.getpid()


def test_a_job_that_is_told_to_end_leaves_nothing_half_written(job: SimpleNamespace) -> None:
    handler = signal.getsignal(signal.SIGTERM)

    def told_to_end() -> None:
        with stage(job), whole_file("results/a.txt") as part:
            part.write_text("half")
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        told_to_end()
    assert signal.getsignal(signal.SIGTERM) == handler
    assert json.loads(Path("results/jobs/edit/toy.5.json").read_text())["state"] == "stopped"
    assert not [path for path in Path("results").iterdir() if path.is_file()]


def test_a_log_has_a_line_now_and_then_and_a_terminal_a_bar(
    job: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    console = StringIO()
    with stage(job) as run:
        run.progress.begin("Editing", 5, "case")
        run.progress.step(2, loss=0.5)
        monkeypatch.setattr(console, "isatty", lambda: True)
        bar = Progress(console)
        bar.begin("Editing", 5, "case")
        bar.step(5)
        bar.end()
    assert "Editing: 2 of 5 cases" in Path(job.log[0]).read_text()
    assert "loss 0.5" in Path(job.log[0]).read_text()
    assert "5/5" in console.getvalue()


def test_provenance_depends_on_settings_and_code_only(job: SimpleNamespace) -> None:
    def provenance(**params: Any) -> dict[str, Any]:
        job.params = params
        with stage(job) as run:
            return run.provenance

    first = provenance(seed=5, lr=0.1, code="a")
    assert first == provenance(lr=0.1, code="a", seed=5)
    here = {"threads", "processor"} if "torch" in sys.modules else set()
    assert {"rule", "wildcards", "config", "code", "seed", "versions"} | here == set(first)
    assert {"aftershock", "python"} <= set(first["versions"])
    assert first["config"] != provenance(seed=5, lr=0.2, code="a")["config"]
    assert first["config"] == provenance(seed=5, lr=0.1, code="b")["config"]


def test_a_gpu_is_named_and_told_to_be_deterministic(
    job: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def deterministic() -> bool:
        return torch.are_deterministic_algorithms_enabled()

    with stage(job) as run:
        assert run.device == "cpu"
        assert not deterministic()  # results of the processor stay as they were
        assert "gpu" not in run.provenance
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Toy")
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    precision = torch.backends.cuda.matmul.fp32_precision
    try:
        with stage(job) as run:
            assert run.device == "cuda"
            assert deterministic()
        assert run.provenance["gpu"] == "Toy"
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert not torch.backends.cudnn.benchmark
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cuda.matmul.fp32_precision = precision
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


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
    found = json.loads(Path("results/jobs/edit/toy.5.json").read_text())
    assert found["state"] == "failed"
    assert found["error"]["kind"] == "ValueError"
    assert found["error"]["text"] == "no relation P22"


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told to keep memory")
def test_freed_memory_is_used_again_without_being_paged_in_anew():
    code = """
import resource, sys
import numpy as np
from aftershock.process import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():
    blocks = [np.ones(2**19) for _ in range(4)]  # 4 MiB each
use()
before = faults()
for _ in range(20):
    use()
print(faults() - before)
"""
    pages = 4 * 2**22 // os.sysconf("SC_PAGE_SIZE")

    def measured(how: str) -> int:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
        command = [sys.executable, "-c", code, how]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return int(run.stdout)

    assert measured("keep") < pages
    assert measured("as it is") > 5 * pages
