"""The surviving SLURM jobs of an earlier run of this folder.

SLURM jobs run on when the run that submitted them is killed. Their names start with a prefix that belongs to
the folder, so that the next run finds them and never works beside them.
"""

import hashlib
import os
import re
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from aftershock.jobs import slurm
from aftershock.jobs.folder import PreflightError
from aftershock.jobs.run import FOLDER, read_run
from aftershock.project import command

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


def find_orphans(prefix: str, required: bool) -> dict[str, str]:
    """States of the SLURM jobs of this folder that have not ended, by id.

    Raises SlurmError or PreflightError when that is unknown although it matters: when it is `required`,
    or when the last run submitted jobs and was killed.
    """
    last = read_run()
    killed = last if last and last.job_prefix and last.exit is None else None
    try:
        return slurm.queued(prefix)
    except slurm.SlurmError as error:
        if killed:
            raise PreflightError(
                f"the last run here, on {killed.host}, was killed, and SLURM jobs of it may still write into "
                f"results/. {error}; or delete the newest file in {FOLDER} if you know that they have ended"
            ) from None
        if required:
            raise
        return {}


def refuse_orphans(jobs: Mapping[str, str]) -> None:
    """Raise PreflightError when jobs of an earlier run are left."""
    if jobs:
        pending, are = len(_pending(jobs)), "is" if len(jobs) == 1 else "are"
        count = f"{len(jobs) - pending} running, {pending} pending: {_some(list(jobs))}"
        raise PreflightError(
            f"{_jobs(jobs)} of an earlier run of this folder {are} still in SLURM ({count}). "
            f"To wait for those that run and go on: {command('resume')}; to cancel them: {CANCEL}"
        )


def settle_orphans(prefix: str, jobs: Mapping[str, str], cancel: bool) -> None:
    """Wait until none of `jobs`, nor any other of this folder, is left in SLURM, which may be silent.

    Pending jobs are cancelled; running ones are waited for, or cancelled too.
    """
    pending = _pending(jobs)
    running = [job for job in jobs if job not in pending]
    if pending:
        print(f"Cancelling {_jobs(pending)} of the last run that had not started.", file=sys.stderr)
    if running:
        of_them = f"{_jobs(running)} of the last run: {_some(running)}."
        wait = f"Waiting for {of_them} To cancel instead: Ctrl-C, then {CANCEL}"
        print(f"Cancelling {of_them}" if cancel else wait, file=sys.stderr)
    options = () if cancel else ("--state=PENDING",)  # which one that has just started is not
    while jobs:
        try:
            if unwanted := list(jobs) if cancel else _pending(jobs):
                slurm.ask("scancel", "--quiet", *options, *unwanted)  # quiet about those that have ended
            time.sleep(PAUSE_SECONDS)  # after the first are cancelled, which might start
            jobs = slurm.queued(prefix)
        except slurm.SlurmError as error:
            print(f"{error}. Trying again", file=sys.stderr)
            time.sleep(PAUSE_SECONDS)


def _pending(jobs: Mapping[str, str]) -> list[str]:
    return [job for job, state in jobs.items() if state == "PENDING"]


def _jobs(jobs: Collection[object]) -> str:
    return f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}"


def _some(ids: Sequence[str], shown: int = 5) -> str:
    return " ".join(ids[:shown]) + (f" and {len(ids) - shown} more" if len(ids) > shown else "")
