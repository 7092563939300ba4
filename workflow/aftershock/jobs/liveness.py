"""Who is at work: whether the run that a folder belongs to, and a job that says it is running, are alive."""

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from aftershock.jobs.record import FOLDER, WRITE_SECONDS
from aftershock.jobs.slurm_jobs import SlurmJob
from aftershock.process import CLOCK_SECONDS, alive

NEEDED = {"rule", "log", "state", "host", "pid", "started", "seconds"}
RUN_FILE = Path("results/.run.json")
LOCK = Path("results/.lock")
SILENT_SECONDS = 6 * WRITE_SECONDS
"""Without a sign of life for so long, a job on a machine that cannot be asked counts as gone."""


@dataclass(frozen=True)
class RunInfo:
    """The newest run of a folder, as it said when it began."""

    pid: int
    host: str
    started: float
    """Seconds since 1970."""
    arguments: list[str] = field(default_factory=list)

    @property
    def alive(self) -> bool | None:
        """Whether it is at work; None for one on another machine."""
        if self.host != socket.gethostname():
            return None
        return _is_process(self.pid, self.started)

    @property
    def profile(self) -> str:
        """The folder of its profile; "" without one."""
        return _option(self.arguments, "--profile", "--workflow-profile")


def read_run_info() -> RunInfo | None:
    """The newest run of the current folder; None before the first."""
    try:
        found = json.loads(RUN_FILE.read_text(encoding="utf-8"))
        started = _seconds(found["started"])
        return RunInfo(int(found["pid"]), found["host"], started, list(found.get("arguments", [])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    try:  # a run that was started before that file was there
        pid, _, started = LOCK.read_text(encoding="utf-8").partition(" ")
        return RunInfo(int(pid), socket.gethostname(), _seconds(started))
    except (OSError, ValueError):
        return None


def read_jobs(slurm: Mapping[str, SlurmJob] | None) -> list[dict[str, Any]]:
    """The records of the current folder, whole ones only. A job that has vanished has the state "gone"."""
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
    """Whether the job of a record in state "running" is at work.

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
    """Whether the process that has this number is the one that began about then."""
    try:
        process = psutil.Process(pid)
        return alive(process) and process.create_time() - started < CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return False


def _seconds(moment: Any) -> float:
    """Seconds since 1970 of a number, or of a date in local time."""
    if isinstance(moment, int | float):
        return float(moment)
    return datetime.fromisoformat(moment.strip()).timestamp()


def _option(arguments: list[str], *names: str) -> str:
    """The value of an option of Snakemake's; "" without it."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            return value if equals else next(iter(arguments[place + 1 :]), "")
    return ""
