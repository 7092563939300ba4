"""Reasons why jobs failed, a line each: `aftershock why`.

Reads the records of jobs, the logs of rules, Snakemake and SLURM, and asks SLURM where it is there. Changes
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

from aftershock.jobs import liveness, slurm_jobs
from aftershock.jobs.causes import cause_of
from aftershock.jobs.evidence import Cause, Evidence
from aftershock.jobs.orphans import LastRun
from aftershock.jobs.sizes import megabytes, printable
from aftershock.jobs.slurm_jobs import SlurmJob
from aftershock.jobs.snakemake_log import Failure, RunLog, newest_runs
from aftershock.project import command

SLURM_LOGS = Path(".snakemake/slurm_logs")
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
    record: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        return f"{self.rule} {Path(self.log).stem}"

    @property
    def ended(self) -> float:
        """Time of its last failure, in seconds since 1970."""
        last = self.failures[-1].ended if self.failures else 0.0
        record = self.record
        return max(last, record["started"] + record["seconds"]) if record and not self.is_fixed() else last

    def is_newer(self) -> bool:
        """True if the record is of an attempt after the last failure in Snakemake's logs."""
        if not self.record:
            return False
        return not self.failures or self.record["started"] > self.failures[-1].ended

    def is_fixed(self) -> bool:
        """True if a later attempt or run has succeeded."""
        if self.record and self.is_newer():
            return self.record["state"] == "done"
        outputs = [Path(path) for path in self.failures[-1].outputs] if self.failures else []
        times = [path.stat().st_mtime for path in outputs if path.exists()]
        return bool(outputs) and len(times) == len(outputs) and min(times) > self.failures[-1].ended

    def is_under_way(self, run: LastRun | None, jobs: dict[str, SlurmJob]) -> bool:
        """True if it is being made again, or waits for that."""
        number = self.record.get("slurm_job") if self.record else None
        if number in jobs and jobs[number].waiting:
            return True
        if self.record and self.is_newer():
            return self.record["state"] == "running"
        return bool(run and run.alive and self.failures and self.failures[-1].restarted)


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
    runs, info = _runs(everything), liveness.newest_run()
    known = slurm_jobs.known_jobs(Path.cwd()) if _has_slurm(runs) else None
    records = liveness.read_jobs(known)
    jobs = _jobs(runs, records)
    told_of_run = _of_the_run(runs, info, records)
    found = Findings([], told_of_run, nothing_yet=not (runs or records or told_of_run))
    good_until = max((run.last_time for run in runs if run.complete), default=0.0)
    failed = []
    for job in jobs:
        if job.is_fixed():
            found.fixed += 1
        elif job.is_under_way(info, known or {}):
            found.under_way += 1
        elif job.ended < good_until and not everything:
            found.earlier += 1
        else:
            failed.append(job)
    unknown = [number for job in failed if (number := _number(job)) and number not in (known or {})]
    known = (known or {}) | (slurm_jobs.ended_jobs(unknown) if known is not None else {})
    died = bool(runs) and _died(runs[-1], info)
    logs = {number: Path(path) for run in runs for number, path in run.submitted.items()}
    found.failed = [(job, cause_of(_evidence(job, info, known, logs, died))) for job in failed]
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
            lines.append(f"{job.name}{tries}: {what} -> {cause.remedy}")
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


def _runs(everything: bool) -> list[RunLog]:
    """The runs since the last complete one, that one first; with `everything` all."""
    runs = []
    for run in newest_runs():
        runs.append(run)
        if run.complete and not everything:
            break
    return runs[::-1]


def _jobs(runs: Sequence[RunLog], records: Sequence[dict[str, Any]]) -> list[Job]:
    """All jobs with a failed attempt, or whose record says that it failed, in the order of their failures."""
    jobs: dict[str, Job] = {}
    logs = {output: record["log"] for record in records for output in record.get("outputs") or ()}
    for run in runs:
        for failure in run.failures:
            log = failure.log or next((logs[o] for o in failure.outputs if o in logs), failure.rule)
            jobs.setdefault(log, Job(failure.rule, log)).failures.append(failure)
    for record in records:
        if record["log"] in jobs:
            jobs[record["log"]].record = record
        elif record["state"] in ("failed", "stopped", "gone"):
            jobs[record["log"]] = Job(record["rule"], record["log"], record=record)
    return sorted(jobs.values(), key=lambda job: job.ended)


