"""Causes of failures that no recorded run has, by their evidence; texts as programs write them."""

import re
from typing import Any

import pytest

from aftershock.jobs.run import Job
from aftershock.jobs.why import _sheet, _values, cause_of, last_error

GIB = 2**30
LOG, PROFILE = "results/logs/edit/a.log", "p/config.yaml"


def failed(kind: str, text: str, **fields: Any) -> dict[str, Any]:
    """The record of a job that ended with an error."""
    error = {"kind": kind, "text": text}
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
    return Job("edit", LOG, record or {}, message=message, slurm_job=slurm_job, **fields)


AGAIN = "aftershock resume"
ERRORS = {
    "CacheError: results/x is of another endpoint": ("input", "{0}", "put right"),
    "TypeError: no operand": ("program", "{0}", f"traceback in {LOG}"),
    "OSError: [Errno 122] Disk quota exceeded: 'x'": ("disk", "used up: [Errno 122]", "raise the quota"),
    "IOException: IO Error: No space left on device": ("disk", "No space left", "free some space"),
    "OSError: [Errno 30] Read-only file system: 'x'": ("read-only", "'x'", "that place writable on node1"),
    "ArrowInvalid: Parquet magic bytes not found": ("damaged file", "{0}", "delete the file that it read"),
    "ValueError: MEND ended without a finite loss": ("nan", "finite loss", "change the settings it names"),
    "RunGoneError: the run has ended": ("stopped", "ended after 60 s as its run was gone", AGAIN),
    "OutOfMemoryError: CUDA out of memory. GPU 0": ("gpu memory", "70.0 GB used: CUDA", "with more memory"),
}
"""Cause of a job that ended with an error: its kind, what happened ("{0}": the error), the remedy."""
REFUSALS = {
    "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)": "`jobs:`",
    "Invalid qos specification": "as `qos`",
    "Invalid account or account/partition combination specified": "as `slurm_account`",
    "Unable to contact slurm controller (connect failure)": "run again when `sinfo` does",
}
"""What to do about each reason for which sbatch did not take a job."""
MORE = "`set-resources: edit: mem_mb: 16000` in p/config.yaml"
NO_DISK = "Traceback (most recent call last):\n  x\nOSError: [Errno 28] No space left on device"
CGROUP = "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.0. Some of your processes may"
EXITED = "RuleException: CalledProcessError in file x: 'x' returned non-zero exit status 1."
PREEMPTED = "*** JOB 7 ON n1 CANCELLED AT 10:00 DUE TO PREEMPTION ***"
OTHERS = [
    (
        job(failed("MemoryError", "no room for a single case", peak_bytes=GIB), slurm_job="7"),
        *("memory", "out of memory, 1024 MB used, 8000 MB allowed: no room", MORE),
    ),
    (
        job(vanished(peak_bytes=7 * GIB), slurm_job="7", slurm_log=CGROUP),
        *("memory", "out of memory: 7168 MB used, 8000 MB allowed", MORE),
    ),
    (
        job(vanished(peak_bytes=2000 * 2**20), slurm_job="7"),
        *("killed", "killed without a word after 60 s, 2000 MB used, 8000 MB allowed"),
        f"if node1 had no memory left: {MORE}",
    ),
    (job(vanished(), log_end=NO_DISK), "disk", "[Errno 28]", "free some space"),  # nor room for its record
    (job(vanished(), slurm_log=PREEMPTED), "preempted", "a more urgent job after 60 s", AGAIN),
    (
        job(vanished(host="node9"), slurm_log="SLURM status is: 'NODE_FAIL'"),
        *("node", "its node node9 went down", "slurm-exclude-failed-nodes: node9"),
    ),
    (
        job(vanished(state="stopped", done=3, total=9, unit="batch")),
        *("stopped", "told to end after 60 s with 3 of 9 batches done", AGAIN),
    ),
    (job(message=EXITED), "unknown", "it ended with an error, and no log says why", f"see {LOG}"),
    (job(), "unknown", "no log says why", f"see {LOG}"),
]


def check(evidence: Job, kind: str, what: str, remedy: str) -> None:
    found = cause_of(evidence, PROFILE)
    assert found.kind == kind
    assert what in found.what
    assert remedy in found.remedy
    assert "\n" not in found.what


@pytest.mark.parametrize("error", ERRORS)
def test_errors_of_a_job(error: str) -> None:
    kind, what, remedy = ERRORS[error]
    record = failed(*error.split(": ", 1), gpu_peak_bytes=70 * GIB)
    check(job(record), kind, what.format(error), remedy)


@pytest.mark.parametrize("reason", REFUSALS)
def test_refusals_of_slurm(reason: str) -> None:
    check(refused(reason), "rejected", f"SLURM did not take it: {reason}", REFUSALS[reason])


@pytest.mark.parametrize(("evidence", "kind", "what", "remedy"), OTHERS)
def test_other_ends(evidence: Job, kind: str, what: str, remedy: str) -> None:
    check(evidence, kind, what, remedy)


def test_a_longer_time_follows_from_what_was_done() -> None:
    """A quarter was done in 60 minutes: four times as long, and twice that."""
    late = job(vanished(done=25, total=100, unit="case"), slurm_log="SLURM status is: 'TIMEOUT'")
    found = cause_of(late, PROFILE)
    assert found.what == "its time limit of 60 min was over with 25 of 100 cases done"
    assert "runtime: 480`" in found.remedy


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
    assert cause_of(job({}, slurm_log=text), PROFILE).what == "no trial worked"
    assert last_error("all went well") == ""
    refused = cause_of(job({}, slurm_log="srun: error: Unable to confirm allocation for job 7"), PROFILE)
    assert (refused.kind, refused.what) == ("unknown", "Unable to confirm allocation for job 7")


def test_every_row_of_the_sheet() -> None:
    """Texts have only known braces, each pattern is one, and each source ends with a row that always fits."""
    rows = _sheet()
    assert {len(row) for row in rows} == {5}
    assert {source for source, *_ in rows} == {"refusal", "error", "end"}
    values = _values(job({}), "Error: a", PROFILE)
    for _, kind, pattern, what, remedy in rows:
        re.compile(pattern)
        assert kind
        assert what.format(**values)
        assert remedy.format(**values)
    last = {source: pattern for source, _, pattern, *_ in rows}
    assert last["refusal"] == last["error"] == ""
