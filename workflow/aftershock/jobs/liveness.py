"""Liveness of a folder's run and of the jobs whose records say that they are running."""

import json
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psutil

from aftershock.jobs.folder import PreflightError
from aftershock.jobs.orphans import read_run
from aftershock.jobs.record import FOLDER, WRITE_SECONDS
from aftershock.jobs.slurm_jobs import SlurmJob
from aftershock.lock import LOCK
from aftershock.process import CLOCK_SECONDS, alive

NEEDED = {"rule", "log", "state", "host", "pid", "started", "seconds"}
SILENT_SECONDS = 6 * WRITE_SECONDS
"""After this time without an update, a job on a machine that cannot be queried counts as gone."""


@dataclass(frozen=True)
class RunInfo:
    """The newest run of a folder, as recorded when it began."""

    pid: int
    host: str
    started: float
    """Seconds since 1970."""
    arguments: tuple[str, ...] = ()
    """Snakemake's arguments."""
    exit: int | None = None
    """Its exit code; None while it runs, and for ever when it was killed."""
    said: str = ""
    """The error that ended it, as the terminal had it."""

    @property
    def alive(self) -> bool | None:
        """True if it is running; None for one on another machine without a recorded end."""
        if self.exit is not None:
            return False
        if self.host != socket.gethostname():
            return None
        return _is_process(self.pid, self.started)

    @property
    def profile(self) -> str:
        """The folder of its profile; "" without one."""
        return _option(self.arguments, "--profile")


def read_run_info() -> RunInfo | None:
    """The newest run of the current folder; None before the first."""
    last, holder = _from_file(), _from_lock()
    if holder and holder.alive and (last is None or last.pid != holder.pid):
        return holder  # a run that has not recorded more yet
    return last


def _from_file() -> RunInfo | None:
    """The run in its record; None where there is no complete record."""
    try:
        found = read_run()
        if found is None:
            return None
        started = datetime.fromisoformat(found.started).timestamp()
        arguments = tuple(found.arguments or ())
        return RunInfo(found.pid, found.host, started, arguments, found.exit, found.said or "")
    except (PreflightError, OSError, ValueError, TypeError):
        return None


def _from_lock() -> RunInfo | None:
    """The process that took the folder's lock last."""
    try:
        pid, host, started = LOCK.read_text(encoding="utf-8").split(" ", 2)
        return RunInfo(int(pid), host, datetime.fromisoformat(started.strip()).timestamp())
    except (OSError, ValueError):
        return None


def read_jobs(slurm: Mapping[str, SlurmJob] | None) -> list[dict[str, Any]]:
    """The intact records of the current folder. A job that has vanished has the state "gone"."""
    found = []
    for path in sorted(FOLDER.glob("*/*.json")):
        try:
            written, record = path.stat().st_mtime, json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # replaced at this moment, or damaged: its job writes it anew
            continue
        if isinstance(record, dict) and record.keys() >= NEEDED:
            if record["state"] == "running" and not is_running(record, slurm, written):
                record["state"] = "gone"
            found.append(record)
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
        return _is_process(record["pid"], record["started"])
    return time.time() - written < SILENT_SECONDS


def _is_process(pid: int, started: float) -> bool:
    """True if the process with this number is the one that began about then."""
    try:
        process = psutil.Process(pid)
        return alive(process) and process.create_time() - started < CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return False


def _option(arguments: Sequence[str], wanted: str) -> str:
    """The value of an option; "" without it."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == wanted:
            return value if equals else next(iter(arguments[place + 1 :]), "")
    return ""