def _evidence(
    job: Job,
    info: LastRun | None,
    jobs: Mapping[str, SlurmJob],
    slurm_logs: Mapping[str, Path],
    died: bool,
) -> Evidence:
    """Evidence about a job."""
    last = job.failures[-1] if job.failures and not job.is_newer() else None
    number = _number(job)
    submitted = last is None or "ubmission failed" not in last.message and "sbatch failed" not in last.message
    logs = {Path(failure.slurm_log) for failure in job.failures if failure.slurm_log}
    if number is not None and number in slurm_logs:
        logs.add(slurm_logs[number])
    in_order = sorted(logs, key=lambda path: (len(path.stem), path.stem))
    profile = info.profile if info else ""
    return Evidence(
        rule=job.rule,
        log=job.log,
        profile=f"{profile.rstrip('/')}/config.yaml" if profile else Evidence.profile,
        attempts=len(job.failures) + (job.is_newer() and bool(job.failures)) or 1,
        record=(job.record if submitted and _fits(job, last) else None) or {},
        message=f"{last.message} {last.said}" if last else "",
        slurm_job=number,
        slurm_logs=[_tail(path) for path in in_order] if submitted else [],
        slurm=jobs.get(number or "", slurm_jobs.UNKNOWN),
        run_died=died and not job.failures,
        log_end=_tail(Path(job.log)),
    )


def _fits(job: Job, last: Failure | None) -> bool:
    """True if the record is of the attempt that failed last."""
    if job.record is None or last is None or not last.slurm_job or not job.record.get("slurm_job"):
        return True
    return job.record["slurm_job"] == last.slurm_job


def _number(job: Job) -> str | None:
    """The SLURM job of the last attempt."""
    if job.record and job.is_newer():
        return job.record.get("slurm_job")
    return job.failures[-1].slurm_job if job.failures else None


def _of_the_run(runs: Sequence[RunLog], info: LastRun | None, records: Sequence[dict[str, Any]]) -> list[str]:
    """Problems of the newest run as a whole, and of the disk."""
    lines = []
    free = shutil.disk_usage(Path("results") if Path("results").exists() else Path()).free
    if free < FULL_BYTES:
        lines.append(
            f"the disk of results/ is full ({megabytes(free)} free) -> free some space or raise the quota"
        )
    if info and info.exit and (not runs or runs[-1].last_time < info.began):
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(info.began))
        said = info.said or "nothing is known of the cause"
        lines.append(f"started at {at} and stopped before its first job: {said} -> put right what it names")
        return lines
    if not runs or (info and info.alive):
        return lines
    run = runs[-1]
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.last_time))
    if run.error and not run.failures:
        lines.append(f"stopped at {at} before its first job: {run.error} -> put right what it names")
    elif run.stopped:
        lines.append(f"ended by its user at {at} -> `{command('resume')}` goes on")
    elif _died(run, info):
        running = sum(record["state"] == "running" for record in records)
        left = f"; {running} of its jobs are still at work" if running else ""
        lines.append(f"its Snakemake was killed after {at}{left} -> `{command('resume')}` goes on")
    return lines


def _died(run: RunLog, info: LastRun | None) -> bool:
    """True if a run ended without a message."""
    silent = not run.ended and not run.complete and not run.error and not run.stopped
    return silent and (info is None or info.alive is False)


def _has_slurm(runs: Sequence[RunLog]) -> bool:
    return SLURM_LOGS.is_dir() or any(run.submitted for run in runs)


def _tail(path: Path) -> str:
    """The end of a log; "" where it is gone."""
    try:
        with open(path, "rb") as handle:
            handle.seek(max(path.stat().st_size - TAIL_BYTES, 0))
            return handle.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _counted(n: int, said: str) -> str:
    """A sentence about `n` jobs."""
    one = {"runs": "runs", "waits": "waits", "was": "was"}
    many = {"runs": "run", "waits": "wait", "was": "were"}
    return f"{n} job{'s' if n != 1 else ''} {said.format(**(one if n == 1 else many))}"
