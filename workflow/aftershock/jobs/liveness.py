"""Liveness of a folder's run and of the jobs whose records say that they are running."""

import socket
import time
from collections.abc import Mapping
from typing import Any

from aftershock.jobs.folder import PreflightError
from aftershock.jobs.orphans import LastRun, read_run
from aftershock.jobs.record import WRITE_SECONDS, read_records
from aftershock.jobs.slurm_jobs import SlurmJob
from aftershock.lock import LOCK
from aftershock.process import find_process

NEEDED = {"rule", "log", "state", "host", "pid", "started", "seconds"}
SILENT_SECONDS = 6 * WRITE_SECONDS
"""After this time without an update, a job on a machine that cannot be queried counts as gone."""


def newest_run() -> LastRun | None:
    """The newest run of the current folder; None before the first, or where no record of it is whole."""
    try:
        last = read_run()
    except (PreflightError, OSError):
        last = None
    try:
        pid, host, started = LOCK.read_text(encoding="utf-8").split(" ", 2)
        holder = LastRun([], host, int(pid), started.strip(), None)
    except (OSError, ValueError):
        return last
    # a run that has not recorded more yet
    return holder if holder.alive and (last is None or last.pid != holder.pid) else last


def read_jobs(slurm: Mapping[str, SlurmJob] | None) -> list[dict[str, Any]]:
    """The intact records of the current folder. A job that has vanished has the state "gone"."""
    found = [record for record in read_records() if record.keys() >= NEEDED]
    for record in found:
        if record["state"] == "running" and not is_running(record, slurm, record["written"]):
            record["state"] = "gone"
    return found


def is_running(record: Mapping[str, Any], slurm: Mapping[str, SlurmJob] | None, written: float) -> bool:
    """True if the job of a record in state "running" is running.

    `slurm` has the jobs that SLURM knows, None where it cannot be asked; `written` is when the record was
    written last.
    """
    if record.get("slurm_job") and slurm is not None:
        job = slurm.get(record["slurm_job"])
        return job is not None and job.running
    if not record.get("slurm_job") and record["host"] == socket.gethostname():
        return find_process(record["pid"], record["started"]) is not None
    return time.time() - written < SILENT_SECONDS
