"""The surviving SLURM jobs of an earlier run of this folder.

SLURM jobs run on when the run that submitted them is killed. Their names start with a prefix that belongs to
the folder, so that the next run finds them and never works beside them.
"""

import hashlib
import os
import re
import socket
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from aftershock.jobs import slurm
from aftershock.jobs.folder import PreflightError
from aftershock.jobs.run import FOLDER, Run, read_run
from aftershock.project import command

__all__ = ["find_orphans", "job_prefix", "read_run", "refuse_orphans", "settle_orphans"]

CANCEL = command("resume", "--orphans cancel")
PAUSE_SECONDS = 3.0


def job_prefix(results: Path) -> str:
    """Prefix of the names of SLURM jobs that write into a folder, from its name and its path.

    At most 41 of A-Za-z0-9_-, as the executor plugin asks for. A link to a folder is that folder.
    """
    real = results.resolve()
    name = real.parent.name if real.name == "results" else real.name
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:32]
    return f"{slug or 'run'}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:8]}"


def find_orphans(prefix: str, last: Run | None, required: bool) -> list[slurm.SlurmJob]:
    """SLURM jobs of this folder that have not ended.

    Raises SlurmError or PreflightError when that is unknown although it matters: when it is `required`,
    or when the last run submitted jobs and was killed.
    """
    killed = last if last and last.job_prefix and last.exit is None else None
    if killed and not slurm.is_here():
        raise PreflightError(
            f"the last run here, on {killed.host}, was killed, and SLURM jobs of it may still write into "
            f"results/; {socket.gethostname()} has no SLURM to ask. Run `{command('resume')}` on the "
            f"cluster, or delete the newest file in {FOLDER} if you know that they have ended"
        )
    try:
        return slurm.queued(prefix)
    except slurm.SlurmError:
        if killed or required:
            raise
        return []


def refuse_orphans(jobs: Sequence[slurm.SlurmJob]) -> None:
    """Raise PreflightError when jobs of an earlier run are left."""
    if jobs:
        pending, are = sum(job.waiting for job in jobs), "is" if len(jobs) == 1 else "are"
        count = f"{len(jobs) - pending} running, {pending} pending: {_some([job.id for job in jobs])}"
        raise PreflightError(
            f"{_jobs(jobs)} of an earlier run of this folder {are} still in SLURM ({count}). "
            f"To wait for those that run and go on: {command('resume')}; to cancel them: {CANCEL}"
        )


def settle_orphans(prefix: str, jobs: Sequence[slurm.SlurmJob], cancel: bool) -> None:
    """Wait until none of `jobs`, nor any other of this folder, is left in SLURM, which may be silent.

    Pending jobs are cancelled; running ones are waited for, or cancelled too.
    """
    pending = [job.id for job in jobs if job.waiting]
    running = [job.id for job in jobs if not job.waiting]
    if pending:
        print(f"Cancelling {_jobs(pending)} of the last run that had not started.", file=sys.stderr)
    if running:
        of_them = f"{_jobs(running)} of the last run: {_some(running)}."
        wait = f"Waiting for {of_them} To cancel instead: Ctrl-C, then {CANCEL}"
        print(f"Cancelling {of_them}" if cancel else wait, file=sys.stderr)
    options = () if cancel else ("--state=PENDING",)  # which one that has just started is not
    while jobs:
        try:
            slurm.cancel([job.id for job in jobs if cancel or job.waiting], *options)
            time.sleep(PAUSE_SECONDS)
            jobs = slurm.queued(prefix)
        except slurm.SlurmError as error:
            print(f"{error}. Trying again", file=sys.stderr)
            time.sleep(PAUSE_SECONDS)


def _jobs(jobs: Collection[object]) -> str:
    return f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}"


def _some(ids: Sequence[str], shown: int = 5) -> str:
    return " ".join(ids[:shown]) + (f" and {len(ids) - shown} more" if len(ids) > shown else "")
