"""The record and the surviving SLURM jobs of an earlier run of this folder.

SLURM jobs run on when the run that submitted them is killed. Their names start with a prefix that belongs to
the folder, so that the next run finds them and never works beside them.
"""

import argparse
import hashlib
import json
import os
import re
import socket
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from aftershock.jobs import slurm
from aftershock.jobs.folder import PreflightError
from aftershock.output import write_text
from aftershock.process import find_process
from aftershock.project import command

STAMP = "%Y-%m-%d %H:%M:%S"
CANCEL = command("resume", "--orphans cancel")
RUN_FILE = Path("results/.run.json")
LINE_SECONDS = 60.0
"""Seconds between two lines about jobs that are waited for."""
PAUSE_SECONDS = 3.0
PATIENCE_SECONDS = 600.0
"""Longest time without an answer of SLURM while jobs are waited for."""
SECRET = re.compile(r"--\S*(secret|passw|token|access-key)", re.IGNORECASE)


@dataclass(frozen=True)
class LastRun:
    """The record of a run, in results/.run.json."""

    arguments: list[str] | None
    """Snakemake's arguments; None where one of them may be a secret."""
    host: str
    pid: int
    started: str
    job_prefix: str | None
    """Prefix of its SLURM jobs' names; None for a run that submits none."""
    exit: int | None = None
    """Its exit code; None while it runs, and for ever when it was killed."""
    said: str | None = None
    """The error that ended it, as the terminal had it; None for a run that went well."""

    def __post_init__(self) -> None:
        time.strptime(self.started, STAMP)  # ValueError where it is no time

    @property
    def began(self) -> float:
        """Its start in seconds since 1970."""
        return time.mktime(time.strptime(self.started, STAMP))

    @property
    def alive(self) -> bool | None:
        """True if it is running; None for one on another machine without a recorded end."""
        if self.exit is not None:
            return False
        if self.host != socket.gethostname():
            return None
        return find_process(self.pid, self.began) is not None

    @property
    def profile(self) -> str:
        """The folder of its profile; "" without one."""
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--profile", default="")
        return parser.parse_known_args(self.arguments or [])[0].profile


def read_run(path: Path = RUN_FILE) -> LastRun | None:
    """The record of the last run in this folder; None before the first."""
    if not path.exists():
        return None
    try:
        return LastRun(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise PreflightError(f"{path} is no record of a run ({error}). Delete it, then: make run") from None


def begin_run(arguments: list[str], job_prefix: str | None) -> LastRun:
    """Record that this process starts a run."""
    kept = None if any(SECRET.match(argument) for argument in arguments) else list(arguments)
    now = time.strftime(STAMP)
    run = LastRun(kept, socket.gethostname(), os.getpid(), now, job_prefix)
    _write(run)
    return run


def end_run(run: LastRun, code: int, said: str | None = None) -> None:
    """Record how a run ended."""
    _write(replace(run, exit=code, said=said))


def _write(run: LastRun) -> None:
    write_text(RUN_FILE, json.dumps(asdict(run), indent=1))


def job_prefix(results: Path) -> str:
    """Prefix of the names of SLURM jobs that write into a folder, from its name and its path.

    At most 41 of A-Za-z0-9_-, as the executor plugin asks for. A link to a folder is that folder.
    """
    real = results.resolve()
    name = real.parent.name if real.name == RUN_FILE.parent.name else real.name
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:32]
    place = hashlib.sha256(os.fsencode(real)).hexdigest()[:8]
    return f"{slug or 'run'}-{place}"


def find_orphans(prefix: str, last: LastRun | None, required: bool) -> list[slurm.SlurmJob]:
    """SLURM jobs of this folder that have not ended.

    Raises SlurmError or PreflightError when that is unknown although it matters: when it is `required`,
    or when the last run submitted jobs and was killed.
    """
    killed = last is not None and last.job_prefix is not None and last.exit is None
    if not slurm.is_here():
        if last is not None and killed:
            raise PreflightError(
                f"the last run here, on {last.host}, was killed, and SLURM jobs of it may still write into "
                f"{RUN_FILE.parent}/; {socket.gethostname()} has no SLURM to ask. Run `{command('resume')}` "
                f"on the cluster, or delete {RUN_FILE} if you know that they have ended"
            )
        return []
    try:
        return slurm.queued(prefix)
    except slurm.SlurmError:
        if required or killed:
            raise
        return []


def refuse_orphans(jobs: list[slurm.SlurmJob]) -> None:
    """Raise PreflightError when jobs of an earlier run are left."""
    if jobs:
        running = sum(job.state != "PENDING" for job in jobs)
        are = "is" if len(jobs) == 1 else "are"
        count = f"{running} running, {len(jobs) - running} pending: {_some_ids(jobs)}"
        raise PreflightError(
            f"{_jobs(len(jobs))} of an earlier run of this folder {are} still in SLURM ({count}). "
            f"To wait for those that run and go on: {command('resume')}; to cancel them: {CANCEL}"
        )


def settle_orphans(prefix: str, jobs: list[slurm.SlurmJob], cancel: bool) -> None:
    """Wait until none of `jobs`, nor any other of this folder, is left in SLURM.

    Pending jobs are cancelled; running ones are waited for, or cancelled too. Raises SlurmError when SLURM
    gives no answer for PATIENCE_SECONDS.
    """
    told = -LINE_SECONDS
    cancelled: set[str] = set()
    while jobs:
        pending = [job.id for job in jobs if job.state == "PENDING"]
        slurm.cancel(pending, pending_only=True)
        running = [job for job in jobs if job.state != "PENDING"]
        if cancel:
            slurm.cancel([job.id for job in running if job.id not in cancelled])
            cancelled |= {job.id for job in running}
        if time.monotonic() - told >= LINE_SECONDS:
            _say(pending, running, cancel)
            told = time.monotonic()
        time.sleep(PAUSE_SECONDS if running else 0.5)
        jobs = _queued_patiently(prefix)


def _queued_patiently(prefix: str) -> list[slurm.SlurmJob]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return slurm.queued(prefix)
        except slurm.SlurmError as error:
            if time.monotonic() > deadline:
                raise
            print(f"{error}. Trying again", file=sys.stderr)
            time.sleep(PAUSE_SECONDS)


def _say(pending: list[str], running: list[slurm.SlurmJob], cancel: bool) -> None:
    if pending:
        print(f"Cancelling {_jobs(len(pending))} of the last run that had not started.", file=sys.stderr)
    if running and cancel:
        print(f"Cancelling {_jobs(len(running))} of the last run: {_some_ids(running)}.", file=sys.stderr)
    elif running:
        print(
            f"Waiting for {_jobs(len(running))} of the last run: {_some_ids(running)}. "
            f"To cancel instead: Ctrl-C, then {CANCEL}",
            file=sys.stderr,
            flush=True,
        )


def _jobs(count: int) -> str:
    return f"{count} job{'' if count == 1 else 's'}"


def _some_ids(jobs: list[slurm.SlurmJob], shown: int = 5) -> str:
    more = f" and {len(jobs) - shown} more" if len(jobs) > shown else ""
    return " ".join(job.id for job in jobs[:shown]) + more
