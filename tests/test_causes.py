"""Causes of failures that no recorded run has, by their evidence; texts as programs write them."""

import re
from dataclasses import replace
from typing import Any

import pytest

from aftershock.jobs.causes import _sheet, _values, cause_of, last_error
from aftershock.jobs.job import Failure, Job

GIB = 2**30


def failed(kind: str, text: str, **fields: Any) -> dict[str, Any]:
    """The record of a job that ended with an error."""
    error = {"kind": kind, "text": text, "place": "memit.py:88"}
    asked = {"mem_mb": 8000, "runtime": 60}
    return {"state": "failed", "error": error, "host": "node1", "seconds": 60.0, "asked": asked, **fields}


def vanished(**fields: Any) -> dict[str, Any]:
    """The record of a job whose process is gone."""
    return failed("", "") | {"state": "gone", "error": None, **fields}


def refused(text: str) -> Job:
    """A job that sbatch did not take."""
    return job(
        message="SLURM sbatch failed. The error message was 'sbatch: error: AssocMaxSubmitJobLimit "
        f"sbatch: error: Batch job submission failed: {text}'. sbatch call: x"
    )


def job(
    record: dict[str, Any] | None = None, message: str = "", slurm_job: str | None = None, **fields: Any
) -> Job:
    """A job with a record, or with a failure that only its run has noted."""
    found = Job("edit", "results/logs/edit/a.log")
    if record is None:
        found.failures = [Failure(0.0, message, slurm_job=slurm_job)]
    else:
        found.record = record | {"slurm_job": slurm_job}
    return replace(found, profile="p/config.yaml", **fields)


CASES = {
    "CUDA's memory": (
        job(
            failed(
                "OutOfMemoryError",
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB",
                gpu_peak_bytes=70 * GIB,
            )
        ),
        "gpu memory",
        "70.0 GB used: CUDA out of memory. Tried to allocate 2.00 GiB",
        "a GPU with more memory",
    ),
    "a single case that does not fit": (
        job(
            failed("MemoryError", "the edit ran out of memory with a single case", peak_bytes=GIB),
            slurm_job="7",
        ),
        "memory",
        "out of memory, 1024 MB used, 8000 MB allowed: the edit ran",
        "`set-resources: edit: mem_mb: 16000` in p/config.yaml",
    ),
    "cgroups": (
        job(
            vanished(peak_bytes=7 * GIB),
            slurm_job="7",
            slurm_log="slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.0. "
            "Some of your processes may have been killed by the cgroup out-of-memory handler.",
        ),
        "memory",
        "out of memory: 7168 MB used, 8000 MB allowed",
        "`set-resources: edit: mem_mb: 16000` in p/config.yaml",
    ),
    "a silent end": (
        job(vanished(peak_bytes=2000 * 2**20), slurm_job="7"),
        "killed",
        "killed without a word after 60 s, 2000 MB used, 8000 MB allowed",
        "if node1 had no memory left: `set-resources: edit: mem_mb: 16000` in p/config.yaml",
    ),
    "the quota": (
        job(failed("OSError", "[Errno 122] Disk quota exceeded: 'results/x'")),
        "disk",
        "Disk quota exceeded",
        "raise the quota",
    ),
    "a database's full disk": (
        job(failed("IOException", "IO Error: No space left on device")),
        "disk",
        "No space left",
        "free some space",
    ),
    "a full disk on which no record could be written": (
        job(
            vanished(),
            log_end="Traceback (most recent call last):\n  x\nOSError: [Errno 28] No space left on device",
        ),
        "disk",
        "[Errno 28]",
        "free some space",
    ),
    "a read-only folder": (
        job(failed("OSError", "[Errno 30] Read-only file system: 'results/x'")),
        "read-only",
        "'results/x'",
        "make that place writable on node1",
    ),
    "a damaged table": (
        job(failed("ArrowInvalid", "Parquet magic bytes not found in footer.")),
        "damaged file",
        "ArrowInvalid: Parquet magic bytes not found",
        "delete the file that it read",
    ),
    "training that found nothing": (
        job(failed("ValueError", "training MEND ended without a finite dev loss; lower mend.lr (0.001)")),
        "nan",
        "lower mend.lr (0.001)",
        "change the settings it names",
    ),
    "an error of our own": (
        job(failed("CacheError", "results/kg/x/cache is of another endpoint; delete it")),
        "input",
        "CacheError: results/kg/x/cache",
        "put right",
    ),
    "an error of the program": (
        job(failed("TypeError", "unsupported operand")),
        "program",
        "TypeError at memit.py:88: unsupported operand",
        "traceback in results/logs/edit/a.log",
    ),
    "SLURM's limits of a user": (
        refused("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"),
        "rejected",
        "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
        "`jobs:` in p/config.yaml",
    ),
    "a quality of service that is unknown": (
        refused("Invalid qos specification"),
        "rejected",
        "SLURM did not take it: Invalid qos specification",
        "as `qos` in p/config.yaml",
    ),
    "an account that is nobody's": (
        refused("Invalid account or account/partition combination specified"),
        "rejected",
        "Invalid account or account/partition combination specified",
        "as `slurm_account` in p/config.yaml",
    ),
    "a controller that is away": (
        refused("Unable to contact slurm controller (connect failure)"),
        "rejected",
        "Unable to contact slurm controller",
        "run again when `sinfo` does",
    ),
    "preemption": (
        job(vanished(), slurm_job="7", slurm_log="*** JOB 7 ON n1 CANCELLED AT 10:00 DUE TO PREEMPTION ***"),
        "preempted",
        "a more urgent job after 60 s",
        "aftershock resume",
    ),
    "a lost node": (
        job(vanished(host="node9"), slurm_job="7", slurm_log="SLURM status is: 'NODE_FAIL'"),
        "node",
        "its node node9 went down",
        "slurm-exclude-failed-nodes: node9",
    ),
    "Ctrl-C": (
        job(vanished(state="stopped", done=3, total=9, unit="batch")),
        "stopped",
        "told to end after 60 s with 3 of 9 batches done",
        "aftershock resume",
    ),
    "a run that is gone": (
        job(failed("RunGoneError", "the run that started this stage (process 7) has ended")),
        "stopped",
        "ended after 60 s as its run was gone",
        "aftershock resume",
    ),
    "a script that did not come to its stage": (
        job(message="RuleException: CalledProcessError in file x: 'x' returned non-zero exit status 1."),
        "unknown",
        "its script ended with exit status 1, and no log says why",
        "see results/logs/edit/a.log",
    ),
    "nothing at all": (job(), "unknown", "no log says why", "see results/logs/edit/a.log"),
}


