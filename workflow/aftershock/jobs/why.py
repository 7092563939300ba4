"""Reasons why jobs failed, a line each: `aftershock why`.

Reads the records of runs and jobs and the logs of rules and SLURM. Changes nothing, so it may be asked while
a run is at work.
"""

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from aftershock.jobs.causes import Cause, cause_of
from aftershock.jobs.job import Job, read_jobs
from aftershock.jobs.run import Run, newest_runs
from aftershock.jobs.sizes import megabytes, moment, printable
from aftershock.project import command

SLURM_LOGS = Path(".snakemake/slurm_logs")
TAIL_BYTES = 20_000
LISTED = 10  # jobs of one rule with one cause that are listed; `--all` lists the others too
FULL_BYTES = 50 * 2**20
UNDER_WAY = "running or waiting again"
EARLIER = "before a run that made all it was asked for"


@dataclasses.dataclass
class Findings:
    """Findings of `look`."""

    run: list[str]  # problems of the run itself, and of its disk
    failed: list[tuple[Job, Cause]] = dataclasses.field(default_factory=list)
    past: Counter[str] = dataclasses.field(default_factory=Counter)
    """Number of jobs that failed and are no longer of interest, by the reason."""
    nothing_yet: bool = False

    @property
    def good(self) -> bool:
        return not self.failed and not self.run


def report(everything: bool, as_json: bool) -> bool:
    """Print what failed in the current folder; return True if nothing did.

    `everything` lists every job, and failures of earlier runs; `as_json` prints one object a job instead.
    """
    found = look(everything)
    if as_json:
        for job, cause in found.failed:
            facts = {"rule": job.rule, "log": job.log, "attempts": job.attempts}
            print(json.dumps(facts | dataclasses.asdict(cause)))
    else:
        print("\n".join(told(found, everything)))
    return found.good


def look(everything: bool = False) -> Findings:
    """Failures in the current folder; with `everything` also those before a run that succeeded."""
    runs = list(newest_runs())
    newest = runs[0] if runs else None
    jobs = read_jobs(newest.jobs_under_way if newest else ())
    found = Findings(list(_of_the_run(newest, jobs)))
    found.nothing_yet = not (runs or jobs or found.run)
    good_until = max((run.last_time for run in runs if run.exit == 0), default=0.0)
    failed = []
    for job in sorted((job for job in jobs if job.has_failed), key=lambda job: job.last.ended):
        if job.under_way:
            found.past[UNDER_WAY] += 1
        elif job.last.ended < good_until and not everything:
            found.past[EARLIER] += 1
        else:
            failed.append(job)
    _gather(failed, newest)
    found.failed = [(job, cause_of(job)) for job in failed]
    return found


def told(found: Findings, everything: bool = False) -> list[str]:
    """The findings in lines."""
    lines = [f"The run: {printable(line)}" for line in found.run]
    if found.failed:
        lines.append(f"{len(found.failed)} job{'s' if len(found.failed) > 1 else ''} failed:")
    seen: Counter[tuple[str, str]] = Counter()
    for job, cause in found.failed:
        seen[job.rule, cause.kind] += 1
        if everything or seen[job.rule, cause.kind] <= LISTED:
            tries = f" ({job.attempts} attempts)" if job.attempts > 1 else ""
            lines.append(f"{job.name}{tries}: {printable(cause.what).rstrip(' .;')} -> {cause.remedy}")
    every = command("why", "--all")
    for (rule, kind), n in seen.items():
        if n > LISTED and not everything:
            lines.append(f"{rule}: {n - LISTED} more with the same cause ({kind}); `{every}` lists them")
    if found.good:
        lines.append("No run has left anything here yet." if found.nothing_yet else "Nothing failed.")
    for why, n in found.past.items():
        lines.append(f"Failed before: {n}, {why}" + (f"; `{every}` lists them" if why == EARLIER else ""))
    return lines


def _gather(failed: Sequence[Job], run: Run | None) -> None:
    """Note what logs and the newest run tell of jobs."""
    logs = {path.stem: path for path in SLURM_LOGS.rglob("*.log")} if failed else {}
    for job in failed:
        numbers = dict.fromkeys([*(one.slurm_job for one in job.failures), job.last.slurm_job])
        ends = [_tail(logs[number]) for number in numbers if number in logs]
        job.slurm_logs, job.slurm_log = "\n".join(ends), ends[-1] if ends else ""
        job.log_end = _tail(Path(job.log))
        job.profile = run.profile if run and run.profile else job.profile
        if job.state == "gone" and run and run.state == "killed" and not (job.last.slurm_job or job.failures):
            job.record["state"] = "gone with its run"


def _of_the_run(run: Run | None, jobs: Sequence[Job]) -> Iterator[str]:
    """Yield the problems of the newest run as a whole, and of the disk."""
    free = shutil.disk_usage("results" if Path("results").exists() else ".").free
    if free < FULL_BYTES:
        yield f"the disk of results/ is full ({megabytes(free)} free) -> free some space or raise the quota"
    if run is None:
        return
    began, ended = (moment(at) for at in (run.began, run.last_time))
    resume = f"`{command('resume')}` goes on"
    if run.state == "stopped":
        yield f"ended by its user at {ended} -> {resume}"
    elif run.state == "killed":
        running = sum(job.state == "running" for job in jobs)
        left = f"; {running} of its jobs are still at work" if running else ""
        yield f"its Snakemake was killed after {ended}{left} -> {resume}"
    elif run.exit and (run.error or not run.failed):
        first = "" if run.begun else " before its first job"
        error = run.error or "nothing is known of the cause"
        yield f"started at {began} and stopped{first}: {error} -> put right what it names"


def _tail(path: Path) -> str:
    """The end of a log; "" where it is gone."""
    try:
        with open(path, "rb") as handle:
            handle.seek(max(path.stat().st_size - TAIL_BYTES, 0))
            return handle.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
