"""Reasons why jobs failed, a line each: `aftershock why`.

Reads the records of runs and jobs and the logs of rules and SLURM, and asks SLURM where it is there. Changes
nothing, so it may be asked while a run is at work.
"""

import dataclasses
import json
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aftershock.jobs import slurm
from aftershock.jobs.causes import Cause, Evidence, cause_of
from aftershock.jobs.record import read_jobs
from aftershock.jobs.run import Failure, Run, newest_runs
from aftershock.jobs.sizes import megabytes, printable
from aftershock.jobs.slurm import SlurmJob
from aftershock.project import command

TAIL_BYTES = 20_000
LISTED = 10
"""Jobs of one rule with one cause that are listed; `--all` lists the others too."""
FULL_BYTES = 50 * 2**20


@dataclasses.dataclass
class Job:
    """A job with all its failed attempts."""

    rule: str
    log: str
    failures: list[Failure] = dataclasses.field(default_factory=list)
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Empty where it has none."""

    @property
    def last(self) -> Failure | None:
        """Its last failure; None where the record is of an attempt after it."""
        return None if self.is_newer or not self.failures else self.failures[-1]

    @property
    def is_newer(self) -> bool:
        """True if the record is of an attempt after the last failure in the records of runs."""
        return bool(self.record) and (not self.failures or self.record["started"] > self.failures[-1].ended)

    @property
    def slurm_job(self) -> str | None:
        """The SLURM job of the last attempt."""
        return self.last.slurm_job if self.last else self.record.get("slurm_job")

    @property
    def ended(self) -> float:
        """Time of its last failure, in seconds since 1970."""
        ends = [self.failures[-1].ended] if self.failures else []
        return max([*ends, *([self.record["started"] + self.record["seconds"]] if self.record else [])])

    @property
    def is_fixed(self) -> bool:
        """True if a later attempt or run has succeeded."""
        if not self.last:
            return self.record["state"] == "done"
        made = [Path(path).stat().st_mtime for path in self.last.outputs if Path(path).exists()]
        return bool(made) and len(made) == len(self.last.outputs) and min(made) > self.last.ended

    def is_under_way(self, run: Run | None, jobs: Mapping[str, SlurmJob]) -> bool:
        """True if it is being made again, or waits for that."""
        submitted = jobs.get(self.record.get("slurm_job") or "")
        if submitted and submitted.waiting:
            return True
        if not self.last:
            return self.record["state"] == "running"
        return bool(run and run.alive and self.last.restarted)


@dataclasses.dataclass
class Findings:
    """Findings of `look`."""

    failed: list[tuple[Job, Cause]]
    run: list[str]
    """Problems of the run itself, and of its disk."""
    fixed: int = 0
    under_way: int = 0
    earlier: int = 0
    """Records of failures before a run that made all it was asked for."""
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
            facts = {"rule": job.rule, "log": job.log, "attempts": max(len(job.failures), 1)}
            print(json.dumps(facts | dataclasses.asdict(cause)))
    else:
        print("\n".join(told(found, everything)))
    return found.good


def look(everything: bool = False) -> Findings:
    """Failures in the current folder; with `everything` also those before a run that succeeded."""
    runs = _runs(everything)
    newest = runs[-1] if runs else None
    submitted = {number: log for run in runs for number, log in run.submitted.items()}
    known = slurm.known_jobs(Path.cwd()) if slurm.LOGS.is_dir() or submitted else None
    records = read_jobs(known)
    about_run = _of_the_run(newest, records)
    found = Findings([], about_run, nothing_yet=not (runs or records or about_run))
    good_until = max((run.last_time for run in runs if run.exit == 0), default=0.0)
    failed = []
    for job in _jobs(runs, records):
        if job.is_fixed:
            found.fixed += 1
        elif job.is_under_way(newest, known or {}):
            found.under_way += 1
        elif job.ended < good_until and not everything:
            found.earlier += 1
        else:
            failed.append(job)
    if known is not None:
        numbers = [job.slurm_job for job in failed if job.slurm_job and job.slurm_job not in known]
        known = known | slurm.ended_jobs(numbers)
    found.failed = [(job, cause_of(_evidence(job, newest, known or {}, submitted))) for job in failed]
    return found


def told(found: Findings, everything: bool = False) -> list[str]:
    """The findings in lines."""
    lines = [f"The run: {printable(line)}" for line in found.run]
    if found.failed:
        lines.append(_counted(len(found.failed), "failed:"))
    seen: Counter[tuple[str, str]] = Counter()
    for job, cause in found.failed:
        seen[job.rule, cause.kind] += 1
        if everything or seen[job.rule, cause.kind] <= LISTED:
            tries = f" ({len(job.failures)} attempts)" if len(job.failures) > 1 else ""
            what = printable(cause.what).rstrip(" .;")
            lines.append(f"{job.rule} {Path(job.log).stem}{tries}: {what} -> {cause.remedy}")
    every = command("why", "--all")
    for (rule, kind), n in seen.items():
        if n > LISTED and not everything:
            lines.append(f"{rule}: {n - LISTED} more with the same cause ({kind}); `{every}` lists them")
    if found.good:
        lines.append("No run has left anything here yet." if found.nothing_yet else "Nothing failed.")
    if found.under_way:
        lines.append(_counted(found.under_way, "failed before and {runs} again, or {waits} for that."))
    if found.fixed:
        lines.append(_counted(found.fixed, "failed before and {was} made later."))
    if found.earlier:
        said = f"failed in runs before one that made all it was asked for; `{every}` lists what is known."
        lines.append(_counted(found.earlier, said))
    return lines


def _counted(n: int, said: str) -> str:
    """A sentence about `n` jobs."""
    one = {"runs": "runs", "waits": "waits", "was": "was"}
    many = {"runs": "run", "waits": "wait", "was": "were"}
    return f"{n} job{'s' if n != 1 else ''} {said.format(**(one if n == 1 else many))}"


def _runs(everything: bool) -> list[Run]:
    """The runs since the last that succeeded, that one first; with `everything` all."""
    runs = []
    for run in newest_runs():
        runs.append(run)
        if run.exit == 0 and not everything:
            break
    return runs[::-1]


def _jobs(runs: Sequence[Run], records: Sequence[dict[str, Any]]) -> list[Job]:
    """All jobs with a failed attempt, or whose record says that it failed, in the order of their failures."""
    jobs: dict[str, Job] = {}
    logs = {output: record["log"] for record in records for output in record.get("outputs") or ()}
    for run in runs:
        for failure in run.failures:
            log = failure.log or next((logs[o] for o in failure.outputs if o in logs), failure.rule)
            jobs.setdefault(log, Job(failure.rule, log)).failures.append(failure)
    for record in records:
        if record["state"] in ("failed", "stopped", "gone"):
            jobs.setdefault(record["log"], Job(record["rule"], record["log"]))
        if record["log"] in jobs:
            jobs[record["log"]].record = record
    return sorted(jobs.values(), key=lambda job: job.ended)


def _evidence(
    job: Job, run: Run | None, jobs: Mapping[str, SlurmJob], submitted: Mapping[str, str]
) -> Evidence:
    """Evidence about a job."""
    last, number = job.last, job.slurm_job
    refused = last and ("ubmission failed" in last.message or "sbatch failed" in last.message)
    logs = {log for failure in job.failures for log in failure.logs if log != failure.log}
    if number and number in submitted:
        logs.add(submitted[number])
    ordered = sorted(map(Path, logs), key=lambda path: (len(path.stem), path.stem))
    of_another = last and last.slurm_job and job.record.get("slurm_job") not in (None, last.slurm_job)
    return Evidence(
        rule=job.rule,
        log=job.log,
        profile=f"{run.profile.rstrip('/')}/config.yaml" if run and run.profile else Evidence.profile,
        attempts=len(job.failures) + (job.is_newer and bool(job.failures)) or 1,
        record={} if refused or of_another else job.record,
        message=f"{last.message} {last.said}" if last else "",
        slurm_job=number,
        slurm_logs=[] if refused else [_tail(path) for path in ordered],
        slurm=jobs.get(number or "", Evidence.slurm),
        run_died=bool(run and run.killed) and not job.failures,
        log_end=_tail(Path(job.log)),
    )


def _of_the_run(run: Run | None, records: Sequence[dict[str, Any]]) -> list[str]:
    """Problems of the newest run as a whole, and of the disk."""
    lines = []
    free = shutil.disk_usage("results" if Path("results").exists() else ".").free
    if free < FULL_BYTES:
        full = f"the disk of results/ is full ({megabytes(free)} free)"
        lines.append(f"{full} -> free some space or raise the quota")
    if run is None or run.alive:
        return lines
    began, ended = (
        time.strftime("%Y-%m-%d %H:%M", time.localtime(moment)) for moment in (run.began, run.last_time)
    )
    if run.stopped:
        lines.append(f"ended by its user at {ended} -> `{command('resume')}` goes on")
    elif run.exit and not run.failures:
        said = run.error or "nothing is known of the cause"
        lines.append(
            f"started at {began} and stopped before its first job: {said} -> put right what it names"
        )
    elif run.killed:
        running = sum(record["state"] == "running" for record in records)
        left = f"; {running} of its jobs are still at work" if running else ""
        lines.append(f"its Snakemake was killed after {ended}{left} -> `{command('resume')}` goes on")
    return lines


def _tail(path: Path) -> str:
    """The end of a log; "" where it is gone."""
    try:
        with open(path, "rb") as handle:
            handle.seek(max(path.stat().st_size - TAIL_BYTES, 0))
            return handle.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