@pytest.mark.parametrize("name", CASES)
def test_causes(name: str) -> None:
    evidence, kind, what, remedy = CASES[name]
    found = cause_of(evidence)
    assert found.kind == kind
    assert what in found.what
    assert remedy in found.remedy
    assert "\n" not in found.what


def test_a_longer_time_follows_from_what_was_done() -> None:
    """A quarter was done in 60 minutes: four times as long, and half as much again."""
    found = cause_of(job(vanished(done=25, total=100, unit="case"), slurm_log="SLURM status is: 'TIMEOUT'"))
    assert found.what == "its time limit of 60 min was over with 25 of 100 cases done"
    assert "runtime: 360`" in found.remedy
    assert (
        "runtime: 1200`"
        in cause_of(
            job(vanished(done=1, total=1000, unit="case"), slurm_log="SLURM status is: 'TIMEOUT'")
        ).remedy
    )


def test_the_last_error_of_a_log() -> None:
    text = """\
Building DAG of jobs...
tune: aftershock.tune.ValueError: no trial worked (traceback in x.log)
CalledProcessError in file "Snakefile", line 23:
WorkflowError:
At least one job did not complete successfully.
srun: error: node1: task 0: Exited with exit code 1
"""
    assert last_error(text) == "ValueError: no trial worked"
    assert cause_of(job({}, slurm_log=text)).what == "no trial worked"
    assert last_error("all went well") == ""
    refused = cause_of(job({}, slurm_log="srun: error: Unable to confirm allocation for job 7"))
    assert (refused.kind, refused.what) == ("unknown", "Unable to confirm allocation for job 7")


def test_every_row_of_the_sheet() -> None:
    """Texts have only known braces, each pattern is one, and each source ends with a row that always fits."""
    rows = _sheet()
    assert {len(row) for row in rows} == {5}
    assert {source for source, *_ in rows} == {"refusal", "error", "end"}
    values = _values(job({}), "Error: a")
    for _, kind, pattern, what, remedy in rows:
        re.compile(pattern)
        assert kind
        assert what.format(**values)
        assert remedy.format(**values)
    last = {source: pattern for source, _, pattern, *_ in rows}
    assert last["refusal"] == last["error"] == ""
